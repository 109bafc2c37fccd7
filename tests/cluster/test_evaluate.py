"""An evaluation on a Ray cluster has the numbers of one alone."""

import json
from pathlib import Path

import pytest

from cluster.commands import EVALUATE
from cluster.evaluate import OnRay
from metatrain.build import build_generator
from metatrain.cli import run
from metatrain.commands import COMMANDS
from metatrain.errors import UserError
from metatrain.evaluation.episode_list import list_episodes
from metatrain.evaluation.work import Work, system_at
from metatrain.model import Model, save_model
from metatrain.store import EpisodeStore


def numbers(folder):
    """All that was measured but time."""
    values = json.loads(Path(folder, "evaluation.json").read_text())
    for result in values["results"].values():
        for moment in result["curve"].values():
            del moment["seconds"]
    return values


def test_workers_of_a_cluster_get_the_numbers_of_one_process(
    config, tmp_path, monkeypatch, ray_head
):
    monkeypatch.chdir(tmp_path)  # paths are relative to where the workers are not
    parameters = {n: p.detach() for n, p in build_generator(config).named_parameters()}
    save_model(Model(config, parameters, step=3), "run/model.safetensors")
    few = ["--split", "train", "--tasks", "3", "--seeds", "1", "--metric", "m", "--workers"]
    assert run("metatrain", COMMANDS, ["evaluate", "run", *few, "1", "--out", "here"]) == 0
    above = {"evaluate": EVALUATE}
    assert run("cluster", above, ["evaluate", "run", *few, "2", "--out", "there"]) == 0
    assert numbers("there") == numbers("here")
    assert len(list(Path("there/work").iterdir())) == 3 * 2

    system, _ = system_at("run")
    episode = list_episodes(EpisodeStore(config.data.path), "train").episodes[0]
    work = Work(system, config.data.path, "0" * 64, "train", episode, 3, "there/work")
    with pytest.raises(UserError, match="was packed again while it was evaluated on") as error:
        list(OnRay(1)([work]))
    assert str(error.value).count("\n") == 0, "a sentence, without a traceback of the worker"

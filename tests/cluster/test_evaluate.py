"""An evaluation on a Ray cluster gives the numbers of one process."""

import argparse
import json
from pathlib import Path

from cluster.run.evaluation_pool import EvaluationPool
from metatrain.cli.evaluate import add_arguments, evaluate
from metatrain.evaluation.running.runner import LocalRunner
from metatrain.model.build import build_theta
from metatrain.model.model import Model


def numbers(folder):
    """Return all numbers of an evaluation except the times."""
    values = json.loads(Path(folder, "evaluation.json").read_text())
    for result in values["results"].values():
        for moment in result["curve"].values():
            del moment["seconds"]
    return values


def test_workers_of_ray_get_the_numbers_of_one_process(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # paths are relative to where the workers are not
    parameters = {n: p.detach() for n, p in build_theta(config).named().items()}
    Model(config, parameters, step=3).save("run/model.safetensors")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = ["run", "--split", "train", "--tasks", "3", "--seeds", "1", "--metric", "m"]
    options += ["--trust"]
    evaluate(parser.parse_args([*options, "--out", "here"]), LocalRunner(1))
    evaluate(parser.parse_args([*options, "--out", "there"]), EvaluationPool(2))
    assert numbers("there") == numbers("here")
    # Three tasks are one job: two systems, two jobs, two workers.
    assert len(list(Path("there/work").iterdir())) == 2

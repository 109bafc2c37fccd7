"""Samples of another system are scored like those of a model."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_models import metatrain

from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import decode
from metatrain.evaluation.episodes.episode_list import (
    read_list,
)
from metatrain.evaluation.results import read_evaluation
from metatrain.evaluation.scores.baselines import COPY
from metatrain.metrics.precomputed import pixel_hash


@pytest.fixture(scope="module")
def exported(places, packed):
    """The input of another system, which copies its support."""
    folder = places / "other-system"
    options = ["--split", "train", "--tasks", 3, "--seeds", 2, "--shots", 4]
    assert metatrain("episodes", packed, *options, "--export", folder) == 0
    for support in folder.glob("seed-*/*/support"):
        for file in support.iterdir():
            shutil.copy(file, support.parent / file.name)
    return folder


def score_samples(exported, packed, places, *more):
    options = ["--split", "train", "--tasks", 3, "--seeds", 2, "--shots", 4, "--data", packed]
    metric = ["--metric", places / "metric.safetensors"]
    return metatrain("evaluate", "--samples", exported, *options, *metric, *more)


def test_what_another_system_drew_is_scored_as_ours_is(exported, packed, places):
    assert score_samples(exported, packed, places) == 0
    result = read_evaluation(f"{exported}/evaluation")
    copies = result.results[COPY].scores
    assert result.results["samples other-system"].scores == copies
    whole = read_list(f"{exported}/episodes.json", EpisodeStore(packed))
    assert (whole.sha256, len(whole.tasks)) == (result.episodes.sha256, 16)


def test_the_nearest_copies_are_kept_beside_what_was_given(exported, packed, places, evaluated):
    assert score_samples(exported, packed, places) == 0
    result = read_evaluation(f"{exported}/evaluation").near_copies
    assert len(result) == 12
    assert {(o.ratio, o.memorised, o.psnr) for o in result} == {(0, True, None)}
    for kept in (exported / "evaluation" / "near-copies").iterdir():
        assert (kept / "drawn.png").read_bytes() == (kept / "given.png").read_bytes()
    ratios = [o.ratio for o in read_evaluation(str(evaluated)).near_copies]
    assert ratios == sorted(ratios)
    assert ratios[0] > 0


def test_samples_that_cannot_be_scored_are_named(exported, packed, places, tmp_path, capsys):
    shutil.copytree(exported, tmp_path / "s")
    missing = tmp_path / "s" / "seed-1" / "0002" / "3.png"
    missing.unlink()
    assert score_samples(tmp_path / "s", packed, places) == 1
    assert "lacks 1 of 24 images, the first of them seed-1/0002/3.png" in capsys.readouterr().err
    Image.new("L", (20, 20)).save(missing)
    assert score_samples(tmp_path / "s", packed, places) == 1
    assert "is 20 x 20 pixels, and others are 16 x 16" in capsys.readouterr().err
    assert score_samples(tmp_path / "none", packed, places) == 1
    assert "there are no samples in" in capsys.readouterr().err


def test_features_of_another_program_are_one_more_space(exported, packed, places, tmp_path):
    assert score_samples(exported, packed, places, "--export", tmp_path / "images") == 0
    files = sorted((tmp_path / "images").iterdir())
    images = decode([file.read_bytes() for file in files], 16, 1)
    names = [pixel_hash(image).hex() for image in images]
    assert [file.stem for file in files] == names
    hashes = torch.from_numpy(np.stack([np.frombuffer(bytes.fromhex(n), np.uint8) for n in names]))
    table = {"sha256": hashes, "features": images.flatten(1)}
    save_file(table, tmp_path / "table", {"name": "theirs"})
    assert score_samples(exported, packed, places, "--features", tmp_path / "table") == 0
    scores = read_evaluation(f"{exported}/evaluation").result.scores
    assert scores["theirs"] == scores["pixels"]

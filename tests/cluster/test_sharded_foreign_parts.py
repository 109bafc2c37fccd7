"""A game, a frozen layer, a buffer and a codec of another package, under every way of sharding."""

import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_sharding import SGD, Case, work
from workers import run_workers

# A file of weights that the network takes as they are.
FILTER = Path(tempfile.mkdtemp()) / "filter.safetensors"
save_file({"weight": torch.linspace(-0.2, 0.3, 9).reshape(1, 1, 3, 3)}, FILTER)

GAME = (
    *SGD,
    "generator.name=players",
    f"generator.filter.path={FILTER}",
    "objective.name=tug",
    "codec.name=halved",
)
STAGES = ("0", "1", "2", "gathered", "sharded")
CASES = [
    *(
        Case(learner, way, GAME)
        for learner in ("reptile", "fomaml", "joint", "admm")
        for way in STAGES
    ),
    *(Case(learner, "gathered", GAME) for learner in ("maml", "halfway")),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    run_workers(2, folder, work, str(folder), CASES)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.learner}-{case.way}")
def test_parts_of_another_package_end_where_one_plain_loop_does(outcomes, case):
    outcome = load_file(outcomes / str(CASES.index(case)))
    assert not any("filter" in name or "grain" in name for name in outcome)
    case.assert_ends_as_plain_loop(outcome)

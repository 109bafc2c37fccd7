"""The leaderboard compares systems with equal training compute."""

from pathlib import Path

import pytest

from benchmarks.leaderboard.board import read_board, trainings
from metatrain.base.errors import UserError

BOARD = str(Path(__file__).parents[2] / "benchmarks" / "leaderboard" / "board.yaml")
SMALL = {"generator.width": 8}
TWO = {
    "joint": {**SMALL, "learner.name": "joint", "meta.batch": 4},
    "slow": {**SMALL, "learner.name": "fomaml"},
}


def test_all_trainings_have_the_operations_of_the_board(tmp_path):
    board = read_board(BOARD, {"trained": TWO, "ensembles": {}, "flops": 1e11})
    joint, slow = trainings(board, str(tmp_path))
    assert joint.flops == pytest.approx(1e11, rel=0.05)
    assert slow.flops == pytest.approx(1e11, rel=0.05)
    assert joint.config.meta.steps * joint.config.meta.batch > 2 * slow.config.meta.steps
    assert joint.config.run.url == f"{tmp_path}/joint"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"ensembles": {"two": ["raptile"]}}, "no 'raptile' under trained"),
        ({"trained": {}}, "no 'joint' under trained"),
        ({"flopps": 1}, "flopps"),
    ],
)
def test_a_board_that_cannot_be_used_is_refused_in_a_sentence(given, sentence):
    with pytest.raises(UserError, match=sentence):
        read_board(BOARD, given)

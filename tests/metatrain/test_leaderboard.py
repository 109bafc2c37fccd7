"""The leaderboard compares systems with equal training compute."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.leaderboard.board import mixture_trainings, part_of, read_board, trainings
from benchmarks.leaderboard.domains import pack_domains
from metatrain.api import pack
from metatrain.base.errors import UserError
from metatrain.data.packed.store import EpisodeStore

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


def test_a_mixture_has_the_operations_of_one_training_and_starts_its_members_together(tmp_path):
    board = read_board(BOARD, {"flops": 1e12})
    start, *tuned = mixture_trainings(board, "gan-mixture", str(tmp_path))
    assert start.flops + sum(t.flops for t in tuned) == pytest.approx(1e12, rel=0.05)
    assert {t.config.run.init for t in tuned} == {start.config.run.url}
    assert len({t.config.data.path for t in (start, *tuned)}) == 1 + len(tuned)


def test_a_part_of_a_board_keeps_what_it_is_compared_with():
    part = part_of(read_board(BOARD, {}), ["figr", "joint-and-reptile"])
    assert set(part.trained) == {"joint", "reptile-tuned", "figr"}
    assert set(part.ensembles) == {"joint-and-reptile"}
    assert not part.mixtures
    with pytest.raises(UserError, match="no system 'gigr'"):
        part_of(part, ["gigr"])


def test_domains_are_of_training_tasks_that_look_alike(tmp_path):
    """Stripes across and stripes along are two domains; no test task is in either."""
    stream = np.random.default_rng(0)

    def of(axis):
        image = np.zeros((16, 16), np.uint8)
        np.moveaxis(image, axis, 0)[stream.integers(4) :: 4] = 255
        return image + stream.integers(0, 40, (16, 16), dtype=np.uint8) * (image == 0)

    train = [(f"{axis}{task}", of(axis)) for axis in (0, 1) for task in range(4) for _ in range(4)]
    data = str(tmp_path / "data")
    pack({"train": train, "test": [("new", of(0)) for _ in range(4)]}, data)
    first, second = pack_domains(data, 2, size=16, channels=1)
    names = [{task.name for task in EpisodeStore(url).tasks("train")} for url in (first, second)]
    assert sorted(map(sorted, names)) == [[f"{a}{t}" for t in range(4)] for a in (0, 1)]


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

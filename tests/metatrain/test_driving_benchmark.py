"""The benchmark of driving on made signs, a step of everything."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.driving.systems import SYSTEMS, Bench, read_signs
from benchmarks.paired import measured, table
from metatrain.base.errors import UserError


@pytest.fixture
def signs(tmp_path):
    """Six classes of 12 photos, and two of 8."""
    stream = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "signs" / f"{number:02}"
        folder.mkdir(parents=True)
        for photo in range(8 if number in (2, 5) else 12):
            pixels = stream.integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{photo}.png")
    return tmp_path / "signs"


@pytest.mark.long
def test_rare_classes_are_held_out_and_every_system_is_measured(signs, tmp_path):
    bench = Bench(
        out=tmp_path / "out",
        signs=read_signs(signs, 8),
        rare=2,
        shots=5,
        generated=2,
        classifier_steps=2,
        meta_steps=1,
        adapt_steps=1,
    )
    assert list(bench.held_out) == ["02", "05"]
    given, rest = bench.divided(0)
    assert [len(photos) for photos in (*given.values(), *rest.values())] == [5, 5, 3, 3]
    results = measured(tmp_path / "out", SYSTEMS, 1, {"rare": 2}, bench.measure)
    assert all(set(scores[0]) == {"02", "05"} for scores in results.values())
    assert all(f"| {system} |" in table(results) for system in SYSTEMS)


def test_too_few_classes_are_refused(signs):
    with pytest.raises(UserError, match="has 8 folders of photos; give one for each of 9"):
        read_signs(signs, 9)

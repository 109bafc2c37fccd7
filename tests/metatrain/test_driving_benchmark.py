"""The benchmark of driving on made signs, a step of everything."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.driving.systems import Signs, read_signs
from benchmarks.few_real import SYSTEMS, picture, table
from benchmarks.paired import measured
from metatrain.base.errors import UserError


@pytest.fixture
def signs(tmp_path):
    """Six classes of 15 photos, two of 12 and one of 8."""
    stream = np.random.default_rng(0)
    for number in range(9):
        folder = tmp_path / "signs" / f"{number:02}"
        folder.mkdir(parents=True)
        for photo in range({2: 12, 5: 12, 8: 8}.get(number, 15)):
            pixels = stream.integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{photo}.png")
    return tmp_path / "signs"


@pytest.mark.long
def test_rare_classes_are_held_out_and_every_system_is_measured(signs, tmp_path):
    bench = Signs(
        out=tmp_path / "out",
        signs=read_signs(signs, 8),
        rare=2,
        shots=5,
        generated=2,
        classifier_steps=2,
        width=8,
        meta_steps=1,
        adapt_steps=1,
    )
    assert list(bench.held_out) == ["02", "05"]
    given, rest = bench.divided(0)
    assert [len(photos) for photos in (*given.values(), *rest.values())] == [5, 5, 7, 7]
    results = measured(tmp_path / "out", SYSTEMS, 1, {"rare": 2}, bench.measure)
    assert all(set(scores[0]) == {"02", "05"} for scores in results.values())
    assert all(f"| {system} |" in table(results) for system in SYSTEMS)
    picture(bench.rows(), tmp_path / "out" / "generated.png")
    with Image.open(tmp_path / "out" / "generated.png") as sheet:
        assert sheet.size[1] == 2 * 52


def test_a_black_margin_is_no_part_of_a_sign(tmp_path):
    sign = Image.new("RGB", (25, 26), (200, 30, 30))
    padded = Image.new("RGB", (64, 60))
    padded.paste(sign)
    (tmp_path / "signs" / "00").mkdir(parents=True)
    for number, photo in enumerate((sign, padded, Image.new("RGB", (20, 20)))):
        photo.save(tmp_path / "signs" / "00" / f"{number}.png")
    whole, cut, black = read_signs(tmp_path / "signs", 1)["00"]
    assert whole.equal(cut) and not black.any()


def test_too_few_classes_are_refused(signs):
    with pytest.raises(UserError, match="has 9 folders of photos; give one for each of 10"):
        read_signs(signs, 10)
    with pytest.raises(UserError, match=r"there is no folder .*nowhere; give one"):
        read_signs(signs / "nowhere", 10)

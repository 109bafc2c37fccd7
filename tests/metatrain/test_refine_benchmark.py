"""The benchmark of refinement on made letters, a step or two of everything."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.paired import measured, table
from benchmarks.refinement.letters import SIDE, Letters, handwritten
from benchmarks.refinement.pen import middle_lines, redrawn
from benchmarks.refinement.systems import SYSTEMS, Bench
from metatrain.base.errors import UserError


def made(count, seed):
    stream = np.random.default_rng(seed)
    images = stream.integers(0, 255, (count, SIDE, SIDE), dtype=np.uint8)
    return Letters(images, np.arange(count) % 26)


def test_every_system_is_measured_once_and_on_letters_that_it_was_not_given(tmp_path):
    bench = Bench(
        out=tmp_path,
        simulated=made(12, 0),
        training={f"p{n}": made(12, 1 + n) for n in range(4)},
        test={"new": made(14, 9)},
        shots=5,
        classifier_steps=2,
        meta_steps=1,
        alone_steps=1,
    )
    given, rest = bench._divided("new", 0, 0)
    assert len(given.labels) == 5
    assert sorted([*given.labels, *rest.labels]) == list(range(14))
    results = measured(tmp_path, SYSTEMS, 1, {"shots": 5}, bench.measure)
    assert all(0 <= scores[0]["new"] <= 1 for scores in results.values())
    # A second look measures nothing.
    assert measured(tmp_path, SYSTEMS, 1, {"shots": 5}, lambda *_: {}) == results
    assert all(f"| {system} |" in table(results) for system in SYSTEMS)
    with pytest.raises(UserError, match="other settings"):
        measured(tmp_path, SYSTEMS, 1, {"shots": 6}, bench.measure)


def test_a_pen_redraws_letters_of_any_weight_with_one_stroke():
    bars = np.full((2, SIDE, SIDE), 255, np.uint8)
    bars[0, 4:24, 13:15] = 0
    bars[1, 4:24, 9:19] = 0
    lines = middle_lines(bars < 128)
    assert (lines.sum(axis=2) <= 1).all()
    assert all(line.sum() > 8 for line in lines)
    assert lines[1, 10:18, 13:15].any(axis=1).all()
    widths = (redrawn(bars) < 128).sum(axis=2)[:, 10:18]
    assert (widths == 3).all()


def test_the_table_pairs_systems_by_seed():
    results = {system: [{"a": 0.5, "b": 0.3}, {"a": 0.6, "b": 0.4}] for system in SYSTEMS}
    results["real labels"] = [{"a": 0.7, "b": 0.5}, {"a": 0.8, "b": 0.6}]
    assert "| real labels | 65.0 ± 5.0 | 20.0 ± 0.0 |" in table(results)


def test_letters_are_read_by_person_with_their_ink_in_the_middle(tmp_path):
    for letter in (1, 26):
        (tmp_path / f"character{letter:02}").mkdir()
        for person in ("01", "02"):
            image = np.full((105, 105), 255, np.uint8)
            image[10:60, 20:40] = 0
            Image.fromarray(image).save(tmp_path / f"character{letter:02}/0001_{person}.png")
    persons = handwritten(tmp_path)
    assert list(persons) == ["01", "02"]
    assert persons["01"].labels.tolist() == [0, 25]
    rows, columns = np.nonzero(persons["01"].images[0] < 128)
    assert (rows.min(), rows.max()) == (3, 24)
    assert abs(columns.min() + columns.max() - (SIDE - 1)) <= 1
    with pytest.raises(UserError, match="has no character01"):
        handwritten(tmp_path / "nowhere")

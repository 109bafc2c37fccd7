"""Mutated files beside a run: its lease, its evaluation and what pages show of it."""

import json
from pathlib import Path

import pytest
from evaluated_run import make_run
from fuzzing import FEWER, FEWEST, FUZZ, TIMEOUT, altered, bounds, damaged, outcome
from hypothesis import given
from hypothesis import strategies as st

from metatrain.evaluation.validation import (
    ValidationResult,
    ValidationScores,
    read_validations,
    write_validations,
)
from metatrain.report.run import write_report
from metatrain.storage.lease_holder import parse_holder, this_holder

pytestmark = TIMEOUT

SCORES = ValidationScores(k=0, loss=1.0, own_task=0.5, similarity=0.5, kid=0.0, task_kid=0.0)


def mutated(data: st.DataObject, whole: bytes) -> bytes:
    """Draw other bytes in the place of a JSON file's."""
    alter = altered(json.loads(whole)).map(lambda values: json.dumps(values).encode())
    return data.draw(st.one_of(alter, alter, damaged(whole)))


@given(data=st.data())
@FUZZ
def test_a_lease(data):
    content = mutated(data, this_holder("trains").encode())
    with bounds():
        holder = parse_holder(content)
        if holder is not None:
            assert str(holder).isprintable()
            assert holder.process.is_alive in (True, False, None)
            assert parse_holder(holder.renewed().encode()) == holder.renewed()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    """The folder of an evaluated run."""
    return make_run(str(tmp_path_factory.mktemp("fuzz") / "run"), ["a", "b"])


@given(data=st.data())
@FEWER
def test_the_numbers_of_an_evaluation(run, data):
    file = Path(run, "evaluation", "evaluation.json")
    whole = file.read_bytes()
    try:
        file.write_bytes(mutated(data, whole))
        outcome(lambda: write_report(run))
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("place", ["scores.safetensors", "strips/00/strip.png"])
@given(data=st.data())
@FEWEST
def test_the_scores_and_pictures_of_an_evaluation(run, place, data):
    file = Path(run, "evaluation", place)
    whole = file.read_bytes()
    try:
        file.write_bytes(data.draw(damaged(whole)))
        outcome(lambda: write_report(run))
    finally:
        file.write_bytes(whole)


def without(values: dict, *keys: str) -> dict:
    """Copy `values` without the leaf or branch at `keys`."""
    result = json.loads(json.dumps(values))
    *path, last = keys
    inner = result
    for key in path:
        inner = inner[key]
    del inner[last]
    return result


def test_an_evaluation_that_lacks_any_part_is_refused_or_shown(run):
    file = Path(run, "evaluation", "evaluation.json")
    whole = file.read_bytes()
    values = json.loads(whole)
    systems = [("results", name) for name in values["results"]]
    parts = [("results", "small", part) for part in values["results"]["small"]]
    curve = [("results", "small", "curve", n) for n in values["results"]["small"]["curve"]]
    for keys in [*((key,) for key in values), *systems, *parts, *curve]:
        try:
            file.write_text(json.dumps(without(values, *keys)))
            outcome(lambda: write_report(run))
        finally:
            file.write_bytes(whole)
    file.write_text("[" * 100_000)
    try:
        outcome(lambda: write_report(run))
    finally:
        file.write_bytes(whole)


@given(data=st.data())
@FUZZ
def test_the_validations_of_a_run(tmp_path_factory, data):
    folder = str(tmp_path_factory.mktemp("fuzz"))
    write_validations(folder, [ValidationResult(s, [SCORES, SCORES]) for s in (5, 10)])
    file = Path(folder, "validation.json")
    file.write_bytes(mutated(data, file.read_bytes()))

    def read() -> None:
        for result in read_validations(folder):
            assert result.step >= 0
            assert all(point.cost("loss") is not None for point in result.curve)

    outcome(read)

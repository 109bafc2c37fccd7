"""Mutated files of a sweep: its records are read, or refused in a sentence."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from fuzzing import FEWER, TIMEOUT, altered, damaged, outcome
from hypothesis import given
from hypothesis import strategies as st

from metatrain.base.errors import UserError
from tuning.config import load_sweep
from tuning.ledger import SweepLedger, TrialReport, read_records

pytestmark = TIMEOUT

SWEEP = """
dir: {dir}
name: s
space:
  inner.lr: {{loguniform: [1.0e-5, 1.0]}}
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep with one finished trial."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "sweep.yaml").write_text(SWEEP.format(dir=folder))
    sweep = load_sweep(str(folder / "sweep.yaml"))
    ledger = SweepLedger(sweep)
    record = ledger.add({"inner.lr": 0.1})
    record.state = "finished"
    record.reports.append(TrialReport(1000, 0.1234, 8, 0.25, 60.0, 0, {8: 0.1234}))
    ledger.write(record)
    return sweep


@pytest.mark.parametrize("name", ["trials/000.json", "sweep.json", "spent.json"])
@given(data=st.data())
@FEWER
def test_a_file_of_a_sweep(sweep, name, data):
    file = Path(sweep.settings.url, name)
    whole = file.read_bytes()
    values = {"": json.loads(whole)}
    alter = altered(values).map(lambda v: json.dumps(v.get("", v)).encode())
    try:
        file.write_bytes(data.draw(st.one_of(alter, alter, damaged(whole))))

        def read() -> None:
            ledger = SweepLedger(sweep)
            assert ledger.seconds() >= 0
            for record in ledger.records.values():
                json.dumps(asdict(record))
                assert ledger.config(record).run.url.startswith(sweep.settings.url)
            assert ledger.best() is None or ledger.tied()

        outcome(read)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("run", ["../../victim", "/etc", "a/b", "", "..", "a\x1b[2J"])
def test_a_trial_whose_run_lies_elsewhere_is_refused(sweep, run):
    file = Path(sweep.settings.url, "trials", "000.json")
    whole = file.read_bytes()
    try:
        file.write_text(json.dumps(json.loads(whole) | {"run": run}))
        with pytest.raises(UserError, match=r"000\.json is damaged"):
            read_records(sweep.settings.url)
        file.write_text(json.dumps(json.loads(whole) | {"number": 7}))
        with pytest.raises(UserError, match="it is the record of trial 007"):
            read_records(sweep.settings.url)
    finally:
        file.write_bytes(whole)

"""The table of trials: it fits any terminal, and logs each event once elsewhere."""

import io
import queue
import re

import pytest
from rich.cells import cell_len

from cluster.run.messages import Message
from tuning.config import load_sweep
from tuning.ledger import SweepLedger, TrialReport
from tuning.recorder import WorkerMessages
from tuning.trial_table import TrialTable

SWEEP = """
dir: {dir}
space:
  inner.lr: {{loguniform: [1.0e-5, 1.0]}}
  inner.scope.name: {{choice: [all, film]}}
"""


class Terminal(io.StringIO):
    """A stream that is a terminal, as far as anybody asks."""

    def isatty(self):
        return True


@pytest.fixture
def messages():
    """The messages of the workers of trial 1."""
    sent = queue.Queue()
    sent.put((1, Message("line", numbers={"step": 30.0, "loss": 0.5, "left": 90.0})))
    return WorkerMessages(sent)


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.format(dir=tmp_path))
    ledger = SweepLedger(load_sweep(str(file)))
    for i in range(30):
        record = ledger.add({"inner.lr": 0.00123 * (i + 1), "inner.scope.name": "film"})
        record.state = "running" if i == 1 else "waiting"
    first = ledger.records[0]
    first.state = "finished"
    first.reports.append(TrialReport(1000, 0.1234, 8, 0.25, 60.0, 0, {8: 0.1234}))
    monkeypatch.setenv("TERM", "xterm")
    return ledger


def rows_of(stream):
    """The rows that a terminal shows of the last drawing."""
    drawn = re.split(r"\x1b\[\d+A", stream.getvalue())[-1]
    return [row.strip() for row in re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", "", drawn).split("\n")]


@pytest.mark.parametrize(("columns", "lines"), [(200, 60), (80, 24), (60, 10)])
def test_a_terminal_has_every_row_on_one_line_and_no_more_rows_than_lines(
    ledger, messages, monkeypatch, columns, lines
):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    stream = Terminal()
    table = TrialTable(ledger, messages, stream)
    table.update()
    table.update()
    rows = rows_of(stream)
    assert len(rows) < lines
    assert all(cell_len(row) <= columns for row in rows)
    assert rows[0] == "1 of 20 trials ended; the lowest score is 0.1234, by 000"
    assert re.match(r"no\. +state +outer step +score +k +loss +ETA +values", rows[1])
    assert re.match(r"029 +waiting +0/", rows[-1] or rows[-2])
    if lines > 40:
        assert re.match(r"000 +finished +1,000/1,000 +0\.1234 +8 +0\.2500 +lr=0\.00123", rows[2])
        assert re.match(r"001 +running +30/1,000 +0\.5000 +1 min 30 s +lr=0\.00246", rows[3])
    assert ("scope=film" in stream.getvalue()) == (columns >= 80)
    table.close()
    # The cursor is back.
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_elsewhere_each_event_is_one_line(ledger, messages):
    stream = io.StringIO()
    table = TrialTable(ledger, messages, stream)
    table.update()
    table.update()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 30
    assert re.match(
        r"[-\d]+ [:\d]+ trial 000  finished +1,000/1,000 +0\.1234 +8 +0\.2500", lines[0]
    )
    ledger.records[1].state = "failed"
    ledger.records[1].reason = "the loss is not finite\nand more"
    table.close()
    [line] = stream.getvalue().splitlines()[30:]
    assert " trial 001  failed" in line
    assert line.endswith("the loss is not finite")
    assert "\x1b" not in stream.getvalue()

"""The benchmark of waits: what a row measures, and its verdict."""

import sys

import psutil
import pytest

from benchmarks.waiting import Row, Wait, measured, table

_WORK = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def row(code: str, **options: object) -> Row:
    return Row("row", [sys.executable, "-c", code], **options)  # pyright: ignore[reportArgumentType]


def test_a_wait_to_the_end_counts_the_work_of_all_processes():
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_WORK!r}])"
    assert measured(row(code), 1).cpu >= 0.3
    assert measured(row("raise SystemExit(1)", status=1), 1).cpu < 0.3


def test_a_wait_until_an_event_ends_the_command():
    code = f"{_WORK}print('ready', flush=True); time.sleep(1000)"
    before = psutil.Process().children()
    wait = measured(row(code, until=lambda text: "ready" in text), 1)
    assert wait.cpu >= 0.3
    assert psutil.Process().children() == before


def test_a_command_that_fails_is_no_wait():
    with pytest.raises(RuntimeError, match="row ended with 1:\nwhy"):
        measured(row("raise SystemExit('why')"), 1)


def test_a_verdict_is_by_cpu_seconds():
    lines = table([(row("", goal=1), Wait(0.9, 7)), (row("", goal=1), Wait(1.1, 7))]).splitlines()
    assert lines[2] == "| row | 0.90 | 7.00 | 1 | reached |"
    assert lines[3].endswith("missed |")

"""Progress and tables as people see them, in a terminal and in a log."""

import io
import logging
import re

import pytest

from metatrain.base import progress
from metatrain.base.progress import Progress, StreamDisplay, displayed
from metatrain.base.tables import aligned


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


# The time of a line in a log.
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?=\w)")


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work_shown_on(stream):
    with displayed(StreamDisplay(stream)):
        return Progress("packing", 100)


def test_the_time_left_follows_from_the_rate_so_far(clock):
    stream = io.StringIO()
    work = work_shown_on(stream)
    clock[0] = 10.0
    work.update(20)
    assert TIME.sub("", stream.getvalue()) == "packing: 20/100, 2.0/s, ETA 40 s\n"


def test_the_time_before_the_work_does_not_count(clock):
    stream = io.StringIO()
    work = work_shown_on(stream)
    clock[0] = 300.0
    work.update(0)
    assert stream.getvalue() == ""
    clock[0] = 310.0
    work.update(20)
    assert TIME.sub("", stream.getvalue()) == "packing: 20/100, 2.0/s, ETA 40 s\n"


def test_a_terminal_overwrites_one_line_however_narrow_it_is(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    work = work_shown_on(stream)
    for second in (1.0, 1.5, 2.0):
        clock[0] = second
        work.update(10)
    work.say("refused one")
    first, second, *rest = stream.getvalue().split("\r")[1:]
    assert first == "packing: 10/100, 10"
    assert second == "packing: 10/100, 5."
    assert rest == [" " * 19, "refused one\n"]


def test_without_a_display_progress_is_logged_and_nothing_is_printed(clock, caplog, capfd):
    caplog.set_level(logging.INFO, "metatrain")
    work = Progress("packing", 100)
    clock[0] = 10.0
    work.update(20)
    work.say("refused one")
    work.close()
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "packing: 20/100, 2.0/s, ETA 40 s"),
        ("WARNING", "refused one"),
    ]
    assert capfd.readouterr() == ("", "")


ROWS = [["", "KID", "own task"], ["joint", "0.111 [0.090, 0.130]", "4.4%"], ["図形", "0.1", "90%"]]


def test_a_log_has_each_row_of_a_table_on_one_line():
    assert aligned(ROWS, justify="right").split("\n") == [
        "                        KID  own task",
        "joint  0.111 [0.090, 0.130]      4.4%",
        "図形                    0.1       90%",
    ]
    long = "a sentence without an end " * 20
    assert aligned([["x", long]], justify="left") == f"x  {long.rstrip()}"


def test_a_narrow_terminal_folds_cells_within_their_columns(monkeypatch):
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "30")
    assert aligned(ROWS, justify="right").split("\n") == [
        "                 KID  own task",
        "joint  0.111 [0.090,      4.4%",
        "              0.130]",
        "図形             0.1       90%",
    ]

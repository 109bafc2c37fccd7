"""What a person is told of long work."""

import io

import pytest

from metatrain.base import progress
from metatrain.base.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_goes_by_what_was_done_so_far(clock):
    stream = io.StringIO()
    work = Progress("packing", 100, stream)
    clock[0] = 10.0
    work.update(20)
    assert stream.getvalue() == "packing: 20/100, 2.0/s, ETA 40 s\n"


def test_what_was_waited_for_before_the_work_began_is_no_measure_of_it(clock):
    stream = io.StringIO()
    work = Progress("packing", 100, stream)
    clock[0] = 300.0
    work.update(0)
    assert stream.getvalue() == ""
    clock[0] = 310.0
    work.update(20)
    assert stream.getvalue() == "packing: 20/100, 2.0/s, ETA 40 s\n"

"""A worker advances its jobs in turn."""

import threading

import pytest

from serving.limits import RequestError
from serving.worker import Worker


@pytest.fixture
def worker():
    worker = Worker(waiting=3)
    yield worker
    worker.close()


def job(log, name, parts, gate=None):
    try:
        for part in range(parts):
            if gate:
                gate.wait()
            log.append(f"{name}{part}")
            yield
        return name
    finally:
        log.append(f"{name} ends")


def test_jobs_advance_in_turn(worker):
    log, gate = [], threading.Event()
    futures = [worker.submit(job(log, name, 3, gate)) for name in "ab"]
    gate.set()
    assert [future.result(10) for future in futures] == ["a", "b"]
    assert log == ["a0", "b0", "a1", "b1", "a2", "b2", "a ends", "b ends"]


def test_a_job_that_ends_in_an_error_when_given_up_ends_no_thread(worker, caplog):
    begun, gate = threading.Event(), threading.Event()

    def stubborn():
        try:
            while True:
                begun.set()
                gate.wait()
                yield
        finally:
            raise ValueError("it does not want to end")

    future = worker.submit(stubborn())
    begun.wait(10)
    assert future.cancel()
    gate.set()
    assert worker.submit(job([], "a", 1)).result(10) == "a"
    assert worker.count == 0
    assert "did not end well" in caplog.text


def test_a_job_has_left_before_anyone_is_told_of_its_end(worker):
    counts, gate = [], threading.Event()
    future = worker.submit(job([], "a", 1, gate))
    future.add_done_callback(lambda _: counts.append(worker.count))
    gate.set()
    future.result(10)
    worker.submit(job([], "b", 1)).result(10)  # after the callback, in the same thread
    assert counts == [0]


def test_a_cancelled_job_ends_and_the_others_do_not(worker):
    log, begun = [], threading.Event()

    def endless():
        try:
            while True:
                begun.set()
                yield
        finally:
            log.append("a ends")

    cancelled = worker.submit(endless())
    assert begun.wait(10)
    assert cancelled.cancel()
    assert worker.submit(job(log, "b", 2)).result(10) == "b"
    assert "a ends" in log


def test_many_threads_advance_jobs_that_wait_for_each_other():
    worker, barrier = Worker(waiting=3, threads=3), threading.Barrier(3)

    def waiting():
        for _ in range(5):
            barrier.wait(10)
            yield

    futures = [worker.submit(waiting()) for _ in range(3)]
    assert [future.result(10) for future in futures] == [None] * 3
    worker.close()


def test_an_error_is_the_result_of_its_job_alone(worker):
    def failing():
        yield
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        worker.submit(failing()).result(10)
    assert worker.submit(job([], "b", 1)).result(10) == "b"


def test_too_many_jobs_are_refused(worker):
    gate = threading.Event()
    futures = [worker.submit(job([], "a", 1, gate)) for _ in range(3)]
    with pytest.raises(RequestError, match="no more"):
        worker.submit(job([], "b", 1))
    gate.set()
    for future in futures:
        future.result(10)

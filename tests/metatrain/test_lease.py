"""Leases between real processes: refused, awaited, taken over, lost; on a disk and in a bucket."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from metatrain.base import processes
from metatrain.base.errors import HeldError, UserError
from metatrain.storage import conditional
from metatrain.storage import lease as leases_module
from metatrain.storage.conditional import Stored, create, read_stored, remove, replace
from metatrain.storage.lease import LostError, lease, leases
from metatrain.storage.lease_holder import parse_holder, this_holder

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from metatrain.storage.lease import lease
with lease(sys.argv[1], "trains"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(url: str) -> subprocess.Popen[str]:
    """Hold a lease in another process, until its input is closed."""
    command, pipe = [sys.executable, "-c", HOLD, url], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def quick(monkeypatch):
    """Leases that go silent within a second."""
    monkeypatch.setattr(leases_module, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(leases_module, "SILENCE_SECONDS", 0.6)
    monkeypatch.setattr(leases_module, "_LOOK_SECONDS", 0.05)


@pytest.fixture(params=["disk", "bucket"])
def folder(request, tmp_path) -> str:
    return str(tmp_path / "run") if request.param == "disk" else request.getfixturevalue("s3")


def test_a_second_process_is_refused_in_a_sentence_until_the_first_has_ended(folder):
    other = hold(folder)
    with pytest.raises(HeldError) as error, lease(folder, "packs"):
        pass
    assert other.poll() is None
    words = (folder, f"trains it, as process {other.pid}", "since 20", "wait until it has ended")
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)
    assert other.stdin
    threading.Timer(0.5, other.stdin.close).start()
    with lease(folder, "packs", wait=True):
        assert other.wait() == 0
    assert read_stored(f"{folder}/lease.json") is None


def test_a_killed_process_is_succeeded_at_once(folder):
    other = hold(folder)
    other.kill()
    # Not yet waited for: a process that its parent forgot is gone as well.
    time.sleep(0.2)
    started = time.monotonic()
    with lease(folder, "trains"):
        assert time.monotonic() - started < 2
    other.wait()


def test_a_stopped_process_of_this_machine_keeps_what_it_holds(tmp_path, quick):
    other = hold(str(tmp_path))
    other.send_signal(signal.SIGSTOP)
    time.sleep(1)
    with pytest.raises(HeldError), lease(str(tmp_path), "trains"):
        pass
    other.kill()
    other.wait()


def elsewhere(url: str) -> bytes:
    """Write the lease of a process on another machine, and return it."""
    holder = this_holder("trains")
    holder = holder._replace(host="far", process=holder.process._replace(kernel="another"))
    assert create(f"{url}/lease.json", holder.encode())
    return holder.encode()


def test_a_machine_that_is_silent_is_succeeded_after_its_time_and_not_before(folder, quick):
    elsewhere(folder)
    started = time.monotonic()
    with lease(folder, "trains"):
        assert time.monotonic() - started > 0.6
    assert read_stored(f"{folder}/lease.json") is None


def test_a_machine_that_gives_a_sign_of_life_is_not_succeeded(folder, quick):
    data = elsewhere(folder)
    beaten = parse_holder(data).renewed().encode()
    beat = threading.Timer(0.3, replace, [f"{folder}/lease.json", beaten, read_of(folder)])
    beat.start()
    with pytest.raises(HeldError, match="on far trains it"), lease(folder, "trains"):
        pass
    beat.join()


def read_of(folder: str) -> Stored:
    stored = read_stored(f"{folder}/lease.json")
    assert stored is not None
    return stored


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\x00" * 99, b'{"token": "\x1b[2J"}'])
def test_a_lease_that_nobody_can_read_is_succeeded_after_its_time(tmp_path, quick, content):
    (tmp_path / "lease.json").write_bytes(content)
    with lease(str(tmp_path), "trains") as held:
        assert read_of(str(tmp_path)) == held._stored
        assert parse_holder(read_of(str(tmp_path)).data).token == held.key.token


def test_what_a_stranger_calls_himself_does_not_reach_the_terminal():
    holder = this_holder("trains")
    for odd in ("\x1b[2J", "a\nb", "", "x" * 999):
        assert parse_holder(holder._replace(host=odd).encode()) is None
    assert parse_holder(holder.encode()) == holder


def test_a_lost_lease_is_noticed_by_its_holder_and_before_a_commit_and_left_alone(folder, quick):
    with lease(folder, "trains") as held:
        held.key.check()
        theirs = this_holder("trains").encode()
        while not replace(f"{folder}/lease.json", theirs, read_of(folder)):
            pass
        with pytest.raises(LostError, match="has taken over"):
            held.key.check()
        for _ in range(100):
            time.sleep(0.05)
            if held._lost.is_set():
                break
        with pytest.raises(LostError, match="has taken over"):
            held.check()
    assert read_of(folder).data == theirs


def test_a_renewal_that_fails_for_a_while_ends_nothing(tmp_path, quick, monkeypatch, caplog):
    def fail(*_: object) -> bool:
        raise OSError("the disk hiccups")

    with lease(str(tmp_path), "trains") as held:
        with monkeypatch.context() as patch:
            patch.setattr(leases_module, "replace", fail)
            time.sleep(0.5)
        before = read_of(str(tmp_path))
        time.sleep(0.5)
        held.check()
        assert read_of(str(tmp_path)) != before
    assert caplog.text.count("the disk hiccups") == 1
    assert not (tmp_path / "lease.json").exists()


def test_a_lease_that_is_gone_is_lost_since_another_may_have_come_and_gone(folder, quick):
    with lease(folder, "trains") as held:
        while read_stored(f"{folder}/lease.json"):
            remove(f"{folder}/lease.json", read_of(folder))
        with pytest.raises(LostError, match="has taken over"):
            held.key.check()


def test_of_many_that_come_at_once_to_a_dead_lease_one_gets_it(folder):
    other = hold(folder)
    other.kill()
    other.wait()
    outcomes: list[str] = []
    everyone, all_tried = threading.Barrier(8), threading.Barrier(8)

    def come() -> None:
        everyone.wait()
        try:
            with lease(folder, "trains"):
                outcomes.append("held")
                all_tried.wait()
        except HeldError:
            outcomes.append("refused")
            all_tried.wait()

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", *["refused"] * 7]


def test_a_store_that_overlooks_conditions_still_gives_one_of_two_the_lease(s3, quick, monkeypatch):
    monkeypatch.setattr(conditional, "_put", lambda *_: None)
    monkeypatch.setattr(conditional, "SETTLE_SECONDS", 0.5)
    outcomes: list[str] = []

    def come() -> None:
        try:
            with lease(s3, "trains"):
                outcomes.append("held")
                time.sleep(2)
        except HeldError:
            outcomes.append("refused")

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "refused"]


def test_folders_that_a_lease_made_go_with_it_where_nothing_was_written(tmp_path):
    with lease(f"{tmp_path}/a/b/run", "trains"):
        assert (tmp_path / "a/b/run/lease.json").exists()
    assert not (tmp_path / "a").exists()
    with lease(f"{tmp_path}/a/b/run", "trains"):
        (tmp_path / "a/file").write_text("")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_folder_that_can_be_none_and_a_link_to_nowhere_are_refused_in_a_sentence(tmp_path, quick):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="needs a folder where a file is"):
        lease(f"{tmp_path}/file/run", "trains").__enter__()
    (tmp_path / "lease.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"lease\.json can be neither created nor read; remove it"):
        lease(str(tmp_path), "trains").__enter__()


def test_the_lease_of_a_file_lies_beside_it_and_a_path_and_its_url_have_one(tmp_path):
    with lease(f"file://{tmp_path}/net.safetensors", "trains", is_file=True):
        assert json.loads((tmp_path / "net.safetensors.lease.json").read_text())["work"] == "trains"
        url = f"{tmp_path}/net.safetensors"
        with pytest.raises(HeldError), lease(url, "trains", is_file=True):
            pass
    with leases([f"{tmp_path}/b", f"{tmp_path}/a", f"{tmp_path}/b/"], "evaluates") as held:
        assert [Path(one.key.url).parent.name for one in held] == ["a", "b"]


def test_another_process_with_the_same_number_is_another_process():
    process = this_holder("trains").process
    assert process.pid == os.getpid()
    assert process.is_alive
    assert process._replace(started="1").is_alive is False
    assert process._replace(kernel="another").is_alive is None
    assert process._replace(pid=2**22 + 1).is_alive is False


def test_a_process_that_is_hidden_from_this_user_is_not_taken_for_gone(monkeypatch):
    def refuse(*_: int) -> None:
        raise PermissionError

    process = this_holder("trains").process
    monkeypatch.setattr(processes, "_started", lambda pid: None)
    monkeypatch.setattr(os, "kill", refuse)
    assert process.is_alive is None

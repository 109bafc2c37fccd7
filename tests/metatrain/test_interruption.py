"""Signals, closed pipes and used-up limits: real processes of a command, and of training."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

import metatrain
from metatrain.base.errors import HeldError, UserError
from metatrain.storage.files import reaching
from metatrain.training.checkpoint import CheckpointStore

ROOT = Path(__file__).parents[2]
# A command that works, and takes a while to end in order.
COMMAND = """
import sys, time
from metatrain.cli.command import Command, run

def work(_):
    try:
        print("working", flush=True)
        {body}
    finally:
        time.sleep({ending})
        print("ended in order", flush=True)

sys.exit(run("metatrain", {{"work": Command("Work.", lambda _: None, work)}}, ["work"]))
"""


def command(body: str = "time.sleep(60)", ending: float = 0.0, **options) -> subprocess.Popen[str]:
    code = COMMAND.format(body=body, ending=ending)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **options,
    )


def until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout
    assert any(read.endswith(line) for read in process.stdout)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_in_order_and_a_second_one_at_once(number, status):
    one, two = command(ending=1.5), command(ending=60)
    for process in (one, two):
        until(process, "working\n")
        # The second comes from a wrapper that passes on what the terminal sent already.
        process.send_signal(number)
        time.sleep(0.2)
        process.send_signal(number)
    output, errors = one.communicate(timeout=20)
    assert (one.returncode, output) == (status, "ended in order\n")
    assert errors == "\nmetatrain: interrupted.\n"
    two.send_signal(number)
    output, errors = two.communicate(timeout=5)
    assert (two.returncode, output, errors) == (status, "", "\nended at once.\n")


def test_a_signal_names_the_status_where_a_library_raises_the_interruption_anew():
    # As Ray's own code does with one that it meets.
    body = (
        "exec('try: time.sleep(60)\\nexcept KeyboardInterrupt: raise KeyboardInterrupt from None')"
    )
    process = command(body)
    until(process, "working\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143


def test_a_signal_that_the_caller_ignores_stays_ignored():
    process = command(
        "time.sleep(1)", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    until(process, "working\n")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_a_closed_pipe_ends_a_command_in_order_without_a_traceback():
    process = command("while True: print('line', flush=True)")
    until(process, "line\n")
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == ""


def test_too_few_open_files_are_named_in_a_sentence():
    few = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (64, 64))
    process = command("files = [open('/dev/null') for _ in range(99)]", preexec_fn=few)
    until(process, "ended in order\n")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.startswith("metatrain: no more files can be opened (Too many open files); raise")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "may not be used (Permission denied); change its permissions"),
        (errno.EROFS, "may not be used (Read-only file system); change its permissions"),
        (errno.EMFILE, "cannot be opened (Too many open files); raise the limit"),
        (errno.EISDIR, "/far is a folder, and a file is needed; name a file"),
        (errno.ENOSPC, "there is no room for /far (No space left on device); make some"),
    ],
)
def test_what_a_disk_refuses_is_told_with_the_mend(number, words):
    with pytest.raises(UserError) as error, reaching("/far"):
        raise OSError(number, os.strerror(number))
    assert words in str(error.value)


def test_training_that_is_interrupted_saves_first_and_holds_its_run_until_then(overrides, tmp_path):
    chosen = [*overrides, "meta.steps=400", "checkpoint.every=350"]
    config = metatrain.load_config(None, chosen)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    code = (
        "import sys, torch, metatrain; torch.set_num_threads(1)\n"
        "metatrain.train(sys.argv[1], device='cpu', on_step=lambda n, _: print(n, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    until(process, "7\n")
    with pytest.raises(HeldError, match=rf"trains it, as process {process.pid}"):
        metatrain.train(config, device="cpu")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    last = int((output.split() or ["7"])[-1])
    saved = CheckpointStore(config.run.url).steps()[-1]
    assert errors.splitlines()[-1] == f"KeyboardInterrupt: saved up to step {saved}"
    assert saved < 350
    assert saved - last in (0, 1)

    def stop(step: int, _: object) -> None:
        if step == saved:
            raise KeyboardInterrupt

    other = metatrain.load_config(None, [*chosen, "run.name=other"])
    with pytest.raises(KeyboardInterrupt, match=f"saved up to step {saved}"):
        metatrain.train(other, device="cpu", on_step=stop)
    state, expected = (CheckpointStore(c.run.url).latest() for c in (config, other))
    assert state is not None and expected is not None
    assert state.step == expected.step == saved
    for part in ("parameters", "average", "optimizer"):
        a, b = getattr(state, part), getattr(expected, part)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    losses = [[record["loss"] for record in s.window + s.history] for s in (state, expected)]
    assert losses[0] == losses[1]

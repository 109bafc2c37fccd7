"""Overrides and the file of a configuration, wherever they stand on the command line."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.commands import DOCTOR, TRAIN
from k8s.commands import K8S
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from tuning.commands import SUBMIT, SWEEP

# Every command that takes a configuration, with options that it needs or has.
CONFIGURED = {
    "config": (COMMANDS["config"], [], ["--all"]),
    "plan": (COMMANDS["plan"], [], ["--gpus", "8"]),
    "train": (TRAIN, [], []),
    "submit": (SUBMIT, [], ["--address", "http://head=1:8265"]),
    "sweep": (SWEEP, [], []),
    "doctor": (DOCTOR, [], ["--address", "http://head:8265"]),
    "k8s": (K8S, ["render"], ["--overlay", "dev", "--workers", "2", "--image", "a@sha256:b=c"]),
}


@given(data=st.data())
@pytest.mark.parametrize("name", list(CONFIGURED))
def test_file_and_overrides_stand_anywhere(name, data):
    command, first, options = CONFIGURED[name]
    pairs = [options[i : i + 2] for i in range(0, len(options), 2)]
    file = data.draw(st.sampled_from([None, "my.yaml", "runs/a=1/my.yaml", "s3://b/c?d=e"]))
    overrides = [["inner.lr=1"], ["run.dir=a #b --x"], ["seed=-1"], ["inner.lr=2"]]
    words = data.draw(st.permutations([*pairs, *([[file]] if file else []), *overrides]))
    read = []
    recorder = replace(command, run=read.append)
    argv = [name, *first, *(word for group in words for word in group)]
    assert run("metatrain", {name: recorder}, argv) == 0
    [arguments] = read
    assert arguments.config == file
    order = [group[0] for group in words if group in overrides]
    assert arguments.overrides == order, "the last of a key wins"


@pytest.mark.parametrize(
    "words", [["plan", "--gpuz", "8"], ["generate", "a", "--out", "b", "x=1"], ["plan", "-x"]]
)
def test_what_a_command_does_not_have_is_wrong_usage(words, capsys):
    with pytest.raises(SystemExit) as end:
        run("metatrain", COMMANDS, words)
    assert end.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_a_second_file_is_no_override(capsys):
    assert run("metatrain", COMMANDS, ["plan", "configs/demo.yaml", "inner.lr"]) == 1
    assert "'inner.lr' is not an override; write key=value" in capsys.readouterr().err


def test_config_writes_what_differs_unless_it_shall_write_all(capsys):
    assert run("metatrain", COMMANDS, ["config", "learner.name=anil", "inner.lr=0.25"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  #")[0].rstrip() for line in lines[1:]] == [
        *("learner:", '  name: "anil"', "inner:", "  lr: 0.25"),
    ]
    assert run("metatrain", COMMANDS, ["config", "--all"]) == 0
    assert "cluster:" in capsys.readouterr().out


def test_a_sweep_needs_a_file(capsys):
    assert run("metatrain", {"sweep": SWEEP}, ["sweep", "budget.trials=3"]) == 1
    assert "a sweep has no defaults; name its YAML file." in capsys.readouterr().err


def test_an_unknown_option_is_refused_with_the_usage_of_its_command(capsys):
    with pytest.raises(SystemExit) as refusal:
        run("metatrain", COMMANDS, ["adapt", "run", "images", "--out", "new", "--stepz", "3"])
    assert refusal.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: metatrain adapt ")
    assert "unrecognized arguments: --stepz" in error

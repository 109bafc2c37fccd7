"""Two sweeps of one name at once."""

import os
from pathlib import Path

from small_sweep import write_sweep

from metatrain.cli.command import run
from metatrain.storage.lease import lease
from tuning.commands import SWEEP


def test_the_second_is_refused_before_it_writes_anything(packed, tmp_path, capsys):
    file = write_sweep(tmp_path, packed, rates=[0.01, 0.02], looks=1)
    folder = tmp_path / "sweeps" / "rates"
    with lease(str(folder), "runs"):
        files = sorted(Path(folder).rglob("*"))
        assert run("metatrain", {"sweep": SWEEP}, ["sweep", str(file)]) == 1
        assert sorted(Path(folder).rglob("*")) == files
    *_, line = capsys.readouterr().err.splitlines()
    assert f"{folder} is in use: " in line
    assert f"runs it, as process {os.getpid()}, since" in line
    assert "--wait" in line

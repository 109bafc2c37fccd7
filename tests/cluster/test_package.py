"""What a job carries along, which is little, and never data."""

import zipfile
from pathlib import Path

import pytest
from ray._private import ray_constants
from ray._private.runtime_env.packaging import create_package

from cluster.jobs.package import MOST, files_to_ship
from metatrain.base.errors import UserError

ROOT = Path(__file__).parents[2]


def test_the_repository_ships_what_a_job_runs_and_little_else():
    shipped = files_to_ship(ROOT)
    wanted = {"cluster/__main__.py", "cluster/run/worker.py", "metatrain/training/trainer.py"}
    assert wanted | {"configs/demo.yaml"} <= {str(path) for path in shipped}
    assert not {path.parts[0] for path in shipped} & {"tests", "docs", "benchmarks", "runs", ".git"}
    assert sum(shipped.values()) < 1_000_000


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my.yaml").write_text("seed: 0\n")
    (tmp_path / ".rayignore").write_text("/secret/\n*.log\n")
    (tmp_path / ".gitignore").write_text("runs/\n")
    for name in ("secret/key", "runs/a/b", "code/x.py", "code/run.log", ".git/HEAD"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "code" / ".gitignore").write_text("y.py\n")
    (tmp_path / "code" / "y.py").write_text("ignored where it lies")
    return tmp_path


def test_what_was_looked_at_is_what_ray_packs(folder, tmp_path_factory):
    packed = tmp_path_factory.mktemp("packed") / "job.zip"
    excludes = ray_constants.get_runtime_env_default_excludes()
    create_package(str(folder), packed, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(packed) as archive:
        sizes = {i.filename: i.file_size for i in archive.infolist() if not i.is_dir()}
    assert {str(path): size for path, size in files_to_ship(folder).items()} == sizes
    assert sizes.keys() >= {"my.yaml", "code/x.py"}
    assert not sizes.keys() & {"secret/key", "runs/a/b", "code/run.log", "code/y.py", ".git/HEAD"}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("sets/icons/part-00000.parquet", "a data set"),
        ("old/step-00000020/shard-00000-of-00001-00000.safetensors", "a checkpoint or a model"),
    ],
)
def test_data_and_checkpoints_are_refused_by_name_and_size_however_small(folder, name, what):
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(b"0" * 1_200_000)
    with pytest.raises(UserError, match=f"^{name} \\(1.2 MB\\) is of {what}, .* in .rayignore"):
        files_to_ship(folder)
    (folder / ".rayignore").write_text(f"/{name.partition('/')[0]}/\n")
    assert Path(name) not in files_to_ship(folder)


def test_too_much_is_refused_and_the_largest_are_named(folder):
    for number in range(5):
        (folder / f"{number}.bin").write_bytes(b"0" * (MOST // 10 * number))
    with pytest.raises(UserError) as error:
        files_to_ship(folder)
    assert "has 10.0 MB in 10 files, and a job carries 10.0 MB at most" in str(error.value)
    assert "4.bin (4.0 MB), 3.bin (3.0 MB), 2.bin (2.0 MB)." in str(error.value)

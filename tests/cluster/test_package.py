"""The files that a job uploads: few, and never data."""

from pathlib import Path

import pytest

from cluster.jobs.package import MAX_BYTES, files_to_upload
from metatrain.base.errors import UserError

ROOT = Path(__file__).parents[2]


def test_the_repository_uploads_what_a_job_runs_and_little_else():
    uploaded = files_to_upload(ROOT)
    required = {"cluster/__main__.py", "cluster/run/worker.py", "metatrain/training/trainer.py"}
    assert required | {"configs/demo.yaml"} <= {str(path) for path in uploaded}
    excluded = {"tests", "docs", "benchmarks", "runs", ".git"}
    assert not {path.parts[0] for path in uploaded} & excluded
    assert sum(uploaded.values()) < MAX_BYTES / 5


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("sets/icons/part-00000.parquet", "a data set"),
        ("old/step-00000020/shard-00000-of-00001-00000.safetensors", "a checkpoint or a model"),
    ],
)
def test_data_and_checkpoints_are_refused_by_name_and_size_however_small(job_folder, name, owner):
    (job_folder / name).parent.mkdir(parents=True)
    (job_folder / name).write_bytes(b"0" * 1_200_000)
    with pytest.raises(
        UserError, match=f"^{name} \\(1.2 MB\\) belongs to {owner}, .* in .rayignore"
    ):
        files_to_upload(job_folder)
    (job_folder / ".rayignore").write_text(f"/{name.partition('/')[0]}/\n")
    assert Path(name) not in files_to_upload(job_folder)


def test_too_much_is_refused_and_the_largest_are_named(job_folder):
    for number in range(5):
        (job_folder / f"{number}.bin").write_bytes(b"0" * (MAX_BYTES // 10 * number))
    with pytest.raises(UserError) as error:
        files_to_upload(job_folder)
    assert "holds 10.0 MB in 10 files, and a job uploads at most 10.0 MB" in str(error.value)
    assert "4.bin (4.0 MB), 3.bin (3.0 MB), 2.bin (2.0 MB)." in str(error.value)

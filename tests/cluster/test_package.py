"""The files that a job uploads: few, those that git tracks, and never data or secrets."""

import json
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.commands import SUBMIT
from cluster.jobs.credentials import credential_by_content, credential_by_name
from cluster.jobs.package import MAX_BYTES, files_to_upload, staged
from metatrain.base.errors import UserError
from metatrain.cli.command import run

ROOT = Path(__file__).parents[2]


def test_the_repository_uploads_what_a_job_runs_and_little_else():
    uploaded = files_to_upload(ROOT)
    required = {"cluster/__main__.py", "cluster/run/worker.py", "metatrain/training/trainer.py"}
    assert required | {"configs/demo.yaml"} <= {str(path) for path in uploaded}
    excluded = {"tests", "docs", "examples", "benchmarks", "runs", ".git"}
    assert not {path.parts[0] for path in uploaded} & excluded
    assert sum(uploaded.values()) < MAX_BYTES / 4


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


def git(folder, *words):
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def tracked(tmp_path):
    """Return a git checkout with a committed file that was changed since, and one that was not."""
    folder = tmp_path / "work"
    (folder / "code").mkdir(parents=True)
    (folder / "code/x.py").write_text("first\n")
    (folder / "my.yaml").write_text("seed: 0\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "all")
    (folder / "code/x.py").write_text("changed\n")
    return folder


def uploaded(folder):
    return {str(path) for path in files_to_upload(folder)}


def test_a_checkout_uploads_what_git_tracks_as_it_is_now(tracked, caplog):
    (tracked / "notes.txt").write_text("mine alone\n")
    (tracked / ".env").write_text("SECRET=1\n")
    assert uploaded(tracked) == {"my.yaml", "code/x.py"}
    assert "2 files that git does not track stay here, such as .env; git add" in caplog.text
    git(tracked, "add", "notes.txt")
    assert uploaded(tracked) == {"my.yaml", "code/x.py", "notes.txt"}
    assert uploaded(tracked / "code") == {"x.py"}
    with staged(files_to_upload(tracked), tracked) as folder:
        assert (folder / "code/x.py").read_text() == "changed\n"
        everything = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        assert everything == {"my.yaml", "code/x.py", "notes.txt"}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


def test_a_checkout_of_which_git_tracks_nothing_uploads_nothing(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "my.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match=r"git tracks no file in .*; git add what the job needs"):
        files_to_upload(tmp_path)


SECRETS = [
    *(".env", ".env.production", "deploy/prod.env", ".netrc", ".aws/credentials", ".ssh/config"),
    *(".ray/auth_token", "kubeconfig", ".kube/config", "id_rsa", "keys/id_ed25519", ".npmrc"),
    *(".pypirc", ".git-credentials", ".docker/config.json", "home/.AWS/config", "cert.p12"),
]
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n"
CONTENTS = {
    "server.pem": KEY,
    "notes.txt": f"the key:\n{KEY}",
    "account.json": json.dumps({"type": "service_account", "project_id": "p"}),
    "client.json": json.dumps({"installed": {"client_secret": "s"}}),
    "store/s3.json": json.dumps({"credentials": [{"accessKey": "a", "secretKey": "b"}]}),
    "keys.json": json.dumps({"AWS_SECRET_ACCESS_KEY": "s"}),
    "credentials": f"[default]\naws_secret_access_key = {'a/B+' * 10}\n",
    "cluster.yaml": "apiVersion: v1\nkind: Config\nusers:\n- user:\n    token: abc\n",
}


@pytest.mark.parametrize("name", [*SECRETS, *CONTENTS])
@pytest.mark.parametrize("in_git", [True, False])
def test_credentials_are_refused_by_name_and_by_content(tracked, tmp_path, name, in_git):
    folder = tracked if in_git else tmp_path / "plain"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(CONTENTS.get(name, "content"))
    if in_git:
        git(folder, "add", "--force", name)
    with pytest.raises(
        UserError, match=f"^{name} is (a|the) .*, which no job uploads; list it in .rayig"
    ):
        files_to_upload(folder)
    (folder / ".rayignore").write_text(f"{name}\n")
    (folder / "other.txt").write_text("harmless")
    assert name not in uploaded(folder)


@pytest.mark.parametrize(
    "name", [".env.example", "environment.yaml", "tokens.py", "keys.json", "pem.py", "netrc.md"]
)
def test_what_only_sounds_like_a_credential_is_none(name):
    assert credential_by_name(Path(name)) is None
    assert credential_by_content(name, b'{"type": "object", "secretKey": ""}') is None


@given(st.binary())
def test_any_content_can_be_looked_at(content):
    credential_by_content("a.json", content)


@pytest.mark.parametrize("in_git", [True, False])
def test_links_out_of_the_folder_are_refused(tracked, tmp_path, in_git):
    folder = tracked if in_git else tmp_path / "plain"
    outside = tmp_path / "outside"
    for each in (folder, outside):
        each.mkdir(exist_ok=True)
    (outside / "secret").write_text("s")
    (folder / "inside").write_text("mine")
    (folder / "copy").symlink_to("inside")

    def refused(link, target, place):
        (folder / link).symlink_to(target)
        if in_git:
            git(folder, "add", link)
        with pytest.raises(UserError, match=f"^{link} is a link {place}.*, which no job follows"):
            files_to_upload(folder)
        (folder / link).unlink()

    if in_git:
        git(folder, "add", "inside", "copy")
    refused("file", outside / "secret", "out of ")
    refused("folder", outside, "to a folder")
    refused("above", "..", "to a folder")
    assert {"inside", "copy"} <= uploaded(folder)
    with staged(files_to_upload(folder), folder) as stage:
        assert not (stage / "copy").is_symlink()
        assert (stage / "copy").read_text() == "mine"


@pytest.mark.parametrize("target", [".env", "private/word", ".git/config", "untracked"])
def test_a_link_to_a_file_that_stays_here_is_refused(tracked, target):
    (tracked / ".gitignore").write_text(".env\nprivate\n")
    (tracked / target).parent.mkdir(exist_ok=True)
    (tracked / target).write_text("SECRET=1\n")
    (tracked / "settings").symlink_to(target)
    git(tracked, "add", ".gitignore")
    git(tracked, "update-index", "--add", "--cacheinfo", f"120000,{'0' * 39}1,settings")
    with pytest.raises(UserError, match=f"^settings is a link to {target}, which stays here; git"):
        files_to_upload(tracked)
    (tracked / ".rayignore").write_text("settings\n")
    assert "settings" not in uploaded(tracked)


def test_a_link_that_git_does_not_track_or_an_ignore_file_names_is_passed_over(tracked, tmp_path):
    (tmp_path / "data").mkdir()
    (tracked / "data").symlink_to(tmp_path / "data")
    assert "data" not in uploaded(tracked)
    git(tracked, "add", "data")
    (tracked / ".rayignore").write_text("data\n")
    assert "data" not in uploaded(tracked)


def test_list_prints_what_would_go_and_sends_nothing(tracked, monkeypatch, capsys):
    monkeypatch.chdir(tracked)
    words = ["submit", "--list", "--address", "http://127.0.0.1:1"]
    assert run("metatrain", {"submit": SUBMIT}, words) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["8", "code/x.py"],
        ["8", "my.yaml"],
    ]


def test_list_names_every_refused_file_and_fails(tracked, monkeypatch, capsys):
    (tracked / ".env").write_text("SECRET=1\n")
    (tracked / "notes.txt").write_text(KEY)
    (tracked / "model.safetensors").write_bytes(b"0")
    git(tracked, "add", ".")
    monkeypatch.chdir(tracked)
    assert run("metatrain", {"submit": SUBMIT}, ["submit", "--list"]) == 1
    output, error = capsys.readouterr()
    for name in (".env is a file", "notes.txt is a private", "model.safetensors (0.0 MB) belongs"):
        assert f"refused {name}" in output
    assert "my.yaml" in output
    assert "3 files cannot go along" in error
    with pytest.raises(UserError, match="2 other files cannot go either; --list names all"):
        files_to_upload(tracked)

"""The RUN lines of the Dockerfile, executed without a container engine."""

import os
import re
import shutil
import site
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from manifests import ROOT

LINES = [
    re.sub(r"\s+", " ", line).partition(" ")[::2]
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
DIGEST = f"registry.example.com/metatrain@sha256:{64 * 'a'}"


def arguments_of(instruction):
    return [rest for name, rest in LINES if name == instruction]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Execute every RUN line, in the order of the file, in a virtual environment.

    The environment also sees the packages of the one that the tests run in, which the same versions
    have installed, so that pip downloads nothing. The build is the one of torch here.
    """
    source, folder = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("image")
    for name in (ROOT / ".dockerignore").read_text().split():
        if name.startswith("!") and (ROOT / name[1:]).is_dir():
            shutil.copytree(ROOT / name[1:], source / name[1:])
        elif name.startswith("!"):
            shutil.copy(ROOT / name[1:], source)
    pip = Path(sys.executable).parent
    paths = {"VIRTUAL_ENV": str(folder), "PATH": f"{folder}/bin:{pip}:{os.environ['PATH']}"}
    paths |= {"BUILD": "cpu" if version("torch").endswith("+cpu") else "cuda", "PIP_NO_INDEX": "1"}
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for line in arguments_of("RUN"):
        if "torch-cpu" in line and paths["BUILD"] != "cpu":
            continue
        done = subprocess.run(
            ["sh", "-c", line], cwd=source, env=inherited | paths, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}:\n{done.stderr[-2000:]}"
        (inside,) = folder.glob("lib/python3*/site-packages")
        (inside / "already.pth").write_text("\n".join(site.getsitepackages()))
    return folder


def test_every_run_line_succeeds_in_a_virtual_environment_without_an_index(image):
    assert len(arguments_of("RUN")) >= 4
    assert (image / "bin/metatrain").exists()


def test_the_installed_package_has_all_files_that_render_needs(image, tmp_path):
    (inside,) = image.glob("lib/python3*/site-packages")
    assert (inside / "metatrain").is_dir()
    source = {
        file.relative_to(ROOT)
        for file in (ROOT / "k8s").rglob("*")
        if file.suffix in (".yaml", ".json")
    }
    assert source
    assert source == {
        file.relative_to(inside)
        for file in (inside / "k8s").rglob("*")
        if file.suffix in (".yaml", ".json")
    }
    help_page = subprocess.run(
        [image / "bin/metatrain", "k8s", "render", "--help"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert "--overlay" in help_page.stdout, help_page.stderr


def test_the_image_is_built_on_a_digest_and_runs_as_the_user_of_the_pods():
    assert "PYTHON_DIGEST" in arguments_of("ARG")
    stages = [line.replace("${BUILD}", "cpu").split(" AS ") for line in arguments_of("FROM")]
    own = {name for _, *names in stages for name in names}
    assert {base for base, *_ in stages} - own == {"${PYTHON}@${PYTHON_DIGEST}"}
    assert arguments_of("USER") == ["10001:10001"]
    assert LINES[-1][0] == "USER"
    # A folder where pods may write.
    assert any("HOME=/tmp" in line for line in arguments_of("ENV"))


def test_the_context_excludes_all_files_but_those_listed():
    first, *kept = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert first == "*"
    assert all((ROOT / name[1:]).exists() for name in kept if name.startswith("!"))

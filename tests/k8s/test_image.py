"""The image's RUN lines, run as they stand where there is no container engine."""

import os
import re
import shutil
import site
import subprocess

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
    """A virtual environment that every RUN line has worked on, in the order of the file.

    What the project depends on is there already, installed by the same constraints into the
    environment that the tests run in, so that pip finds it and does not fetch it a second time.
    """
    source, folder = tmp_path_factory.mktemp("src"), tmp_path_factory.mktemp("image")
    for name in (ROOT / ".dockerignore").read_text().split():
        if name.startswith("!") and (ROOT / name[1:]).is_dir():
            shutil.copytree(ROOT / name[1:], source / name[1:])
        elif name.startswith("!"):
            shutil.copy(ROOT / name[1:], source)
    paths = {"VIRTUAL_ENV": str(folder), "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for line in arguments_of("RUN"):
        done = subprocess.run(
            ["sh", "-c", line], cwd=source, env=inherited | paths, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}:\n{done.stderr[-2000:]}"
        (inside,) = folder.glob("lib/python3*/site-packages")
        (inside / "already.pth").write_text("\n".join(site.getsitepackages()))
    return folder


def test_every_line_that_the_image_runs_runs_in_a_virtual_environment(image):
    assert len(arguments_of("RUN")) >= 4
    assert (image / "bin/metatrain").exists()


def test_the_package_that_is_installed_has_all_that_it_renders_of(image, tmp_path):
    (inside,) = image.glob("lib/python3*/site-packages")
    assert (inside / "metatrain").is_dir()
    here = {
        file.relative_to(ROOT)
        for file in (ROOT / "k8s").rglob("*")
        if file.suffix in (".yaml", ".json")
    }
    assert here
    assert here == {
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
    outside = [stage for stage in arguments_of("FROM") if "/" in stage or "$" in stage]
    assert outside == ["${PYTHON}@${PYTHON_DIGEST} AS python", "torch-${BUILD} AS build"]
    assert arguments_of("USER") == ["10001:10001"]
    assert LINES[-1][0] == "USER"
    # Where pods may write.
    assert any("HOME=/tmp" in line for line in arguments_of("ENV"))


def test_nothing_of_the_context_goes_along_by_accident():
    first, *kept = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert first == "*"
    assert all((ROOT / name[1:]).exists() for name in kept if name.startswith("!"))

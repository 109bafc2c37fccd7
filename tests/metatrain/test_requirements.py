"""The pinned versions: complete, equal in every file, and in the image by hash alone."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# The extras that the image installs.
SHIPPED = ("cluster", "serve", "icons", "store")
HASHED = ("build", "torch-cpu", "cpu", "cuda")


def statements(text):
    """List the lines of a requirements file, continued ones joined, without comments."""
    joined = re.sub(r"\\\n", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and line[0] != "#"]


def pinned(text):
    """Return the version of each package of a file; every one has exactly one."""
    versions = {}
    for line in statements(text):
        match = re.fullmatch(r"([\w.-]+)==([\w.+!]+)((?: +--hash=sha256:[0-9a-f]{64})*)", line)
        assert match, line
        name = canonicalize_name(match[1])
        assert name not in versions, line
        versions[name] = Version(match[2])
    return versions


def read(name):
    return (ROOT / name).read_text()


@pytest.fixture(params=HASHED)
def hashed(request):
    """Return the text of every file with hashes in turn."""
    return read(f"requirements/{request.param}.txt")


CONSTRAINTS = pinned(read("constraints.txt"))


def declared(*extras):
    """List what pyproject.toml requires, with extras."""
    project = PROJECT["project"]
    lines = project["dependencies"] + [
        line for extra in extras for line in project["optional-dependencies"][extra]
    ]
    return [Requirement(line) for line in lines]


def closure(requirements):
    """Collect the names of requirements and of all that these require, as installed here."""
    names, waiting = set(), [(r, frozenset(r.extras)) for r in requirements]
    seen = set()
    while waiting:
        requirement, extras = waiting.pop()
        name = canonicalize_name(requirement.name)
        names.add(name)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            further = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        for part in further:
            environments = [{"extra": extra} for extra in extras or {""}]
            if not part.marker or any(part.marker.evaluate(e) for e in environments):
                waiting.append((part, frozenset(part.extras)))
    return names


def test_every_requirement_of_the_image_has_a_hash_and_the_version_of_development(hashed):
    for line in statements(hashed):
        assert "--hash=sha256:" in line, line
    versions = pinned(hashed)
    assert versions
    for name, version in versions.items():
        assert Version(version.public) == CONSTRAINTS[name], name


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_the_image_has_all_that_the_project_requires_and_nothing_of_development(build):
    versions = pinned(read(f"requirements/{build}.txt"))
    requirements = declared(*SHIPPED)
    assert closure(requirements) <= versions.keys()
    for requirement in requirements:
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])
    only_development = closure(declared("dev")) - closure(requirements)
    assert {"pytest", "ruff", "uv"} <= only_development
    assert not only_development & versions.keys()


def test_torch_is_the_build_that_the_file_is_for():
    cpu, cuda = (pinned(read(f"requirements/{build}.txt")) for build in ("cpu", "cuda"))
    assert (cpu["torch"].local, cuda["torch"].local) == ("cpu", None)
    assert any(name.startswith("nvidia-") for name in cuda)
    assert not any(name.startswith("nvidia-") for name in cpu)
    # The one from PyTorch's page, which the rest is installed beside.
    (torch,) = statements(read("requirements/torch-cpu.txt"))
    assert torch in statements(read("requirements/cpu.txt"))


def test_development_has_every_version_and_no_hash():
    # With a single hash, pip would require one of everything.
    assert "--hash" not in read("constraints.txt")
    everything = declared(*PROJECT["project"]["optional-dependencies"])
    assert closure(everything) <= CONSTRAINTS.keys()
    for requirement in everything:
        assert requirement.specifier.contains(CONSTRAINTS[canonicalize_name(requirement.name)])


def test_build_backends_are_pinned_and_are_those_with_hashes():
    wanted = {
        canonicalize_name(r.name): str(r.specifier)
        for r in map(Requirement, PROJECT["build-system"]["requires"])
    }
    versions = pinned(read("requirements/build.txt"))
    assert wanted == {name: f"=={version}" for name, version in versions.items()}


def test_nothing_is_installed_in_the_image_without_a_hash_but_the_project_itself():
    dockerfile = re.sub(r"\\\n *", "", read("Dockerfile"))
    *packages, project = [
        line for line in dockerfile.splitlines() if re.match("RUN .*install", line)
    ]
    files = [re.search(r"--require-hashes .*-r requirements/(.*)\.txt$", line) for line in packages]
    assert [file and file[1] for file in files] == ["build", "torch-cpu", "${BUILD}"]
    assert re.search(r"--no-deps --no-build-isolation \.$", project)
    # Nor does a build fetch a backend of its own.
    assert "--no-build-isolation --only-binary :all: --no-binary deepspeed" in packages[2]


def test_make_installs_build_backends_by_hash_and_builds_with_them():
    recipe = read("Makefile").partition("\n.venv/ready:")[2].partition("\nclean:")[0]
    backends, torch, project = (line for line in recipe.splitlines() if "$(PIP)" in line)
    assert "--require-hashes -r requirements/build.txt" in backends
    assert "-c constraints.txt torch" in torch
    assert "-c constraints.txt --no-build-isolation" in project

"""The shape of the house: who imports whom, and what nothing must cost."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABOVE = {
    "metatrain": {"cluster", "tuning", "k8s", "serving", "ray", "deepspeed"},
    "cluster": {"tuning", "k8s", "serving"},
    "tuning": {"k8s", "serving"},
    # They are used where nothing trains.
    "k8s": {"ray", "deepspeed"},
    "serving": {"tuning", "k8s", "deepspeed"},
}
# The one part of serving that needs a cluster.
ON_RAY = "serving/on_ray"


def imported_by(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("package", ABOVE)
def test_imports_go_one_way(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        upward = {name.partition(".")[0] for name in imported_by(file)} & ABOVE[package]
        assert not upward, f"{file} imports {upward}"


def test_serving_on_one_machine_needs_no_cluster():
    files = [f for f in (ROOT / "serving").rglob("*.py") if (ROOT / ON_RAY) not in f.parents]
    assert files
    imported = {name.partition(".")[0] for file in files for name in imported_by(file)}
    assert not imported & {"ray", "cluster"}


def python(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_room_of_metatrain_opens_without_ray_and_deepspeed():
    rooms = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in (ROOT / "metatrain").rglob("*.py")
    ]
    blocked = "import sys; sys.modules['ray'] = sys.modules['deepspeed'] = None\n"
    python(blocked + "\n".join(f"import {room}" for room in rooms))


def test_importing_metatrain_costs_nothing():
    modules = python("import metatrain, sys; print(*sys.modules)").split()
    assert not {"torch", "numpy", "pyarrow", "pydantic"} & set(modules)


def test_help_does_not_wait_for_torch_or_ray():
    code = (
        "import sys; sys.argv = ['metatrain', '--help']\n"
        "from metatrain.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    output = python(code)
    assert "train " in output
    assert "pack " in output
    assert not {"torch", "ray", "numpy"} & set(output.splitlines()[-1].split())


def test_help_answers_within_a_second():
    def seconds():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cluster", "--help"], capture_output=True, cwd=ROOT)
        return time.perf_counter() - started

    # The best of a few, since the machine may be busy with something else.
    assert min(seconds() for _ in range(5)) < 1.0

"""Rules of docs/style.md that a few lines can hold."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPENINGS = ("What ", "How ", "Where ", "Who ", "Whose ", "Of ", "That ")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize(
    "package", ["metatrain", "cluster", "tuning", "k8s", "serving", "benchmarks"]
)
def test_a_docstring_opens_with_a_verb_or_a_noun(package):
    odd = [
        f"{file.relative_to(ROOT)}: {text.splitlines()[0]}"
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, DOCUMENTED)
        and (text := ast.get_docstring(node) or "").startswith(OPENINGS)
    ]
    assert not odd, "\n".join(odd)


def test_a_public_class_has_a_name_of_its_own():
    places: dict[str, list[str]] = {}
    for package in ("metatrain", "cluster", "tuning", "k8s", "serving"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    shared = {name: files for name, files in places.items() if len(files) > 1}
    assert not shared, shared

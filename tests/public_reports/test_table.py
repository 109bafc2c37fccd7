"""The table of README.md: every test that it names exists, and it names every test of its own."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COLUMNS = ["kind", "situation", "what is right", "report", "test"]


def table() -> list[dict[str, str]]:
    """Read the rows of the table."""
    lines = (HERE / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    header, _, *rows = rows
    assert header == COLUMNS
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def names_in(file: Path) -> set[str]:
    """Return the names of a file's tests."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", table(), ids=lambda row: row["situation"])
def test_a_row_is_complete_and_names_a_test_that_exists(row):
    file, _, name = row["test"].partition("::")
    assert name.startswith("test_")
    assert name in names_in(HERE.parent / file)
    assert re.fullmatch(r"([\w.-]+/[\w.-]+#\d+)?", row["report"])
    assert all(row[column] for column in ("kind", "situation", "what is right"))


def test_every_situation_that_was_tried_is_in_the_table():
    tried = {name for name in names_in(HERE / "test_tried.py") if name.startswith("test_")}
    named = {row["test"].partition("::")[2] for row in table()}
    assert tried <= named

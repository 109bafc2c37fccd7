"""The table of win rates, and its verdict on the goal."""

import json

import pytest

from benchmarks.preferences.cells import LEARNED, RaterCells
from benchmarks.preferences.table import WinRates, between, markdown
from metatrain.preferences.prefer import DIRECT
from metatrain.preferences.starts import Settings

RATERS = [("task", number) for number in range(6)]


def win_rates(folder, standard, learned):
    """Write cells of 20 and 100 choices with these win rates, and read them."""
    for task, rater in RATERS:
        off = 0.01 * (rater - 2.5)
        for count in (20, 100):
            values = {
                "unadapted": 0.5,
                DIRECT: standard[count] + off,
                LEARNED: learned[count] + off,
            }
            scores = {name: {"win": win, "kid": 0.1} for name, win in values.items()}
            (folder / f"{rater}-{task}-{count}.json").write_text(json.dumps(scores))
    cells = RaterCells(None, {}, folder, Settings())
    return WinRates(cells, RATERS, [20, 100])


@pytest.mark.parametrize(
    ("standard", "learned", "verdict"),
    [
        (0.8, 0.85, "Goal met: from the standard start 80.0% after 100 choices; from the "),
        (0.8, 0.7, "Goal missed: from the standard start 80.0% after 100 choices; from the "),
        (
            0.45,
            0.9,
            "Goal undecided: from the standard start 45.0% after 100 choices, which ",
        ),
    ],
    ids=["met", "missed", "undecided"],
)
def test_the_verdict(standard, learned, verdict, tmp_path):
    wins = win_rates(tmp_path, {20: 0.6, 100: standard}, {20: learned, 100: 0.9})
    assert wins.verdict().startswith(verdict)
    text = between("a\n<b>\nold\n<e>\nz", markdown(wins.rows()), "<b>", "<e>")
    assert f"| 100 | {DIRECT} | {standard:.1%} | " in text
    assert "old" not in text and text.startswith("a\n<b>\n|") and text.endswith("|\n<e>\nz")

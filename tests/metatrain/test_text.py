"""Text for people: counts, reasons, and what strangers wrote."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metatrain.base.text import counted, printable, printable_lines, reason_of


@given(st.text())
def test_no_terminal_obeys_what_is_printed(text):
    line = printable(text)
    assert not {unicodedata.category(c) for c in line} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(c) for c in line} & {
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    }
    line.encode()


@pytest.mark.parametrize("name", ["a b", "日本語", "नमस्ते", "👩\u200d👧", "می\u200cخواهم", "C:\\x"])
def test_names_of_people_stay_as_they_are(name):
    assert printable(name) == name


def test_an_escaped_text_is_one_line_and_ours_keep_theirs():
    hostile = "a\x1b[2J\x9b1m\r\nevery hash is right\u2028\u202egnp"
    assert printable(hostile) == ("a\\x1b[2J\\x9b1m\\r\\nevery hash is right\\u2028\\u202egnp")
    assert printable_lines("a\x07\n  b") == "a\\x07\n  b"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 tasks"), (1, "1 task"), (1.0, "1 task"), (0.5, "0.5 tasks"), (2000, "2,000 tasks")],
)
def test_a_count_agrees_with_its_noun(count, text):
    assert counted(count, "task") == text


def chained():
    try:
        try:
            raise OSError("the token has expired")
        except OSError as error:
            raise ValueError("Could not load:\n  the bucket.") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(), "ValueError"),
        (ValueError("\nTo fix this, either:\n - a\n - b.\n"), "To fix this, either: - a - b"),
        (
            ValueError("x\nTraceback (most recent call last):\n  File\nKeyError: 'a'\n"),
            "KeyError: 'a",
        ),
        (chained(), "Could not load: the bucket (the token has expired)"),
        (ValueError("a\x1b[2J"), "a\\x1b[2J"),
    ],
)
def test_the_cause_of_a_foreign_error_is_kept_in_one_line(error, reason):
    assert reason_of(error) == reason


def test_a_long_reason_is_cut():
    assert len(reason_of(ValueError("x" * 10_000))) < 500

"""Text for people: counted nouns, the reasons of errors, and what strangers wrote."""

import unicodedata
from collections.abc import Iterable

# What moves the cursor, rings, colours, breaks a line or turns the direction of writing. Other
# formatting characters join letters and emoji, and are part of names.
_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = {*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}

_REASON_CHARACTERS = 400
_TRACEBACK = "Traceback (most recent call last)"


def printable(text: str) -> str:
    r"""Return text of unknown origin with control characters escaped, a line feed as \n.

    Whatever prints names of tasks, licences or other texts of data and models passes them through
    here, for a terminal or a log would obey them.
    """
    # Pictures in pages are texts too, of many megabytes.
    return text if text.isascii() and text.isprintable() else "".join(map(_printable, text))


def printable_lines(text: str) -> str:
    """Return `printable` text whose line feeds are ours, and stay."""
    return "\n".join(map(printable, text.split("\n")))


def listed(names: Iterable[str]) -> str:
    """Return `printable` names with commas between them, or "none"."""
    return ", ".join(map(printable, names)) or "none"


def _printable(character: str) -> str:
    if unicodedata.category(character) in _CATEGORIES or character in _DIRECTIONS:
        return character.encode("unicode_escape").decode()
    return character


def counted(count: float, noun: str) -> str:
    """Return a count with its noun, as in "1 worker" and "2,000 workers"."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"


def reason_of(error: BaseException) -> str:
    """Return why other software failed, in one line: what the error says, and its cause.

    Of a traceback in the message only the last line is kept, which is the cause.
    """
    text = _message(error)
    cause = error.__cause__
    while cause is not None:
        message = _message(cause)
        if message not in text:
            text = f"{text} ({message})"
        cause = cause.__cause__
    return text if len(text) <= _REASON_CHARACTERS else f"{text[:_REASON_CHARACTERS]} ..."


def _message(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(_TRACEBACK in line for line in lines):
        lines = lines[-1:]
    return printable(" ".join(lines).strip("'").rstrip(".:; ") or type(error).__name__)

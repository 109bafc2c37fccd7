"""Sentences about values that pydantic refuses."""

import json
from collections.abc import Callable
from typing import Any

from pydantic_core import ErrorDetails


def refusal(detail: ErrorDetails, key: str, hint: Callable[[], str], prefix: str = "") -> str:
    """Return the sentence about one refused value.

    Args:
        detail: the refusal.
        key: the dotted key of the value.
        hint: what follows "there is no key ..." where the key is unknown.
        prefix: what precedes a sentence of a validator of ours.
    """
    if detail["type"] == "extra_forbidden":
        return f"there is no key '{key}'{hint()}"
    if detail["type"] == "value_error":
        return prefix + detail["msg"].removeprefix("Value error, ")
    allowed = detail["msg"].replace("Input should be", "allowed is")
    return f"{key} is {shown(detail['input'])}; {allowed}."


def shown(value: Any) -> str:
    """Return a value as a message shows it."""
    return json.dumps(value, default=str)

"""Sentences about values that pydantic refuses."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from metatrain.base.text import printable

# Pydantic's words for a type, or for what is wrong with a value of it, by the kind of error.
_ALLOWED = {
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer of fewer digits",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list, as in [1, 2]",
    "tuple_type": "a list, as in [1, 2]",
    "string_type": "a text",
    "string_pattern_mismatch": "a text of the pattern {pattern}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "dict_type": "keys with values, as in {{key: value}}",
    "model_type": "keys with values, as in {{key: value}}",
    "model_attributes_type": "keys with values, as in {{key: value}}",
}

# What pydantic adds to the place of a value of several types, such as `literal['auto']`.
_MOST_SHOWN = 200
_ALTERNATIVE = re.compile(r"(constrained-|literal\[).*")


def refusal(
    details: Sequence[ErrorDetails], key: str, hint: Callable[[], str], prefix: str = ""
) -> str:
    """Return the sentence about one refused value.

    Args:
        details: the refusals of the value, one for each type that it may have.
        key: the dotted key of the value.
        hint: what follows "there is no key ..." where the key is unknown.
        prefix: what precedes a sentence of a validator of ours.
    """
    detail = details[0]
    if detail["type"] == "extra_forbidden":
        return f"there is no key '{key}'{hint() or '.'}"
    if detail["type"] == "value_error":
        return prefix + detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "missing":
        return f"{key} is missing; set it."
    alternatives = " or ".join(dict.fromkeys(_allowed(detail) for detail in details))
    return f"{key} is {shown(detail['input'])}; allowed is {alternatives}."


def _allowed(detail: ErrorDetails) -> str:
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        return f"a text, in quotes, as in '\"{shown(detail['input'])}\"'"
    if detail["type"] in _ALLOWED:
        return _ALLOWED[detail["type"]].format(**detail.get("ctx", {}))
    return detail["msg"].replace("Input should be ", "")


def by_value(details: Sequence[ErrorDetails]) -> list[tuple[list[str], list[ErrorDetails]]]:
    """Group refusals by the place of their value, which comes with each group."""
    groups: list[tuple[list[str], list[ErrorDetails]]] = []
    for detail in details:
        place = [str(part) for part in detail["loc"]]
        if place and _ALTERNATIVE.fullmatch(place[-1]):
            place.pop()
        if groups and groups[-1][0] == place and detail["type"] != "value_error":
            groups[-1][1].append(detail)
        else:
            groups.append((place, [detail]))
    return groups


def shown(value: Any) -> str:
    """Return a value as a message shows it: the beginning of one that would fill a page."""
    text = printable(json.dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."

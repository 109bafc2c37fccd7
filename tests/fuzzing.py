"""Mutated files and values for fuzz targets, and the bounds that every outcome keeps.

METATRAIN_FUZZ_EXAMPLES=10000 looks for longer than the 300 examples of most targets.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from metatrain.base.errors import UserError

EXAMPLES = int(os.environ.get("METATRAIN_FUZZ_EXAMPLES", "300"))
FUZZ = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# For targets of which there are several, or whose examples take long.
FEWER, FEWEST = (settings(FUZZ, max_examples=max(1, EXAMPLES // n)) for n in (5, 12))
TIMEOUT = pytest.mark.timeout(max(300, 5 * EXAMPLES))

# CPU of one example on any machine, and memory beyond what the process has.
SECONDS, MEGABYTES = 20, 400

# Values that a stranger would try in the place of another, by its kind or of any.
INTEGERS = st.one_of(
    st.sampled_from([-1, 0, 1, 2**31 - 1, 2**31, 2**53, 2**62, 2**63, 2**64, 10**400, -(2**63)]),
    st.integers(),
)
NUMBERS = st.one_of(
    INTEGERS, st.sampled_from([1e308, -1e308, 5e-324, float("nan"), float("inf")]), st.floats()
)
TEXTS = st.one_of(
    st.sampled_from(["", "..", "../x", "/etc/passwd", "s3://x/y", "\x00", "\ud800", "a" * 5000]),
    st.sampled_from(["\x1b[2J", "\u202e", "<script>", "\n", "1"]),
    st.text(max_size=8),
)
HOSTILE = st.one_of(
    INTEGERS,
    NUMBERS,
    TEXTS,
    st.sampled_from([True, None]),
    st.sampled_from([[], {}, [[]], {"name": "dit"}, {"name": []}, [1] * 100, {"": {"": ""}}]),
)


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with bytes changed, removed, repeated or inserted, most of them near its ends."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        near = st.integers(0, min(len(result), 200))
        at = draw(st.one_of(near, near.map(lambda n: len(result) - n), st.integers(0, len(result))))
        length = draw(st.sampled_from([0, 1, 1, 1, 2, 4, 8, 64, len(result)]))
        new = draw(
            st.one_of(
                st.binary(min_size=length if length < 9 else 0, max_size=8),
                st.sampled_from([b"", b"\xff" * 8, b"\x00" * 8, b"9" * 20, b"[" * 5000]),
                st.just(bytes(result[at : at + 64])),
            )
        )
        result[at : at + length] = new
    return bytes(result)


@st.composite
def altered(draw: st.DrawFn, values: Any) -> Any:
    """Plain values with some leaf or branch replaced, removed or renamed."""
    result = json.loads(json.dumps(values))
    for _ in range(draw(st.integers(1, 3))):
        place, key = draw(st.sampled_from([*_places(result)]))
        match draw(st.sampled_from(["replace", "replace", "alike", "alike", "remove", "rename"])):
            case "remove":
                del place[key]
            case "rename" if isinstance(place, dict):
                place[draw(st.text(max_size=5))] = place.pop(key)
            case "alike":
                place[key] = deepcopy(draw(_alike(place[key])))
            case _:
                place[key] = deepcopy(draw(HOSTILE))
        if not result:
            return result
    return result


def _alike(value: Any) -> st.SearchStrategy[Any]:
    """Return other values of the kind of `value`; a list is longer or shorter."""
    if isinstance(value, str):
        return TEXTS
    if isinstance(value, list):
        return st.sampled_from([value + value[:1], value[1:], value[::-1]])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return INTEGERS if isinstance(value, int) else NUMBERS
    return HOSTILE


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(values) if isinstance(values, dict) else range(len(values))
    for key in keys:
        yield values, key
        if isinstance(values[key], dict | list):
            yield from _places(values[key])


def memory(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if field in line)


@contextmanager
def bounds() -> Iterator[None]:
    """Little time and memory; the peak of memory is known on Linux alone."""
    refs = Path("/proc/self/clear_refs")
    measured = os.access(refs, os.W_OK)
    if measured:
        refs.write_text("5")
    before, started = memory("VmRSS") if measured else 0, time.process_time()
    yield
    assert time.process_time() - started < SECONDS
    if measured:
        assert memory("VmHWM") - before < MEGABYTES


def outcome(read: Callable[[], object], *refusals: type[Exception]) -> None:
    """Read within bounds; an error that is no sentence for a person fails the test."""
    with bounds():
        try:
            read()
        except (UserError, *refusals) as error:
            assert 0 < len(str(error)) < 20_000

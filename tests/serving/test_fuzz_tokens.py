"""Mutated files of tokens: clients or a sentence, and never a client that is not in the form."""

import json

import pytest
from fuzzing import FUZZ, TIMEOUT, altered, damaged, outcome
from hypothesis import given
from hypothesis import strategies as st

from serving.tokens import NAME, clients_in

pytestmark = TIMEOUT

CLIENTS = {
    "default": {"token": "a" * 32},
    "ward-3": {"token": "b" * 32, "days": 2.5, "jobs": 1, "uploads": 2, "listeners": 3},
    "forever": {"token": "c" * 200, "days": None},
}
CONTENT = json.dumps(CLIENTS, indent=2).encode()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokens.json"
    path.touch(0o600)
    return path


def read(file):
    clients = clients_in(file)
    tokens = {client.token for client in clients.values()}
    assert len(tokens) == len(clients) > 0 and min(map(len, tokens)) >= 22
    assert all(NAME.fullmatch(name) for name in clients)


@given(content=st.one_of(st.binary(max_size=300), damaged(CONTENT)))
@FUZZ
def test_a_damaged_file_of_tokens(file, content):
    file.write_bytes(content)
    outcome(lambda: read(file))


@given(values=altered(CLIENTS))
@FUZZ
def test_other_values_in_a_file_of_tokens(file, values):
    file.write_bytes(json.dumps(values).encode())
    outcome(lambda: read(file))

"""The short names of keys in the table of trials."""

from hypothesis import given
from hypothesis import strategies as st

from tuning.trial_table import short_name

_WORDS = st.sampled_from(["inner", "meta", "lr", "steps", "scope"])
_KEYS = st.sets(st.lists(_WORDS, min_size=1, max_size=3).map(".".join), min_size=1, max_size=6)


@given(_KEYS)
def test_every_key_has_another_short_name(keys):
    names = {key: short_name(key, keys) for key in keys}
    assert len(set(names.values())) == len(keys)
    assert all(f".{key}".endswith(f".{name}") for key, name in names.items())


def test_short_names_are_no_longer_than_necessary():
    keys = ["inner.lr", "meta.lr", "inner.steps", "inner.scope.name"]
    assert [short_name(key, keys) for key in keys] == ["inner.lr", "meta.lr", "steps", "scope"]

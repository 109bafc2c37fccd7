"""Values that workers exchange arrive to the bit, and nothing else is sent."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from metatrain.training.exchange import decoded, encoded

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
shapes = st.lists(st.integers(0, 3), max_size=3)
tensors = st.builds(
    lambda shape, dtype, fill: torch.full(shape, fill).to(dtype),
    shapes,
    st.sampled_from(DTYPES),
    st.floats(-10, 10),
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), tensors
)
values = st.recursive(
    leaves,
    lambda parts: st.lists(parts) | st.dictionaries(st.text() | st.just("tensor"), parts),
    max_leaves=10,
)


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, dict):
        assert [*one] == [*other]
        assert_same([*one.values()], [*other.values()])
    else:
        assert one == other or (math.isnan(one) and math.isnan(other))


@given(values)
def test_a_value_arrives_to_the_bit(value):
    assert_same(decoded(encoded(value)), value)


def test_views_of_one_tensor_and_transposed_ones_arrive():
    whole = torch.arange(6.0).view(2, 3)
    assert_same(decoded(encoded([whole, whole[0], whole.T])), [whole, whole[0], whole.T])


def test_a_tuple_arrives_as_a_list():
    assert decoded(encoded((1, ("a", None)))) == [1, ["a", None]]


@dataclass
class Other:
    number: int = 0


@pytest.mark.parametrize("value", [Other(), {1: "a"}, {"a"}, b"bytes", [Other()]])
def test_what_would_need_a_pickle_is_refused(value):
    with pytest.raises(TypeError):
        encoded(value)

"""Slices of tensors: fragments join to the whole again, each element once."""

from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metatrain.training.fragments import batches_of, fragment_of, joined, share_of
from metatrain.training.partition import Partition, shapes_of

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
TREES = st.dictionaries(st.text(max_size=3), SHAPES, max_size=6).map(
    lambda shapes: {name: torch.randn(shape) for name, shape in shapes.items()}
)


def fragments_of(tree):
    return [fragment_of(name, tensor) for name, tensor in tree.items()]


def assemble(fragments):
    """Join fragments, in any order, to whole tensors."""
    by_name = {}
    for fragment in fragments:
        by_name.setdefault(fragment.name, []).append(fragment)
    return {
        name: joined(parts, 0, prod(parts[0].shape)).reshape(parts[0].shape)
        for name, parts in by_name.items()
    }


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) and a[name].shape == b[name].shape for name in a)


@given(TREES, st.integers(1, 9))
def test_the_shares_of_all_workers_are_the_whole_tree(tree, world):
    shares = [share_of(fragments_of(tree), rank, world) for rank in range(world)]
    assert_same(assemble(f for share in reversed(shares) for f in share), tree)


@given(TREES, st.integers(1, 9))
def test_shares_are_even(tree, world):
    sizes = [
        sum(f.values.numel() for f in share_of(fragments_of(tree), r, world)) for r in range(world)
    ]
    assert max(sizes) - min(sizes) <= 1


@given(TREES, st.integers(1, 4), st.integers(1, 3), st.data())
def test_the_local_trees_of_all_workers_and_their_copies_are_the_whole_tree(
    tree, shards, copies, data
):
    whole = Partition.whole(shapes_of(tree)).slices
    cuts = {
        name: [0, *sorted(data.draw(st.integers(0, n)) for _ in range(shards - 1)), n]
        for name, (_, n) in whole.items()
    }
    results = []
    for shard, copy in product(range(shards), range(copies)):
        slices = {name: (at[shard], at[shard + 1]) for name, at in cuts.items()}
        partition = Partition(shapes=shapes_of(tree), slices=slices, copy=copy, copies=copies)
        local = partition.local(tree)
        assert all(local[n].shape == tree[n].shape for n in tree if slices[n] == whole[n])
        own = [partition.fragment(name, name, value) for name, value in local.items()]
        results += share_of(own, copy, copies)
    assert_same(assemble(results), tree)


@given(TREES, st.integers(1, 9), st.integers(8, 100))
def test_batches_are_small_and_lose_nothing(tree, world, size):
    fragments = [f for rank in range(world) for f in share_of(fragments_of(tree), rank, world)]
    batches = list(batches_of(fragments, size))
    assert all(sum(f.values.nbytes for f in batch) <= size for batch in batches)
    assert_same(assemble(f for batch in batches for f in batch), tree)


@given(st.integers(0, 30), st.data())
def test_any_slice_comes_from_the_fragments_that_it_touches(length, data):
    tree = {"w": torch.arange(length)}
    start = data.draw(st.integers(0, length))
    stop = data.draw(st.integers(start, length))
    shares = [f for rank in range(4) for f in share_of(fragments_of(tree), rank, 4)]
    cuts = [f.cut(start, stop) for f in shares]
    touched = [cut for cut in cuts if cut.values.numel()]
    if touched:
        assert torch.equal(joined(touched, start, stop), tree["w"][start:stop])
    else:
        assert start == stop


@pytest.mark.parametrize("wrong", ["missing", "twice"])
def test_what_is_missing_or_comes_twice_is_refused(wrong):
    tree = {"w": torch.arange(10.0)}
    fragments = [f for rank in range(3) for f in share_of(fragments_of(tree), rank, 3)]
    fragments = fragments[1:] if wrong == "missing" else [*fragments, fragments[0]]
    with pytest.raises(ValueError, match="are missing or come twice"):
        assemble(fragments)


def test_a_fragment_is_a_view():
    tree = {"w": torch.zeros(4, 2)}
    fragments_of(tree)[0].values[3] = 1.0
    assert tree["w"][1, 1] == 1.0

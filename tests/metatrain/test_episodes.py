import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metatrain.base.errors import UserError
from metatrain.data.packed.store import Task
from metatrain.data.slots import slots_of
from metatrain.data.tasks.class_sampler import ClassSampler

counts = st.lists(st.integers(4, 40), min_size=1, max_size=30)


def sampler(image_counts, meta_batch=4, seed=0, shots=2, queries=2, split="train", **options):
    tasks = [Task(f"t{i}", split, count) for i, count in enumerate(image_counts)]
    return ClassSampler(
        tasks,
        shots=shots,
        queries=queries,
        meta_batch=meta_batch,
        seed=seed,
        split=split,
        **options,
    )


@given(counts, st.integers(1, 9), st.integers(0, 2**32), st.integers(0, 10_000))
def test_the_same_episodes_come_at_any_world_size(image_counts, meta_batch, seed, step):
    plans = [sampler(image_counts, meta_batch, seed).plan(step, slot) for slot in range(meta_batch)]
    for world in (1, 2, 3, 8):
        taken = {}
        for rank in range(world):
            # Every worker has a sampler of its own, which knows nothing of the others'.
            own = sampler(image_counts, meta_batch, seed)
            taken |= {slot: own.plan(step, slot) for slot in slots_of(rank, world, meta_batch)}
        assert [taken[slot] for slot in range(meta_batch)] == plans


@given(counts, st.integers(1, 9), st.integers(0, 50))
def test_resuming_at_any_step_gives_the_episodes_of_an_uninterrupted_run(counts_, batch, start):
    def episodes(sampler_, first):
        return [sampler_.plan(step, slot) for step in range(first, 55) for slot in range(batch)]

    uninterrupted = episodes(sampler(counts_, batch), 0)
    assert episodes(sampler(counts_, batch), start) == uninterrupted[start * batch :]


@given(counts, st.integers(1, 9), st.integers(0, 3))
def test_every_task_comes_once_an_epoch(image_counts, meta_batch, epoch):
    drawn = sampler(image_counts, meta_batch)
    first = epoch * len(image_counts)
    names = [
        drawn.plan(*divmod(n, meta_batch)).task.name
        for n in range(first, first + len(image_counts))
    ]
    assert Counter(names) == {f"t{i}": 1 for i in range(len(image_counts))}


@given(counts, st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000))
def test_support_and_query_are_disjoint_even_when_images_repeat(image_counts, shots, queries, step):
    plan = sampler(image_counts, shots=shots, queries=queries, too_few="repeat").plan(step, 0)
    assert not set(plan.support) & set(plan.query)
    assert (len(plan.support), len(plan.query)) == (shots, queries)
    assert set(plan.support) | set(plan.query) <= set(range(plan.task.count))


@given(st.integers(8, 40), st.integers(0, 1000))
def test_no_image_repeats_where_the_task_has_enough(count, step):
    plan = sampler([count], shots=4, queries=4, too_few="repeat").plan(step, 0)
    assert len(set(plan.support + plan.query)) == 8


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_splits_seeds_steps_and_slots_draw_independently(seed):
    def draws(**options):
        return sampler([40] * 9, **({"seed": seed} | options))

    base = draws().plan(3, 1).seed
    others = [draws(seed=seed + 1), draws(split="val")]
    assert base not in [other.plan(3, 1).seed for other in others]
    assert base not in [draws().plan(3, 2).seed, draws().plan(4, 1).seed]


def test_without_sources_the_episodes_are_those_that_they_always_were():
    digest = hashlib.sha256()
    for too_few in ("repeat", "skip"):
        for shots, queries in ((2, 2), (5, 5), (8, 3)):
            drawn = sampler(
                [40, 9, 4, 25, 12, 3, 64], seed=7, shots=shots, queries=queries, too_few=too_few
            )
            for plan in (drawn.plan(step, slot) for step in range(40) for slot in range(4)):
                told = (plan.task.name, plan.support, plan.query, plan.seed)
                digest.update(repr(told).encode())
    known = "7a7896b51765fa777318da0e40f5aa15aee7bae6e5762f7917288ba64c8da81c"
    assert digest.hexdigest() == known, "every run that has begun would go on with other episodes"


def drawn_from(sources, shots, queries, step=0, too_few="repeat"):
    firsts = {}
    task = Task(
        "t", "train", len(sources), tuple(firsts.setdefault(s, i) for i, s in enumerate(sources))
    )
    options = {"meta_batch": 1, "seed": 0, "split": "train", "too_few": too_few}
    return ClassSampler([task], shots=shots, queries=queries, **options).plan(step, 0)


@given(
    st.lists(st.integers(0, 9), min_size=4, max_size=60),
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(0, 1000),
)
def test_support_and_query_come_from_different_sources(sources, shots, queries, step):
    plan = drawn_from(sources, shots, queries, step)
    assert not set(plan.support) & set(plan.query)
    assert (len(plan.support), len(plan.query)) == (shots, queries)
    largest = Counter(sources).most_common(1)[0][1]
    if len(sources) >= shots + queries + largest - 1:
        assert not {sources[i] for i in plan.support} & {sources[i] for i in plan.query}
        assert len(set(plan.support + plan.query)) == shots + queries


@given(st.integers(4, 40), st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
def test_images_that_all_have_their_own_source_are_drawn_as_if_it_were_unknown(n, k, q, step):
    plain = sampler([n], 1, shots=k, queries=q, too_few="repeat").plan(step, 0)
    plan = drawn_from(range(n), k, q, step)
    assert (plan.support, plan.query, plan.seed) == (plain.support, plain.query, plain.seed)


def test_the_support_is_any_images_whose_sources_the_query_can_spare():
    sources = [i // 3 for i in range(30)]
    for step in range(20):
        plain = sampler([30], 1, shots=5, queries=9).plan(step, 0)
        assert drawn_from(sources, shots=5, queries=9, step=step).support == plain.support


def test_a_task_of_one_source_still_gives_disjoint_episodes():
    plan = drawn_from([0] * 8, shots=4, queries=4)
    assert sorted(plan.support + plan.query) == list(range(8))


def test_a_task_with_too_few_images_is_refused_by_name():
    with pytest.raises(UserError, match=r"'t1' \(3\).*data.too_few"):
        sampler([9, 3, 9])
    assert [task.name for task in sampler([9, 3, 9], too_few="skip").tasks] == ["t0", "t2"]
    assert len(sampler([9, 3, 9], too_few="repeat").tasks) == 3
    with pytest.raises(UserError, match="has no task with 4 images"):
        sampler([3], too_few="skip")

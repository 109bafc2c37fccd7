"""The bytes that workers send in an outer step: real processes over gloo, counted."""

from itertools import product

import pytest

from benchmarks.cluster.sent_bytes import WORLD, case, sent_in_a_step
from metatrain.model.build import build_theta
from metatrain.plan.collectives import transfers_of
from metatrain.plan.layout import layout_of

CASES = [*product(("reptile",), (0, 1, 2, 3)), ("fomaml", 1), ("maml", 2)]
INNER_STEPS = (1, 3)


@pytest.fixture(scope="module")
def collectives():
    """The collectives of an outer step, by learner, stage and inner steps."""
    keys = [(*one, steps) for one in CASES for steps in INNER_STEPS]
    return dict(zip(keys, sent_in_a_step([case(*key) for key in keys]), strict=True))


@pytest.mark.parametrize(("learner", "stage"), CASES)
def test_workers_communicate_per_outer_step_and_not_per_inner_step(collectives, learner, stage):
    few, many = (collectives[learner, stage, steps] for steps in INNER_STEPS)
    assert few, "the workers communicate"
    assert few == many


@pytest.mark.parametrize(("learner", "stage"), CASES)
def test_a_plan_predicts_the_bytes_that_are_sent(collectives, learner, stage):
    config = case(learner, stage)
    count = sum(p.numel() for p in build_theta(config).named().values())
    layout = layout_of(config, WORLD, sharded=False)
    transfers = transfers_of(config, layout, count=count, passes=0)
    # In addition there are the metrics, and padding.
    small = 256
    predicted, sent = (
        sum(one.sent for one in each) for each in (transfers, collectives[learner, stage, 1])
    )
    assert predicted <= sent <= predicted + small


def test_no_transfer_sends_less_than_the_least():
    for stage, sharded in ((0, False), (1, False), (2, False), (3, False), (3, True)):
        config = case("reptile", stage)
        layout = layout_of(config, WORLD, sharded=sharded)
        transfers = transfers_of(config, layout, count=1000, passes=2)
        assert all(transfer.sent >= transfer.least > 0 for transfer in transfers)

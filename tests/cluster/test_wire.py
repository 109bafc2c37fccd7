"""What workers say to each other in an outer step: real processes over gloo, counted."""

from itertools import product

import pytest

from benchmarks.cluster.wire import WORLD, case, sent_in_a_step
from metatrain.model.build import build_generator
from metatrain.plan.collectives import legs_of
from metatrain.plan.layout import layout_of

CASES = [*product(("reptile",), (0, 1, 2)), ("fomaml", 1), ("maml", 2)]
INNER_STEPS = (1, 3)


@pytest.fixture(scope="module")
def found():
    """What was sent, by learner, stage and inner steps."""
    keys = [(*one, steps) for one in CASES for steps in INNER_STEPS]
    return dict(zip(keys, sent_in_a_step([case(*key) for key in keys]), strict=True))


@pytest.mark.parametrize(("learner", "stage"), CASES)
def test_workers_communicate_once_an_outer_step_and_not_once_an_inner_step(found, learner, stage):
    few, many = (found[learner, stage, steps] for steps in INNER_STEPS)
    assert few, "the workers have met"
    assert few == many


@pytest.mark.parametrize(("learner", "stage"), CASES)
def test_what_is_sent_is_what_a_plan_says(found, learner, stage):
    config = case(learner, stage)
    count = sum(p.numel() for p in build_generator(config).parameters())
    legs = legs_of(config, layout_of(config, WORLD, sharded=False), count, passes=0)
    # Beside it go the metrics, and what makes theta divide by the workers.
    small = 256
    predicted = sum(leg.sent for leg in legs)
    assert predicted <= sum(one.sent for one in found[learner, stage, 1]) <= predicted + small


def test_no_leg_sends_less_than_the_least():
    for stage, sharded in ((0, False), (1, False), (2, False), (3, False), (3, True)):
        config = case("reptile", stage)
        layout = layout_of(config, WORLD, sharded=sharded)
        assert all(leg.sent >= leg.least > 0 for leg in legs_of(config, layout, 1000, 2))

"""A plan's memory compared with that of real processes."""

import pytest

from benchmarks.cluster.footprint import measured
from metatrain.config import load_config
from metatrain.plan.hardware import this_machine
from metatrain.plan.plan import plan_of

DEMO = "configs/demo.yaml"
LARGER = [
    [
        "learner.name=maml", "inner.steps=2", "generator.name=dit", "generator.width=192",
        "cluster.workers=1", "cluster.zero_stage=2",
    ],
]  # fmt: skip


@pytest.mark.parametrize("overrides", [[], *LARGER], ids=["demo", "maml-dit"])
def test_a_plan_predicts_the_memory_of_every_worker_within_20_percent(overrides):
    config = load_config(DEMO, overrides)
    planned = plan_of(config, this_machine(config.cluster.workers)).memory.peak
    for used in measured(DEMO, overrides):
        assert abs(planned - used) < 0.2 * used

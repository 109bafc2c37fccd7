"""Membership inference and the demand for privacy find a model that copies, and no other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from metatrain.base.errors import UserError
from metatrain.evaluation.privacy import demand_privacy, privacy_faults
from metatrain.evaluation.protocol import ScoredSystem
from metatrain.evaluation.results import Result
from metatrain.evaluation.scores.baselines import REAL
from metatrain.evaluation.scores.membership import membership
from metatrain.evaluation.scores.statistics import mean_of, score


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 5))
def test_the_auroc_is_that_of_each_episode_on_average(seed, support, others):
    generator = np.random.default_rng(seed)
    ours = generator.integers(0, 6, (2, 3, support)).astype(float)  # with ties
    theirs = generator.integers(0, 6, (2, 3, others)).astype(float)
    labels = [1] * support + [0] * others
    expected = np.mean(
        [roc_auc_score(labels, [*-ours[s, t], *-theirs[s, t]]) for s in range(2) for t in range(3)]
    )
    result = membership(torch.tensor(ours), torch.tensor(theirs))
    assert result.auroc.value == pytest.approx(expected)
    assert 0 <= result.auroc.low <= result.auroc.value <= result.auroc.high <= 1


def test_memorised_images_are_told_and_others_are_not():
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(3, 40, 12, generator=generator, dtype=torch.float64) + 1
    told = membership(losses[..., :4] - 1, losses[..., 4:])
    assert told.auroc.value == 1 and told.gap.low > 0.5
    unknown = membership(losses[..., :4], losses[..., 4:])
    assert unknown.auroc.low < 0.5 < unknown.auroc.high
    assert unknown.gap.low < 0 < unknown.gap.high


def scored(shares: dict[str, float], spread: float = 0.05) -> ScoredSystem:
    values = {}
    for index, (space, share) in enumerate(shares.items()):
        noise = torch.randn(20, generator=torch.Generator().manual_seed(index)) * spread
        values[space] = {"memorised": score(mean_of(share + noise - noise.mean()), 20)}
    result = Result(
        name="", about="", sha256="", scores={}, own_task=[], task_kid=[], curve={}
    )  # fmt: skip
    return ScoredSystem(result, values)


def real(spread: float = 0.05) -> ScoredSystem:
    values = {}
    for index, space in enumerate(("net", "HOG")):
        noise = torch.randn(20, generator=torch.Generator().manual_seed(7 + index)) * spread
        values[space] = {"memorised": score(mean_of(0.05 + noise - noise.mean()), 20)}
    return ScoredSystem(scored({}).result, values)


def test_a_copier_is_refused_by_any_space_and_no_more_than_real_images_is_not():
    systems = {
        REAL: real(),
        "honest": scored({"net": 0.05, "HOG": 0.0}),
        "copier": scored({"net": 0.05, "HOG": 0.4}),
        "unclear": scored({"net": 0.051, "HOG": 0.05}),
    }
    assert privacy_faults(systems, ["honest", "unclear"]) == []
    [fault] = privacy_faults(systems, ["honest", "copier"])
    assert fault.startswith("copier in HOG: +35.0 points [")
    demand_privacy([])
    with pytest.raises(UserError, match="copier in HOG"):
        demand_privacy([fault])

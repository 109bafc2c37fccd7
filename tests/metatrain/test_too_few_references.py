"""Evaluations of too few images end in a sentence before anything is computed."""

import pytest
import torch

from metatrain.base.errors import UserError
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.episodes.episode_list import EpisodeList, ListedEpisode
from metatrain.evaluation.standard_protocol import refuse_too_few
from metatrain.metrics.density_coverage import density


def benchmark(tasks, images):
    listed = tuple(
        ListedEpisode(seed=0, task=f"t{i}", support=(0,), reference=(1,), held_out=(2,), noise=0)
        for i in range(tasks)
    )
    episodes = EpisodeList(benchmark="x", data="x", split="test", episodes=listed)
    real = torch.zeros(1, tasks, images, 1, 8, 8, dtype=torch.uint8)
    return Benchmark(episodes=episodes, support=real, reference=real, held_out=real)


@pytest.mark.parametrize(("tasks", "images"), [(2, 2), (1, 4), (1, 5)])
def test_too_few_reference_images_are_refused(tasks, images):
    with pytest.raises(UserError, match=f"{tasks} tasks with {images} reference images"):
        refuse_too_few(benchmark(tasks, images))


@pytest.mark.parametrize(("tasks", "images"), [(3, 2), (2, 4), (2, 3)])
def test_what_passes_can_be_scored(tasks, images):
    refuse_too_few(benchmark(tasks, images))
    features = torch.randn(tasks, images, 4, generator=torch.Generator().manual_seed(0))
    assert density(features, features).isfinite().all()

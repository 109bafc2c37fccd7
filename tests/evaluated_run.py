"""A miniature of a trained and evaluated run, with chosen numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metatrain.config import Config, load_config
from metatrain.data.pictures import png, to_uint8
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.episodes.episode_list import EpisodeList, ListedEpisode
from metatrain.evaluation.protocol import UNADAPTED
from metatrain.evaluation.results import (
    CurvePoint,
    EpisodeSet,
    Evaluation,
    Result,
    Space,
    estimates,
    write_evaluation,
)
from metatrain.evaluation.running.jobs import JobOutput
from metatrain.evaluation.scores import statistics
from metatrain.evaluation.scores.baselines import COPY, JITTERED, REAL
from metatrain.evaluation.scores.measure import SpaceScores
from metatrain.evaluation.scores.near_copies import NearCopyPicture, near_copy_file
from metatrain.evaluation.scores.statistics import Score
from metatrain.evaluation.strip_files import keep_strips
from metatrain.metrics.metric import EVALUATION_METRICS, MAIN_METRICS
from metatrain.model.build import build_theta
from metatrain.model.model import Model
from metatrain.storage.files import write_file
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.state import TrainState

OVERRIDES = ["run.name=small", "data.image_size=8", "generator.width=8", "meta.steps=20"]
STEPS = (0, 5, 10)

# KID and own-task share of copies, of samples after 0, 5 and 10 inner steps, and of real images.
SCORES = [(-0.046, 0.919), (0.111, 0.044), (0.107, 0.375), (0.007, 0.769), (-0.052, 0.925)]

NEAR_COPIES = [
    NearCopyPicture(task="first", ratio=0.25, memorised=True, psnr=None, ssim=1.0),
    NearCopyPicture(task="second", ratio=0.5, memorised=False, psnr=17.4, ssim=0.83),
]


def make_run(
    run: str,
    tasks: list[str],
    scores=SCORES,
    *,
    outer_steps: int = 20,
    seed: int = 0,
    own_task: Sequence[float] | None = None,
    overrides: Sequence[str] = (),
) -> str:
    """Write a run to the folder `run`; by default, later tasks have a higher own-task share."""
    config = load_config(None, [*OVERRIDES, *overrides])
    train(run, config)
    shares = own_task or [i / len(tasks) for i in range(len(tasks))]
    evaluation, systems = measured(tasks, config.run.name, shares, scores, outer_steps, seed)
    _keep_images(f"{run}/evaluation", tasks, sorted(evaluation.result.curve))
    write_evaluation(evaluation, systems, f"{run}/evaluation")
    return run


def train(run: str, config: Config) -> None:
    """Write the files of a training."""
    weights = build_theta(config).copy()
    history = [
        {"step": s, "loss": 2 / s, "inner_first": 3 / s, "gradient_norm": 1.0, "seconds": 0.5}
        for s in range(1, 21)
    ]
    average = {name: weight.clone() for name, weight in weights.items()}
    state = TrainState(step=20, parameters=weights, average=average, history=history)
    CheckpointStore(run).save(draft_of(state, config))
    Model(config, average, 20).save(f"{run}/model.safetensors")


def measured(
    tasks: list[str],
    name: str = "small",
    own_task: Sequence[float] = (),
    scores=SCORES,
    outer_steps: int = 20,
    seed: int = 0,
) -> tuple[Evaluation, dict[str, SpaceScores]]:
    """Return plausible numbers, all different; those of the baselines do not depend on `seed`."""
    copies, *curve_scores, real = [
        all_scores(*pair, seed=i if pair in (scores[0], scores[-1]) else i + 10 * seed)
        for i, pair in enumerate(scores)
    ]
    model = {UNADAPTED: curve_scores[0], name: curve_scores[-1]}
    systems = {COPY: copies, JITTERED: copies, **model, REAL: real}
    curve = {
        step: CurvePoint(
            estimates(of["metric network"] | {"query_loss": score(loss, 9)}), seconds=0.125 * step
        )
        for step, of, loss in zip(STEPS, curve_scores, (0.3151, 0.3191, 0.2941), strict=False)
    }
    results = {
        system: Result(
            name=system,
            about="",
            sha256="",
            scores={space: estimates(metrics) for space, metrics in spaces.items()},
            own_task=list(own_task),
            task_kid=[0.1] * len(tasks),
            curve=curve if system == name else {},
        )
        for system, spaces in systems.items()
    }
    evaluation = Evaluation(
        episodes=_episode_set(tasks),
        spaces=[Space("metric network", "e" * 64), Space("HOG", "")],
        floor=1.5,
        system=name,
        results=results,
        outer_steps=outer_steps,
        missing=["no joint"],
        near_copies=NEAR_COPIES,
    )
    return evaluation, systems


def _episode_set(tasks: list[str]) -> EpisodeSet:
    return EpisodeSet(
        benchmark="b",
        sha256="c" * 64,
        published=True,
        data="d" * 64,
        split="test",
        shots=5,
        images=3,
        seeds=2,
        tasks=tasks,
        listed=(len(tasks), 3),
    )


def all_scores(kid: float, own_task: float, seed: int) -> SpaceScores:
    """Return all scores, in two spaces."""
    values = {"kid": kid, "own_task": own_task}
    first = {name: score(values.get(name, 0.5), seed) for name in EVALUATION_METRICS}
    return {"metric network": first, "HOG": {name: first[name] for name in MAIN_METRICS}}


def score(value: float, seed: int) -> Score:
    """Return a score of 12 tasks with a standard error of 0.01."""
    noise = torch.randn(12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = value + 0.01 * (noise - noise.mean()) / noise.std() * 12**0.5
    return statistics.score(statistics.mean_of(values), 12)


def pictures(tasks: int) -> Tensor:
    """Return five images [T, 5, 1, 8, 8] of each task, all different."""
    return torch.rand(tasks, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _keep_images(folder: str, tasks: list[str], steps: list[int]) -> None:
    images = pictures(len(tasks))
    listed = [
        ListedEpisode(seed=0, task=task, support=(), reference=(), held_out=(), noise=0)
        for task in tasks
    ]
    episodes = EpisodeList(benchmark="b", data="d" * 64, split="test", episodes=tuple(listed))
    few, zeros = images[None, :, :3], torch.zeros(len(steps))
    outputs = [
        JobOutput(
            steps=torch.tensor(steps),
            images=to_uint8(torch.stack([task[:3]] * len(steps))),
            losses=zeros,
            seconds=zeros,
            surprise=zeros,
            learned=zeros,
            support_losses=zeros,
            other_losses=zeros,
        )
        for task in images
    ]
    benchmark = Benchmark(episodes=episodes, support=images[None], reference=few, held_out=few)
    keep_strips(benchmark, outputs, folder)
    for i, image in enumerate(images[0, :4]):
        write_file(f"{folder}/{near_copy_file(i // 2, ('drawn', 'given')[i % 2])}", png(image))

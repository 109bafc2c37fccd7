"""The protocol: all systems on the same episodes, with the same scores and baselines.

A system sees `shots` support images of every task and nothing else. Some of the other images are
the reference that all samples are compared with, and as many are held out as the samples of a
perfect generator. All samples are first rounded to the bits of the data, as those of other systems.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import from_levels
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.episodes.episode_list import EpisodeList
from metatrain.evaluation.results import (
    CurvePoint,
    EpisodeSet,
    Evaluation,
    Result,
    Space,
    estimates,
)
from metatrain.evaluation.running.jobs import Job, JobOutput, System
from metatrain.evaluation.scores.baselines import baselines
from metatrain.evaluation.scores.expectation_quality import ExpectationQuality, expectation_quality
from metatrain.evaluation.scores.measure import Scorer, SpaceScores
from metatrain.evaluation.scores.membership import Membership, membership
from metatrain.evaluation.scores.near_copies import keep_near_copies
from metatrain.metrics.frechet import frechet_floor
from metatrain.metrics.space import FeatureSpace
from metatrain.model.calibration import Calibration
from metatrain.model.model import Model

UNADAPTED, SCRATCH, JOINT = "unadapted", "from scratch", "joint + fine-tuning"


@dataclass(frozen=True)
class ScoredSystem:
    """A system's result, for tables, and its scores with resamples, for paired tests."""

    result: Result
    scores: SpaceScores


class Protocol:
    """Scores systems on the episodes of a benchmark.

    Args:
        store: the data set.
        whole: the list of episodes, of which the benchmark has the first.
        benchmark: the episodes with their images.
        spaces: the feature spaces; the first has all metrics.

    Attributes:
        store: the data set.
        benchmark: the episodes with their images.
        spaces: the feature spaces.
        scorer: scores images on the benchmark.
    """

    def __init__(
        self,
        store: EpisodeStore,
        whole: EpisodeList,
        benchmark: Benchmark,
        spaces: Sequence[FeatureSpace],
    ) -> None:
        self.benchmark = benchmark
        self.store, self._whole, self.spaces = store, whole, spaces
        self.scorer = Scorer(benchmark, spaces)

    @cached_property
    def _baselines(self) -> dict[str, ScoredSystem]:
        images = baselines(self.benchmark)
        return {name: self.score_images(name, "", images[name]) for name in images}

    def jobs(self, system: System, folder: str, steps: Sequence[int] = ()) -> list[Job]:
        """Return the jobs of `system`, whose outputs go under `folder`; see `Job.steps`.

        A job has tasks of one seed alone, so that fewer seeds are fewer of the same jobs.
        """
        episodes, tasks = self.benchmark.episodes, len(self.benchmark.tasks)
        listed, at_once = episodes.episodes, system.at_once
        groups = [
            listed[seed + first : seed + min(first + at_once, tasks)]
            for seed in range(0, len(listed), tasks)
            for first in range(0, tasks, at_once)
        ]
        return [
            Job(
                system=system,
                data=self.store.url,
                fingerprint=self.store.fingerprint,
                split=episodes.split,
                episodes=tuple(group),
                shots=self.benchmark.shots,
                folder=f"{folder}/work",
                steps=tuple(steps),
            )
            for group in groups
        ]

    def score_images(self, name: str, about: str, images: Tensor) -> ScoredSystem:
        """Score the samples [S, T, N, C, H, W] in [-1, 1] of a system."""
        scores = self.scorer.scores(images)
        own_task, kid = (values.tolist() for values in self.scorer.by_task(images))
        result = Result(
            name=name,
            about=about,
            sha256="",
            scores={space: estimates(metrics) for space, metrics in scores.items()},
            own_task=own_task,
            task_kid=kid,
            curve={},
        )
        return ScoredSystem(result, scores)

    def score_model(
        self, name: str, model: Model, system: System, outputs: Sequence[JobOutput]
    ) -> ScoredSystem:
        """Score a model's samples after its last inner step, with its curve over inner steps."""
        images = self.by_steps(outputs)
        steps = outputs[0].steps.tolist()
        points = [self._curve_point(outputs, images[i], i) for i in range(len(steps))]
        last = self.score_images(name, _about(model, system), images[-1])
        result = replace(
            last.result,
            sha256="" if system.untrained else system.sha256,
            curve=dict(zip(steps, points, strict=True)),
        )
        return replace(last, result=result)

    def score_unadapted(self, outputs: Sequence[JobOutput]) -> ScoredSystem:
        """Score a model's samples before its first inner step."""
        return self.score_images(UNADAPTED, "", self.by_steps(outputs)[0])

    def by_steps(self, outputs: Sequence[JobOutput]) -> Tensor:
        """Return the samples in [-1, 1] by number of inner steps, [P, S, T, N, C, H, W]."""
        images = torch.stack([output.images for output in outputs], dim=1)
        return from_levels(images.unflatten(1, (self.benchmark.episodes.seeds, -1)))

    def by_seed(self, values: Sequence[Tensor]) -> Tensor:
        """Stack a value of every job by seed and task, [S, T, ...]."""
        return torch.stack(list(values)).unflatten(0, (self.benchmark.episodes.seeds, -1))

    def final_samples(self, outputs: Sequence[JobOutput]) -> Tensor:
        """Return the samples after the last inner step, [S, T, N, C, H, W] in [-1, 1]."""
        return self.by_steps(outputs)[-1]

    def with_baselines(self, systems: dict[str, ScoredSystem]) -> dict[str, ScoredSystem]:
        """Return `systems` between the copies and the ceiling, in the order of a table."""
        *copies, (real, ceiling) = self._baselines.items()
        return {**dict(copies), **systems, real: ceiling}

    def calibration(self, system: System, outputs: Sequence[JobOutput]) -> Calibration:
        """Return a model's calibration on these episodes.

        Surprise and learning are those of the first seed's supports, one of each task, as there is
        one support of a new task.
        """
        return Calibration(
            model=system.sha256,
            benchmark=self._whole.benchmark,
            shots=self.benchmark.shots,
            surprise=self.by_seed([output.surprise for output in outputs])[0],
            learned=self.by_seed([output.learned for output in outputs])[0],
            nearer=self.scorer.nearer_tasks(self.final_samples(outputs)),
        )

    def expectation_quality(
        self, model: Model, system: System, outputs: Sequence[JobOutput]
    ) -> ExpectationQuality | None:
        """Measure the model's expectations; None if it is not calibrated with so many shots."""
        calibration = model.calibration
        if not calibration or (calibration.model, calibration.shots) != (
            system.sha256,
            self.benchmark.shots,
        ):
            return None
        return expectation_quality(
            calibration,
            surprise=self.by_seed([output.surprise for output in outputs]),
            learned=self.by_seed([output.learned for output in outputs]),
            nearer=self.scorer.nearer_tasks(self.final_samples(outputs)),
        )

    def membership(self, outputs: Sequence[JobOutput]) -> Membership:
        """Measure whether the model's losses tell the support of an episode from other images."""
        support = self.by_seed([output.support_losses for output in outputs])
        return membership(support, self.by_seed([output.other_losses for output in outputs]))

    def evaluation(
        self,
        system: str,
        systems: dict[str, ScoredSystem],
        images: Tensor,
        *,
        folder: str,
        outer_steps: int = 0,
        quality: ExpectationQuality | None = None,
        members: Membership | None = None,
    ) -> Evaluation:
        """Return the evaluation of a system, and write the pictures of its near copies.

        Args:
            system: the system's name.
            systems: the system and all others, by name, in the order of a table.
            images: the system's samples, [S, T, N, C, H, W].
            folder: the folder of the pictures.
            outer_steps: outer steps of the system's model; 0 if it has none.
            quality: the quality of the system's expectations.
            members: the success of membership inference; None without a model.
        """
        missing = [] if JOINT in systems else [f"no {JOINT}: no jointly trained model was given"]
        if quality is None:
            missing.append(
                f"no expectations: the system is not calibrated with {self.benchmark.shots} shots"
            )
        copies = self.scorer.near_copies(images)
        return Evaluation(
            episodes=self._episode_set(),
            spaces=[Space(space.name, space.sha256) for space in self.spaces],
            floor=self._frechet_floor(),
            system=system,
            results={name: scored.result for name, scored in systems.items()},
            outer_steps=outer_steps,
            missing=missing,
            near_copies=keep_near_copies(self.benchmark, images, copies, folder),
            expectation_quality=quality,
            membership=members,
        )

    def _episode_set(self) -> EpisodeSet:
        benchmark, whole = self.benchmark, self._whole
        return EpisodeSet(
            benchmark=whole.benchmark,
            sha256=whole.sha256,
            published=whole.published,
            data=whole.data,
            split=whole.split,
            shots=benchmark.shots,
            images=benchmark.images,
            seeds=benchmark.episodes.seeds,
            tasks=benchmark.tasks,
            listed=(len(whole.tasks), whole.seeds),
        )

    def _frechet_floor(self) -> float:
        features = self.spaces[0].features(self.benchmark.reference)
        return sum(frechet_floor(seed) for seed in features) / len(features)

    def _curve_point(self, outputs: Sequence[JobOutput], images: Tensor, index: int) -> CurvePoint:
        losses = self.by_seed([output.losses[index] for output in outputs])
        scores = self.scorer.curve_scores(images)
        scores["query_loss"] = self.scorer.mean_over_tasks(losses)
        seconds = torch.stack([output.seconds[index] for output in outputs])
        return CurvePoint(estimates(scores), seconds.median().item())


def _about(model: Model, system: System) -> str:
    """Describe a model in a few words."""
    config = model.config
    trained = f"{config.learner.name}, {model.step:,} outer steps"
    start = "random weights" if system.untrained else trained
    return f"{start}, {config.adapt.steps} inner steps"

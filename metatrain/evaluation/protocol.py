"""The protocol: every system on the same episodes, by the same scores, beside the same baselines.

Of every task a system sees `shots` support images and nothing else. Of the others, some are the
reference that everything is compared with, and as many play the perfect generator. All images are
rounded to 8 bits first, as those are that another system hands in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import from_uint8
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.episodes.episode_list import EpisodeList
from metatrain.evaluation.results import Episodes, Evaluation, Moment, Result, Space, estimates
from metatrain.evaluation.running.jobs import Drawn, System, Work
from metatrain.evaluation.scores.baselines import baselines
from metatrain.evaluation.scores.expectation_quality import Foresight, foresight
from metatrain.evaluation.scores.measure import Judge, Scores
from metatrain.evaluation.scores.near_copies import keep_offenders
from metatrain.metrics.frechet import floor
from metatrain.metrics.space import FeatureSpace
from metatrain.model.calibration import Calibration
from metatrain.model.file import Model

UNADAPTED, SCRATCH, JOINT = "unadapted", "from scratch", "joint + fine-tuning"


@dataclass(frozen=True)
class Entrant:
    """A system with what it got: the numbers to show, and the scores to compare."""

    result: Result
    scores: Scores


class Protocol:
    """Scores systems on the episodes of a benchmark.

    Args:
        store: the data set.
        whole: the list that the benchmark's episodes are the first of.
        benchmark: the episodes with their images.
        spaces: the feature spaces, the first of which has all metrics.
    """

    def __init__(
        self,
        store: EpisodeStore,
        whole: EpisodeList,
        benchmark: Benchmark,
        spaces: Sequence[FeatureSpace],
    ) -> None:
        self.benchmark = benchmark
        self._store, self._whole, self._spaces = store, whole, spaces
        self._judge = Judge(benchmark, spaces)

    @cached_property
    def _baselines(self) -> dict[str, Entrant]:
        found = baselines(self.benchmark)
        return {name: self.images(name, "", images) for name, images in found.items()}

    def works(self, system: System, folder: str) -> list[Work]:
        """What `system` has to do, with the outcomes to go under `folder`."""
        episodes = self.benchmark.episodes
        return [
            Work(
                system,
                self._store.url,
                self._store.fingerprint,
                episodes.split,
                episode,
                self.benchmark.shots,
                f"{folder}/work",
            )
            for episode in episodes.episodes
        ]

    def images(self, name: str, about: str, images: Tensor) -> Entrant:
        """Score images [S, T, N, C, H, W] in [-1, 1]."""
        scores = self._judge.scores(images)
        shown = {space: estimates(metrics) for space, metrics in scores.items()}
        own_task, kid = (values.tolist() for values in self._judge.by_task(images))
        return Entrant(Result(name, about, "", shown, own_task, kid, {}), scores)

    def model(self, name: str, model: Model, system: System, drawn: Sequence[Drawn]) -> Entrant:
        """Score what a model drew after its last inner step, and its way there."""
        images = self._by_steps(drawn)
        steps = drawn[0].steps.tolist()
        moments = [self._moment(drawn, images[i], i) for i in range(len(steps))]
        last = self.images(name, _about(model, system), images[-1])
        result = replace(
            last.result,
            sha256="" if system.untrained else system.sha256,
            curve=dict(zip(steps, moments, strict=True)),
        )
        return replace(last, result=result)

    def adapted(self, drawn: Sequence[Drawn]) -> Tensor:
        """What was drawn after the last inner step, [S, T, N, C, H, W] in [-1, 1]."""
        return self._by_steps(drawn)[-1]

    def calibration(self, system: System, drawn: Sequence[Drawn]) -> Calibration:
        """What a model did on these tasks, to tell what it will do on others.

        Its surprise at the first seed's supports, and what it learned of them: one of each task, as
        there will be one of any other. Of its quality the mean over seeds, which tells more of the
        task.
        """
        return Calibration(
            system.sha256,
            self._whole.benchmark,
            self.benchmark.shots,
            self._of(drawn, "surprise")[0],
            self._of(drawn, "learned")[0],
            self._judge.by_task(self.adapted(drawn))[0],
        )

    def unadapted(self, drawn: Sequence[Drawn]) -> Entrant:
        """Score what a model drew before its first inner step."""
        return self.images(UNADAPTED, "", self._by_steps(drawn)[0])

    def beside(self, entrants: dict[str, Entrant]) -> dict[str, Entrant]:
        """`entrants` between the copies and the ceiling, in the order of a table."""
        *copies, (real, ceiling) = self._baselines.items()
        return {**dict(copies), **entrants, real: ceiling}

    def evaluation(
        self,
        system: str,
        outer_steps: int,
        entrants: dict[str, Entrant],
        images: Tensor,
        folder: str,
        foresight: Foresight | None = None,
    ) -> Evaluation:
        """All that there is to know of one system, with the others beside it.

        Args:
            system: its name.
            outer_steps: outer steps behind its model; 0 where it has none.
            entrants: itself and all others, by name, in the order of a table.
            images: what it drew, [S, T, N, C, H, W]; the nearest copies are kept.
            folder: where those go.
            foresight: how good the system's expectations were.
        """
        missing = [] if JOINT in entrants else [f"no {JOINT}: give its checkpoint with --joint"]
        if foresight is None:
            missing.append("no expectation before sampling: run metatrain calibrate on the model")
        return Evaluation(
            self._episodes(),
            [Space(space.name, space.sha256) for space in self._spaces],
            self._floor(),
            system,
            {name: entrant.result for name, entrant in entrants.items()},
            outer_steps,
            missing,
            keep_offenders(self.benchmark, images, self._judge.near_copies(images), folder),
            foresight,
        )

    def _episodes(self) -> Episodes:
        benchmark, whole = self.benchmark, self._whole
        return Episodes(
            whole.benchmark,
            whole.sha256,
            whole.published,
            whole.data,
            whole.split,
            benchmark.shots,
            benchmark.images,
            benchmark.episodes.seeds,
            benchmark.tasks,
            (len(whole.tasks), whole.seeds),
        )

    def _floor(self) -> float:
        features = self._spaces[0].features(self.benchmark.reference)
        return sum(floor(seed) for seed in features) / len(features)

    def _by_steps(self, drawn: Sequence[Drawn]) -> Tensor:
        """Images in [-1, 1] by number of inner steps, [P, S, T, N, C, H, W]."""
        images = torch.stack([outcome.images for outcome in drawn], dim=1)
        return from_uint8(images.unflatten(1, (self.benchmark.episodes.seeds, -1)))

    def foresight(self, model: Model, system: System, drawn: Sequence[Drawn]) -> Foresight | None:
        """How good the model's expectations were; None where it has none of so many shots."""
        calibration = model.calibration
        if not calibration or (calibration.model, calibration.shots) != (
            system.sha256,
            self.benchmark.shots,
        ):
            return None
        measured = self._judge.by_task(self.adapted(drawn))[0]
        surprise, learned = self._of(drawn, "surprise"), self._of(drawn, "learned")
        return foresight(calibration, surprise, learned, measured)

    def _of(self, drawn: Sequence[Drawn], name: str) -> Tensor:
        """An attribute of all outcomes, [S, T, ...]."""
        values = torch.stack([getattr(outcome, name) for outcome in drawn])
        return values.unflatten(0, (self.benchmark.episodes.seeds, -1))

    def _moment(self, drawn: Sequence[Drawn], images: Tensor, index: int) -> Moment:
        seeds = (self.benchmark.episodes.seeds, -1)
        losses = torch.stack([outcome.losses[index] for outcome in drawn]).unflatten(0, seeds)
        scores = self._judge.point(images) | {"query_loss": self._judge.of_tasks(losses)}
        seconds = torch.stack([outcome.seconds[index] for outcome in drawn])
        return Moment(estimates(scores), seconds.median().item())


def _about(model: Model, system: System) -> str:
    """What a model is, in a few words."""
    config = model.config
    trained = f"{config.learner.name}, {model.step:,} outer steps"
    start = "random weights" if system.untrained else trained
    return f"{start}, {config.adapt.steps} inner steps"

"""The evaluation of the models of one data set, after every number of inner steps."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from benchmarks.payoff.cell_files import CurveScores
from benchmarks.payoff.plan import Plan
from metatrain.config import Config
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.protocol import Protocol
from metatrain.evaluation.running.jobs import JobOutput, read_outputs, system_at
from metatrain.evaluation.running.runner import LocalRunner, run_jobs
from metatrain.evaluation.scores.statistics import Score
from metatrain.evaluation.standard_protocol import standard_protocol
from metatrain.metrics.network import NETWORK

# The flow's loss on the images of the test task that the model has not adapted to.
LOSS = "query_loss"


class TestScores(NamedTuple):
    """A model's scores on the test tasks, and the seconds of adapting to one, by inner steps."""

    scores: CurveScores
    seconds: dict[int, float]


class Evaluator:
    """Scores models on the same episodes of the splits val and test.

    Args:
        plan: the file of the payoff.
        config: a configuration of the data set.
        data: the data set.
        folder: the folder of the metric network, the only one of the data set.
        workers: processes that adapt, each on one thread; 1 is this process.
    """

    def __init__(self, plan: Plan, config: Config, data: str, folder: str, workers: int) -> None:
        self._plan, self._config, self._folder = plan, config, folder
        self._store = EpisodeStore(data)
        self._runner = LocalRunner(workers)

    @cached_property
    def test(self) -> Protocol:
        """The protocol on the split test."""
        return self._protocol("test", self._plan.test_tasks)

    @cached_property
    def _validation(self) -> Protocol:
        return self._protocol("val", self._plan.validation_tasks)

    def _protocol(self, split: str, tasks: int) -> Protocol:
        data = self._config.data
        return standard_protocol(
            self._store,
            list_episodes(self._store, split),
            tasks=tasks,
            seeds=1,
            shots=data.shots,
            image_size=data.image_size,
            channels=data.channels,
            network=f"{self._folder}/{NETWORK}",
        )

    @property
    def metric_sha256(self) -> str:
        """The sha256 of the metric network."""
        return self.test.spaces[0].sha256

    def real_scores(self) -> dict[str, Score]:
        """Score the held-out real images, a perfect generator's."""
        return self._main_scores(self.test.benchmark.held_out)

    def validation_kid(self, model: str, folder: str) -> float:
        """Return a model's KID on the split val after the last inner step."""
        protocol = self._validation
        outputs = self._adapted(protocol, model, folder, self._plan.inner_steps[-1:])
        return protocol.scorer.curve_scores(protocol.final_samples(outputs))["kid"].value

    def test_scores(self, model: str, folder: str) -> TestScores:
        """Score a model on the split test.

        The seconds are the least of all tasks, since other work of the machine slows the rest.

        Args:
            model: URL of the model.
            folder: folder of the outputs; an interrupted evaluation resumes from it.
        """
        steps = self._plan.inner_steps
        outputs = self._adapted(self.test, model, folder, steps)
        samples = self.test.by_steps(outputs)
        scores: CurveScores = {}
        seconds: dict[int, float] = {}
        for i, k in enumerate(steps):
            losses = self.test.by_seed([output.losses[i] for output in outputs])
            loss = {LOSS: self.test.scorer.mean_over_tasks(losses)}
            scores[k] = self._main_scores(samples[i]) | loss
            seconds[k] = min(output.seconds[i].item() for output in outputs)
        return TestScores(scores, seconds)

    def _main_scores(self, images: Tensor) -> dict[str, Score]:
        spaces = self.test.scorer.main_scores(images)
        return {
            f"{space}/{metric}": score
            for space, metrics in spaces.items()
            for metric, score in metrics.items()
        }

    def _adapted(
        self, protocol: Protocol, url: str, folder: str, steps: Sequence[int]
    ) -> list[JobOutput]:
        system, _ = system_at(url, trust=True)
        jobs = protocol.jobs(system, folder, steps)
        run_jobs(jobs, self._runner)
        return read_outputs(jobs)

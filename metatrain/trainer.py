"""The outer loop: episodes in, outer gradients to the engine, until the last outer step."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from metatrain.average import MovingAverage
from metatrain.config import Config, MetaConfig
from metatrain.episodes import Episode
from metatrain.errors import UserError
from metatrain.generators import Generator
from metatrain.learners import Learner
from metatrain.parameters import Parameters

Record = dict[str, float]


class Engine(Protocol):
    """Holds the meta-parameters, however sharded, and applies outer gradients to them."""

    world: int

    def parameters(self) -> Parameters:
        """Theta by name: float32, whole, not to be written to."""
        ...

    def apply(self, gradient: Parameters, lr: float) -> None:
        """Average `gradient` over the workers and take one optimiser step. Collective."""
        ...

    def mean(self, values: list[float]) -> list[float]:
        """The mean of each value over the workers. Collective."""
        ...

    def optimizer_state(self) -> Parameters:
        """The optimiser's tensors as 'parameter name/state name', whole. Collective."""
        ...


@dataclass
class TrainState:
    """All that a run is at one moment; everything else follows from it and the configuration.

    Attributes:
        step: outer steps taken.
        parameters: theta.
        average: the moving average of theta, which is what gets used.
        optimizer: the outer optimiser's state.
        history: means of the metrics, one record for every stretch of training.
    """

    step: int
    parameters: Parameters
    average: Parameters
    optimizer: Parameters = field(default_factory=dict)
    history: list[Record] = field(default_factory=list)


class Observer(Protocol):
    """Who watches a run: logs it, draws it, saves it."""

    def on_step(self, step: int, record: Record) -> None:
        """Called after every outer step with its metrics."""
        ...

    def on_milestone(self, state: TrainState) -> None:
        """Called before the first step, at the cadence of checkpoints, and after the last."""
        ...


class Trainer:
    """Runs the outer loop of one worker.

    Args:
        config: the run's configuration.
        engine: applies outer gradients.
        learner: makes them.
        episodes: for every outer step from `state.step` on, this worker's episodes.
        state: where to begin.
        observers: who watches.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        learner: Learner,
        episodes: Iterable[list[Episode]],
        state: TrainState,
        observers: Sequence[Observer],
    ) -> None:
        self.config, self.engine, self.learner = config, engine, learner
        self.episodes, self.observers = episodes, observers
        self.step, self.history = state.step, list(state.history)
        theta = engine.parameters()
        self.device = next(iter(theta.values())).device
        average = {name: p.to(self.device) for name, p in state.average.items()}
        self.average = MovingAverage(average, config.meta.ema)
        self._stretch: list[Record] = []

    def run(self) -> None:
        """Train to the last outer step.

        Raises:
            UserError: when a loss or a gradient is not finite; the weights are left as they were
                before that step.
        """
        if self.step == 0:
            self._milestone()
        episodes = iter(self.episodes)
        while self.step < self.config.meta.steps:
            record = self._outer_step(episodes)
            self._stretch.append(record)
            for observer in self.observers:
                observer.on_step(self.step, record)
            milestone = self._at_milestone()
            if milestone or len(self._stretch) == self._stretch_length:
                self._end_stretch()
            if milestone:
                self._milestone()

    def _milestone(self) -> None:
        state = self.state()
        for observer in self.observers:
            observer.on_milestone(state)

    def state(self) -> TrainState:
        """The state to resume from. Collective."""
        return TrainState(
            self.step,
            self.engine.parameters(),
            self.average.parameters,
            self.engine.optimizer_state(),
            self.history,
        )

    def _outer_step(self, episodes: Iterator[list[Episode]]) -> Record:
        started = time.perf_counter()
        meta_batch = next(episodes)
        waited = time.perf_counter() - started
        gradient, record = self._outer_gradient(meta_batch)
        record["data_wait"] = waited
        record = dict(zip(record, self.engine.mean(list(record.values())), strict=True))
        self._check_finite(record)
        self.engine.apply(gradient, learning_rate(self.config.meta, self.step))
        self.average.update(self.engine.parameters(), self.step)
        self.step += 1
        return record | {"seconds": time.perf_counter() - started}

    def _outer_gradient(self, meta_batch: list[Episode]) -> tuple[Parameters, Record]:
        """This worker's part of the mean over the meta-batch; the workers' mean is the whole."""
        theta = self.engine.parameters()
        share = self.engine.world / self.config.meta.batch
        total = {name: torch.zeros_like(p) for name, p in theta.items()}
        record: Record = {}
        for episode in meta_batch:
            outer = self.learner.outer_gradient(theta, episode.to(self.device))
            for name, gradient in outer.gradient.items():
                total[name].add_(gradient, alpha=share)
            for name, value in outer.metrics.items():
                record[name] = record.get(name, 0.0) + share * value.item()
        record["gradient_norm"] = torch.nn.utils.get_total_norm(list(total.values())).item()
        return total, record

    def _check_finite(self, record: Record) -> None:
        """Every worker sees the same means, so every worker stops at the same step."""
        bad = [name for name, value in record.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"{' and '.join(bad)} not finite at outer step {self.step + 1}; the weights of the "
                f"step before are kept. Lower inner.lr or meta.lr, or set meta.clip=1.0."
            )

    def _at_milestone(self) -> bool:
        return self.step % self.config.checkpoint.every == 0 or self.step == self.config.meta.steps

    @property
    def _stretch_length(self) -> int:
        """Outer steps behind one record of the history, so that it has about 200."""
        return max(1, self.config.meta.steps // 200)

    def _end_stretch(self) -> None:
        count = len(self._stretch)
        means = {key: sum(r[key] for r in self._stretch) / count for key in self._stretch[0]}
        self.history.append({"step": self.step} | means)
        self._stretch = []


def first_state(generator: Generator) -> TrainState:
    """The state before the first step: the generator's own random weights."""
    weights = {name: p.detach().clone() for name, p in generator.named_parameters()}
    return TrainState(step=0, parameters=weights, average=weights)


def learning_rate(config: MetaConfig, step: int) -> float:
    """The outer rate at `step`, from 0: linear warm-up, flat, linear decay to 0 at the end."""
    rise = (step + 1) / (config.warmup + 1)
    fall = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.lr * min(1.0, rise, fall)

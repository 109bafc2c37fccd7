"""The outer loop: episodes in, outer gradients to the engine, until the last outer step."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters, first_not_finite
from metatrain.base.stopwatch import Stopwatch
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.slots import slots_of
from metatrain.learning.auxiliaries import Auxiliaries
from metatrain.learning.learners import Learner, OuterGradient
from metatrain.learning.learners.learner import Memory, Notes
from metatrain.training.average import TRACKS, MovingAverage, PowerAverage
from metatrain.training.engine import Engine
from metatrain.training.lessons import Lessons
from metatrain.training.observer import Observer
from metatrain.training.replay import Replay
from metatrain.training.schedule import learning_rate
from metatrain.training.state import Record, TrainState

# A run resumes with the same rates only.
_ADVICE = "Lower inner.lr or meta.lr, or set meta.clip=1.0, and choose another run.name."


class Trainer:
    """Outer loop of one worker.

    Args:
        config: the run's configuration.
        engine: applies outer gradients, from the parameters and optimiser of `state` on.
        learner: computes them.
        episodes: this worker's episodes of every outer step from `state.step` on.
        state: the local state to start from.
        observers: called in this order.
        read_counts: returns the cost of this worker's reads since it was last called.
        told_to_leave: tells whether this worker is to leave. If one is, all save and end.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        learner: Learner,
        episodes: Iterable[list[Episode]],
        state: TrainState,
        observers: Sequence[Observer],
        *,
        read_counts: Callable[[], Record] = dict,
        told_to_leave: Callable[[], bool] = lambda: False,
    ) -> None:
        self.read_counts, self.told_to_leave = read_counts, told_to_leave
        self.clock = Stopwatch("seconds_inner", "seconds_engine", "seconds_checkpoint")
        self.config, self.engine, self.learner = config, engine, learner
        self.episodes, self.observers = episodes, observers
        self.step, self.history = state.step, list(state.history)
        self._memory: Memory = dict(state.by_task)
        self.average = MovingAverage(self._on_device(state.average), config.meta.ema)
        self._slots = slots_of(engine.rank, engine.world, config.meta.batch)
        self._replay = Replay(config, state.replay)
        self._lessons = Lessons(config, engine.device)
        self.auxiliaries = Auxiliaries(config.auxiliary, learner, self._slots, engine.gather)
        self.tracks = {
            str(sigma): PowerAverage(
                self._on_device(state.tracks.get(str(sigma), state.parameters)), sigma
            )
            for sigma in (TRACKS if config.meta.post_hoc else ())
        }
        self._theta = engine.parameters()
        self._buffers = learner.inner.theta.buffer_versions()
        self._window = list(state.window)
        self._saved = state.step
        self._leaving = False
        self._is_changing = False

    def run(self) -> None:
        """Train to the last outer step, or until one of the workers is told to leave.

        Raises:
            UserError: when a loss or a gradient is not finite, and the weights are those before
                that step; when weights to be saved are not; when the network changes its buffers;
                or when checkpoints cannot be written.
        """
        if self.step == 0:
            self._checkpoint()
        episodes = iter(self.episodes)
        while self.step < self.config.meta.steps and not self._leaving:
            record = self._outer_step(episodes)
            self._window.append(record)
            if self._at_checkpoint() or len(self._window) == self._window_length:
                self._end_window()
            self._is_changing = False
            for observer in self.observers:
                observer.on_step(self.step, record)
            if self._at_checkpoint() or self._leaving:
                self._checkpoint()
        self._end()

    def save_and_end(self) -> None:
        """Save and end after an exception that interrupted `run`. Collective.

        Where it came while the state was changing, the newest checkpoint stays the last.
        """
        if not self._is_changing and self._saved < self.step:
            self._checkpoint()
        self._end()

    def _end(self) -> None:
        for observer in self.observers:
            observer.on_end()

    def _checkpoint(self) -> None:
        with self.clock("seconds_checkpoint"):
            state = self.state()
            self._refuse_diverged(state.parameters)
            for observer in self.observers:
                observer.on_checkpoint(state)
        self._saved = self.step
        self._leaving |= any(observer.leave for observer in self.observers)

    def _refuse_diverged(self, parameters: Parameters) -> None:
        """Refuse to save weights that nothing could resume from. Collective."""
        name = first_not_finite(parameters)
        if any(self.engine.mean([float(name is not None)])):
            self._end()
            raise UserError(
                f"{name or 'a parameter'} is not finite after outer step {self.step}, and the "
                f"checkpoint of step {self._saved} is kept. {_ADVICE}"
            )

    def state(self) -> TrainState:
        """Return the state to resume from: local trees, views that later steps change."""
        return TrainState(
            step=self.step,
            parameters=self.engine.local(),
            average=self.average.parameters,
            optimizer=self.engine.optimizer_state(),
            history=self.history,
            by_task=dict(self._memory),
            replay=self._replay.state,
            tracks={sigma: track.parameters for sigma, track in self.tracks.items()},
            window=list(self._window),
        )

    def _on_device(self, tree: Parameters) -> Parameters:
        return {name: value.to(self.engine.device) for name, value in tree.items()}

    def _outer_step(self, episodes: Iterator[list[Episode]]) -> Record:
        started = time.perf_counter()
        part = [episode.to(self.engine.device) for episode in next(episodes)]
        part = self._replay.added_to(part, self.step, self._slots)
        part = self._lessons.of(part, self.step)
        waited = time.perf_counter() - started
        with self.clock("seconds_inner"):
            outer = self._outer_gradient(part)
            made = self._replay.made_by(self.learner.inner, self._theta, part)
            record = {name: value.item() for name, value in outer.metrics.items()}
        self._refuse_changed_buffers()
        record |= {"data_wait": waited} | self.read_counts()
        with self.clock("seconds_engine"):
            record, self._leaving = self.engine.reduce(record, self.told_to_leave())
        self._check_finite(record, outer.failed)
        self._is_changing = True
        with self.clock("seconds_engine"):
            self.engine.apply(outer.gradient, learning_rate(self.config.meta, self.step))
            self._theta = {}  # or an engine that gathers it would hold the old one too
            self._theta = self.engine.parameters()
        self._remember(outer.notes)
        if self._replay.is_kept:
            self._replay.add(self.engine.gather(made), self.step)
        for average in (self.average, *self.tracks.values()):
            average.update(self.engine.local(), self.step)
        self.step += 1
        seconds = time.perf_counter() - started
        record |= {"data_wait": record["data_wait"] / seconds, "seconds": seconds}
        return record | self.clock.take()

    def _outer_gradient(self, episodes: list[Episode]) -> OuterGradient:
        """Compute this worker's part of the meta-batch's mean, which is the mean of all parts."""
        outer = self.learner.outer_gradient(self._theta, episodes, self.step, self._memory)
        outer = self.auxiliaries.add_to(outer, self._theta, episodes)
        share = self.engine.world / self.config.meta.batch
        gradient = {name: share * value for name, value in outer.gradient.items()}
        metrics = {name: share * value for name, value in outer.metrics.items()}
        metrics["gradient_norm"] = self.engine.norm(gradient)
        return replace(outer, gradient=gradient, metrics=metrics)

    def _refuse_changed_buffers(self) -> None:
        """Refuse a network that keeps statistics: one task's would reach the next, unrepeatably."""
        for name, version in self.learner.inner.theta.buffer_versions().items():
            if version != self._buffers[name]:
                raise UserError(
                    f"training changed the buffer {name}, and buffers are constants; make it a "
                    f"parameter, or compute it anew in each forward pass."
                )

    def _remember(self, notes: Notes) -> None:
        """Update what the learner remembers of tasks. Collective where it remembers anything."""
        if self.learner.config.remembers:
            gathered = self.engine.gather(list(notes))
            everyones = tuple((task, tree) for task, tree in gathered)
            self._memory = self.learner.remember(self._memory, self._theta, everyones)

    def _check_finite(self, record: Record, failed: Sequence[str]) -> None:
        """Refuse metrics that are not finite.

        Every worker has the same means, so all of them stop at the same step.
        """
        bad = [name for name, value in record.items() if not math.isfinite(value)]
        if not bad:
            return
        tasks = sorted(set(self.engine.gather(list(failed))))
        where = f" in task {' and '.join(repr(task) for task in tasks)}" if tasks else ""
        if self._saved != self.step:
            self._checkpoint()
        self._end()
        raise UserError(
            f"{' and '.join(bad)} not finite at outer step {self.step + 1}{where}; the weights of "
            f"the step before are kept. {_ADVICE}"
        )

    def _at_checkpoint(self) -> bool:
        return self.step % self.config.checkpoint.every == 0 or self.step == self.config.meta.steps

    @property
    def _window_length(self) -> int:
        """Outer steps per record of the history, so that it has about 200 records."""
        return max(1, self.config.meta.steps // 200)

    def _end_window(self) -> None:
        count = len(self._window)
        means = {key: sum(r[key] for r in self._window) / count for key in self._window[0]}
        self.history.append({"step": self.step} | means)
        self._window = []

"""Observers of training: all workers validate, draw samples and save; worker 0 reports."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict

from ray.util.queue import Queue
from torch.utils.tensorboard import SummaryWriter
from typing_extensions import override

from cluster.run.messages import Message, Receiver
from metatrain.base.progress import human_duration, tracked
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.pictures import to_uint8
from metatrain.data.slots import in_order_of_slots
from metatrain.evaluation.validation import (
    TaskFeatures,
    Validation,
    ValidationResult,
    add_validation,
)
from metatrain.model.adapt import Adapter
from metatrain.model.model import Model
from metatrain.model.progression import draw_strip, row_of, rows_picture
from metatrain.training.average_snapshots import snapshots
from metatrain.training.checkpoint import BackgroundWriter, CheckpointStore, Peers, draft_of
from metatrain.training.engine import Engine
from metatrain.training.observer import Observer
from metatrain.training.state import Record, TrainState

# The counts of a step's reads, and the words for those that a progress line adds where nonzero.
_READ_COUNTS = {"bytes": "", "requests": "", "cache_hits": "from the cache", "retries": "retries"}

# Samples of each task in the sample grid.
_GRID_SAMPLES = 4


class DriverDisplay:
    """Progress of this worker's other work, such as validation, as lines of the driver.

    Args:
        messages: the driver.
    """

    interval = 5.0

    def __init__(self, messages: Receiver) -> None:
        self._messages = messages

    def show(self, line: str) -> None:
        """Send the state of the work."""
        self._messages.put(Message("line", line))

    def say(self, message: str) -> None:
        """Send a message."""
        self._messages.put(Message("line", message))

    def clear(self) -> None:
        """Leave the lines that were sent."""


class ProgressLine(Observer):
    """Reporter of one readable line per second to the driver, and of its numbers to TensorBoard.

    Args:
        config: the run's configuration.
        workers: the number of workers.
        messages: the driver.
        board: TensorBoard's writer.
    """

    def __init__(
        self, config: Config, workers: int, messages: Receiver, board: SummaryWriter
    ) -> None:
        self._config, self._workers = config, workers
        self._messages, self._board = messages, board
        self._records: list[Record] = []
        self._since = time.monotonic()
        # The first step is slow, so the time left is estimated from its end on.
        self._first: tuple[int, float] | None = None

    @override
    def on_step(self, step: int, record: Record) -> None:
        self._records.append(record)
        self._first = self._first or (step, time.monotonic())
        if time.monotonic() - self._since < 1.0 and step < self._config.meta.steps:
            return
        means = {k: sum(r[k] for r in self._records) / len(self._records) for k in record}
        for name, value in means.items():
            self._board.add_scalar(f"train/{name}", value, step)
        left = self._seconds_left(step)
        numbers = {"step": float(step), "loss": means["loss"], "left": left}
        self._messages.put(Message("line", self._line(step, means, left), numbers=numbers))
        self._since, self._records = time.monotonic(), []

    @override
    def on_checkpoint(self, state: TrainState) -> None:
        # Nothing waits for TensorBoard after the last checkpoint.
        self._board.flush()

    def _line(self, step: int, means: Record, left: float) -> str:
        config = self._config
        images = config.meta.batch * (config.data.shots + config.data.queries)
        return (
            f"step {step:,}/{config.meta.steps:,} | loss {means['loss']:.4f} | "
            f"{images / means['seconds']:,.0f} images/s | "
            f"waited {means['data_wait']:.0%} for data | {self._reads()} | "
            f"ETA {human_duration(left) if math.isfinite(left) else 'unknown'}"
        )

    def _reads(self) -> str:
        """Describe the reads of all workers since the last line; records hold their means."""
        seconds = sum(r["seconds"] for r in self._records)
        total = {k: self._workers * sum(r[k] for r in self._records) for k in _READ_COUNTS}
        parts = [f"{total['bytes'] / 1e6 / seconds:,.1f} MB/s in {total['requests']:,.0f} requests"]
        nonzero = [(k, words) for k, words in _READ_COUNTS.items() if words and total[k]]
        return ", ".join(parts + [f"{total[k]:,.0f} {words}" for k, words in nonzero])

    def _seconds_left(self, step: int) -> float:
        """Estimate the seconds to the last step; infinity after the first step."""
        first, began = self._first or (step, time.monotonic())
        if step == first:
            return math.inf
        pace = (time.monotonic() - began) / (step - first)
        return pace * (self._config.meta.steps - step)


class Validator(Observer):
    """Validation with every checkpoint, and the decision by the driver whether to continue.

    Must precede `Saver`, so that every saved checkpoint has been validated.

    Args:
        config: the run's configuration.
        validation: the tasks, which the workers share.
        engine: gathers the moving average.
        peers: the workers.
        messages: the driver.
        board: TensorBoard's writer; None except on worker 0.
        decisions: brings a decision after every validation; None always continues.
    """

    def __init__(
        self,
        config: Config,
        validation: Validation,
        engine: Engine,
        peers: Peers,
        *,
        messages: Receiver,
        board: SummaryWriter | None,
        decisions: Queue | None,
    ) -> None:
        self._config, self._validation, self._engine = config, validation, engine
        self._peers, self._messages, self._board = peers, messages, board
        self._decisions = decisions

    @override
    def on_checkpoint(self, state: TrainState) -> None:
        if state.step == 0:
            return
        share = _share_of(self._peers, self._validation.episodes)
        adapter = _adapter(self._config, state, self._engine, needed=bool(share))
        share = tracked(f"validating step {state.step:,}", share, len(share))
        rows = self._peers.gather(
            [self._validation.task_features(adapter, e).rows() for e in share if adapter]
        )
        if self._peers.rank == 0:
            features = [TaskFeatures.of_rows(task) for task in in_order_of_slots(rows)]
            scores = self._validation.scores(features)
            self._report(ValidationResult(state.step, scores))
        self.leave = not all(self._peers.gather(self._continues(state.step)))

    def _continues(self, step: int) -> bool:
        """Wait for the decision; a repeated validation may leave several about one step."""
        while self._peers.rank == 0 and self._decisions is not None:
            decision = self._decisions.get()
            if decision.step >= step or not decision.continue_training:
                return decision.continue_training
        return True

    def _report(self, result: ValidationResult) -> None:
        add_validation(self._config.run.url, result)
        self._messages.put(Message("validated", step=result.step))
        if self._board:
            for name, value in asdict(result.curve[-1]).items():
                self._board.add_scalar(f"validation/{name}", value, result.step)


class Saver(Observer):
    """Saving of checkpoints while training continues; every worker writes its part.

    Args:
        config: the run's configuration.
        checkpoints: the destination.
        engine: says which part of the state this worker has.
        peers: the workers; nothing else may use them.
        messages: the driver.
    """

    def __init__(
        self,
        config: Config,
        checkpoints: CheckpointStore,
        engine: Engine,
        peers: Peers,
        messages: Receiver,
    ) -> None:
        self._config, self._partitions = config, engine.partitions
        self._writer = BackgroundWriter(
            checkpoints,
            peers,
            config.checkpoint.max_failures,
            report=lambda line: messages.put(Message("line", line)),
            on_saved=lambda step: messages.put(Message("saved", step=step)),
        )

    @override
    def on_checkpoint(self, state: TrainState) -> None:
        # Waits until the previous checkpoint is written.
        averages = snapshots(state, self._config)
        self._writer.save(draft_of(state, self._config, self._partitions, averages))

    @override
    def on_end(self) -> None:
        self._writer.finish()


class SampleGrid(Observer):
    """Samples of unseen tasks for TensorBoard with every checkpoint, step 0 included.

    One row per task: support | before adaptation | after | real.

    Args:
        config: the run's configuration.
        episodes: the tasks, which the workers share.
        engine: gathers the moving average.
        peers: the workers.
        board: TensorBoard's writer; None except on worker 0.
    """

    def __init__(
        self,
        config: Config,
        episodes: list[Episode],
        engine: Engine,
        peers: Peers,
        board: SummaryWriter | None,
    ) -> None:
        self._config, self._episodes, self._engine = config, episodes, engine
        self._peers, self._board = peers, board

    @override
    def on_checkpoint(self, state: TrainState) -> None:
        share, shown = _share_of(self._peers, self._episodes), {0, self._config.adapt.steps}
        adapter = _adapter(self._config, state, self._engine, needed=bool(share))
        share = tracked("sampling the grid", share, len(share))
        rows = self._peers.gather(
            [row_of(draw_strip(adapter, e, shown, _GRID_SAMPLES)) for e in share if adapter]
        )
        if self._board:
            picture = rows_picture(in_order_of_slots(rows))
            self._board.add_image("samples", to_uint8(picture), state.step)


def _share_of(peers: Peers, episodes: Sequence[Episode]) -> Sequence[Episode]:
    return episodes[peers.rank :: peers.world]


def _adapter(config: Config, state: TrainState, engine: Engine, *, needed: bool) -> Adapter | None:
    """Build an adapter of the moving average, on the engine's device. Collective.

    Workers that do not need it get None, and never hold the average as a whole.
    """
    average = engine.full(state.average, wanted=needed)
    if not needed:
        return None
    average = {name: value.to(engine.device) for name, value in average.items()}
    return Model(config, average, state.step).adapter()

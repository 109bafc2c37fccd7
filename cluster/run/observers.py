"""Watching a run: all workers look and save, and worker 0 tells."""

import math
import time
from dataclasses import asdict, replace
from typing import Any

import torch
from ray.train import UserCallback
from ray.util.queue import Queue
from torch.utils.tensorboard import SummaryWriter

from cluster.ray_internals import is_dead, is_unresponsive
from cluster.run.messages import Message
from metatrain.base.errors import UserError
from metatrain.base.progress import human_duration
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.pictures import to_uint8
from metatrain.data.slots import in_order_of_slots
from metatrain.evaluation.validation import (
    Validated,
    Validation,
    read_validations,
    write_validations,
)
from metatrain.model.adapt import Adapter
from metatrain.model.file import Model
from metatrain.model.progression import draw_strip, row_of, rows_picture
from metatrain.training.average_snapshots import snapshots
from metatrain.training.checkpoint import BackgroundWriter, CheckpointStore, Peers, draft_of
from metatrain.training.observer import Observer
from metatrain.training.state import Record, TrainState

# What reading costs, and what the line calls it where there is any.
_READING = {"bytes": "", "requests": "", "cache_hits": "from the cache", "retries": "retries"}

# Images that the sample grid shows of each task.
_DRAWN = 4


class ProgressLine(Observer):
    """One readable line a second, to the driver, and the same numbers to TensorBoard.

    Args:
        config: the run's configuration.
        workers: how many there are.
        messages: the queue to the driver.
        board: TensorBoard's writer.
    """

    def __init__(self, config: Config, workers: int, messages: Queue, board: SummaryWriter) -> None:
        self._config, self._workers = config, workers
        self._messages, self._board = messages, board
        self._records: list[Record] = []
        self._since = time.monotonic()
        # The first step is slow, so the time left is reckoned from the second on.
        self._first: tuple[int, float] | None = None

    def on_step(self, step: int, record: Record) -> None:
        """Gather, and once a second say."""
        self._records.append(record)
        self._first = self._first or (step, time.monotonic())
        if time.monotonic() - self._since < 1.0 and step < self._config.meta.steps:
            return
        means = {k: sum(r[k] for r in self._records) / len(self._records) for k in record}
        for name, value in means.items():
            self._board.add_scalar(f"train/{name}", value, step)
        left = self._time_left(step)
        numbers = {"step": float(step), "loss": means["loss"], "left": left}
        self._messages.put(Message("line", self._line(step, means, left), numbers))
        self._since, self._records = time.monotonic(), []

    def on_checkpoint(self, state: TrainState) -> None:
        """Bring TensorBoard up to date: after the last one nobody waits for it."""
        self._board.flush()

    def _line(self, step: int, means: Record, left: float) -> str:
        config = self._config
        images = config.meta.batch * (config.data.shots + config.data.queries)
        return (
            f"step {step:,}/{config.meta.steps:,} | loss {means['loss']:.4f} | "
            f"{images / means['seconds']:,.0f} images/s | "
            f"waited {means['data_wait']:.0%} for data | {self._traffic()} | "
            f"ETA {human_duration(left) if math.isfinite(left) else 'unknown'}"
        )

    def _traffic(self) -> str:
        """What all workers read since the last line; the records are means over them."""
        seconds = sum(r["seconds"] for r in self._records)
        total = {k: self._workers * sum(r[k] for r in self._records) for k in _READING}
        said = [f"{total['bytes'] / 1e6 / seconds:,.1f} MB/s in {total['requests']:,.0f} requests"]
        said += [f"{total[k]:,.0f} {words}" for k, words in _READING.items() if words and total[k]]
        return ", ".join(said)

    def _time_left(self, step: int) -> float:
        """Seconds; infinite while nothing is known."""
        first, began = self._first or (step, time.monotonic())
        if step == first:
            return math.inf
        pace = (time.monotonic() - began) / (step - first)
        return pace * (self._config.meta.steps - step)


class Validator(Observer):
    """Validates with every checkpoint, and asks whether the run is worth going on with.

    To be called before `Saver`: what a checkpoint holds has then been validated.

    Args:
        config: the run's configuration.
        validation: the tasks, which the workers share out.
        device: where to adapt.
        peers: the workers.
        messages: the queue to the driver.
        board: TensorBoard's writer; None but on worker 0.
        verdicts: brings, after every look, whether to go on; without it, the run does.
    """

    def __init__(
        self,
        config: Config,
        validation: Validation,
        device: torch.device,
        peers: Peers,
        messages: Queue,
        board: SummaryWriter | None,
        verdicts: Queue | None,
    ) -> None:
        self._config, self._validation, self._device = config, validation, device
        self._peers, self._messages, self._board = peers, messages, board
        self._verdicts = verdicts

    def on_checkpoint(self, state: TrainState) -> None:
        """Adapt to this worker's share of the tasks, gather, tell, and hear whether to go on."""
        if state.step == 0:
            return
        adapter = _adapter(self._config, state, self._device)
        own = self._validation.episodes[self._peers.rank :: self._peers.world]
        everyones = self._peers.gather([self._validation.look(adapter, e) for e in own])
        if self._peers.rank == 0:
            self._tell(Validated(state.step, self._validation.scores(in_order_of_slots(everyones))))
        self.leave = not all(self._peers.gather(self._goes_on(state.step)))

    def _goes_on(self, step: int) -> bool:
        """The verdict; of a validation that was repeated, there may be several of one step."""
        while self._peers.rank == 0 and self._verdicts is not None:
            verdict = self._verdicts.get()
            if verdict.step >= step or not verdict.go_on:
                return verdict.go_on
        return True

    def _tell(self, found: Validated) -> None:
        before = [v for v in read_validations(self._config.run.url) if v.step < found.step]
        write_validations(self._config.run.url, [*before, found])
        self._messages.put(Message("validated", found.step))
        if self._board:
            for name, value in asdict(found.curve[-1]).items():
                self._board.add_scalar(f"validation/{name}", value, found.step)


class Saver(Observer):
    """Saves while training goes on, every worker its part, and tells the driver what is safe.

    Args:
        config: the run's configuration.
        checkpoints: where to.
        peers: the workers; nothing but this may use their `gather`.
        messages: the queue to the driver.
    """

    def __init__(
        self, config: Config, checkpoints: CheckpointStore, peers: Peers, messages: Queue
    ) -> None:
        self._config, self._peers = config, peers
        self._writer = BackgroundWriter(
            checkpoints,
            peers,
            config.checkpoint.max_failures,
            say=lambda line: messages.put(Message("line", line)),
            saved=lambda step: messages.put(Message("saved", step)),
        )

    def on_checkpoint(self, state: TrainState) -> None:
        """Begin to save, once the checkpoint before is through."""
        draft = draft_of(state, self._config, self._peers)
        if self._peers.rank == 0:
            draft = replace(draft, beside=snapshots(state, self._config))
        self._writer.save(draft)

    def on_end(self) -> None:
        """Wait until all is saved."""
        self._writer.finish()


class Losses(UserCallback):
    """Tells the driver of workers that are lost; Ray Train starts them all again.

    Args:
        messages: the queue to the driver.
    """

    def __init__(self, messages: Queue) -> None:
        self._messages = messages

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train's controller with what it noticed of each worker."""
        lost = {
            rank: "has not answered for cluster.timeout" if is_unresponsive(error) else "is gone"
            for rank, error in worker_exceptions.items()
            if is_unresponsive(error) or is_dead(error)
        }
        # Those who wait for a lost worker fail too, and may be the first to be noticed.
        waiting = {
            rank: f"waited in vain for another ({_reason(error)})"
            for rank, error in worker_exceptions.items()
            if not isinstance(error, UserError)
        }
        for rank, what in (lost or waiting).items():
            self._messages.put(Message("line", f"Worker {rank} {what}; starting all again."))


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0].rstrip(".")


class SampleGrid(Observer):
    """Draws unseen tasks for TensorBoard with every checkpoint, step 0 included.

    One row per task: support | before adapting | after | real.

    Args:
        config: the run's configuration.
        episodes: the tasks, which the workers share out.
        device: where to adapt.
        peers: the workers.
        board: TensorBoard's writer; None but on worker 0.
    """

    def __init__(
        self,
        config: Config,
        episodes: list[Episode],
        device: torch.device,
        peers: Peers,
        board: SummaryWriter | None,
    ) -> None:
        self._config, self._episodes, self._device = config, episodes, device
        self._peers, self._board = peers, board

    def on_checkpoint(self, state: TrainState) -> None:
        """Adapt to this worker's share of the tasks, and draw; worker 0 shows all."""
        adapter, shown = _adapter(self._config, state, self._device), {0, self._config.adapt.steps}
        own = self._episodes[self._peers.rank :: self._peers.world]
        everyones = self._peers.gather([row_of(draw_strip(adapter, e, shown, _DRAWN)) for e in own])
        if self._board:
            picture = rows_picture(in_order_of_slots(everyones))
            self._board.add_image("samples", to_uint8(picture), state.step)


def _adapter(config: Config, state: TrainState, device: torch.device) -> Adapter:
    """Of the average, on `device`."""
    average = {name: value.to(device) for name, value in state.average.items()}
    return Adapter(Model(config, average, state.step))

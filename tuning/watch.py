"""While a sweep runs: its ledger is kept, people see a table, and loggers hear of trials."""

import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TextIO

from ray import tune
from ray.tune.experiment import Trial
from ray.util.queue import Empty, Queue
from torch.utils.tensorboard import SummaryWriter

from metatrain.base.progress import human_duration
from tuning.ledger import Ledger, Record, Report


class News:
    """What the workers of all trials said last, as far as anybody asks.

    Args:
        queue: the queue that trials put it into.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._numbers: dict[int, dict[str, float]] = {}
        self._errors: dict[int, str] = {}

    def numbers(self, trial: int) -> dict[str, float]:
        """Of its newest line; empty where there was none."""
        self._hear()
        return self._numbers.get(trial, {})

    def error(self, trial: int) -> str:
        """Why it crashed."""
        self._hear()
        return self._errors.get(trial, "its process was lost")

    def _hear(self) -> None:
        with suppress(Empty):
            while True:
                trial, message = self._queue.get_nowait()
                if message.kind == "error":
                    self._errors[trial] = message.text
                elif message.numbers:
                    self._numbers[trial] = message.numbers


class Bookkeeper(tune.Callback):
    """Writes to the ledger whatever becomes of trials.

    Args:
        ledger: of the sweep.
        news: what the workers of trials say.
        ended: is told of each trial that is over.
    """

    def __init__(self, ledger: Ledger, news: News, ended: Callable[[Record], None]) -> None:
        self._ledger, self._news, self._ended = ledger, news, ended
        self._order = len(ledger.reports())

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """See `tune.Callback`."""
        self._set(trial, state="running")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any
    ) -> None:
        """See `tune.Callback`; `done` says whether the trial is over, by itself or by Tune."""
        record, steps = self._record(trial), self._ledger.sweep.base.meta.steps
        if "score" in result:
            seen = {k: result[k] for k in ("step", "score", "k", "loss", "curve", "seconds")}
            record.reports.append(Report(**seen, order=self._order))
            record.run, self._order = result["run"], self._order + 1
        if "failed" in result:
            self._set(trial, state="failed", reason=result["failed"])
        elif result["done"]:
            self._set(trial, state="finished" if result["step"] == steps else "stopped")
        else:
            self._ledger.write(record)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """See `tune.Callback`; what ended between two results goes on with a larger budget."""
        if not self._record(trial).over:
            self._set(trial, state="waiting")

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """See `tune.Callback`."""
        self._set(trial, state="waiting", retries=self._record(trial).retries + 1)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """See `tune.Callback`."""
        record = self._record(trial)
        self._set(trial, state="failed", reason=self._news.error(record.number))

    def _set(self, trial: Trial, **changes: Any) -> None:
        record = self._record(trial)
        for name, value in changes.items():
            setattr(record, name, value)
        self._ledger.write(record)
        if record.over:
            self._ended(record)

    def _record(self, trial: Trial) -> Record:
        return self._ledger.records[int(trial.trial_id)]


class Table(tune.Callback):
    """Shows all trials: on a terminal a table that rewrites itself, elsewhere a line an event.

    Args:
        ledger: of the sweep.
        news: what the workers of trials say.
        stream: where to.
    """

    def __init__(self, ledger: Ledger, news: News, stream: TextIO = sys.stdout) -> None:
        self._ledger, self._news, self._stream = ledger, news, stream
        self._live = stream.isatty()
        self._lines, self._shown = 0, 0.0
        self._said: dict[int, tuple[Any, ...]] = {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """See `tune.Callback`; called many times a second."""
        if time.monotonic() - self._shown < 1.0:
            return
        self._shown = time.monotonic()
        self.show()

    def show(self) -> None:
        """Bring what is shown up to date."""
        if self._live:
            self._stream.write(f"\x1b[{self._lines}A\x1b[J" if self._lines else "")
            # A row that wraps would be two to go up over.
            width = shutil.get_terminal_size().columns
            rows = [row[: width - 1] for row in self.rows()]
            self._lines = len(rows)
            self._stream.write("".join(f"{row}\n" for row in rows))
        else:
            for record in self._ledger.records.values():
                news = (record.state, record.retries, len(record.reports))
                if self._said.get(record.number) != news:
                    self._said[record.number] = news
                    self._stream.write(f"trial {self._row(record)}\n")
        self._stream.flush()

    def rows(self) -> list[str]:
        """The table."""
        records = list(self._ledger.records.values())
        over = sum(record.over for record in records)
        best = self._ledger.best()
        title = f"{over} of {self._ledger.sweep.settings.budget.trials} trials are over"
        title += f"; best so far {best.name}, {best.reports[-1].score:.4f}" if best else ""
        return [title, _HEAD, *(self._row(record) for record in records[-_SHOWN:])]

    def _row(self, record: Record) -> str:
        last, numbers = record.last, self._news.numbers(record.number)
        step = max(int(numbers.get("step", 0)), last.step if last else 0)
        left = numbers.get("left") if record.state == "running" else None
        space = self._ledger.sweep.settings.space
        varied = {k: v for k, v in record.values.items() if not space[k].same_as}
        values = "  ".join(f"{short_name(k, varied)}={brief(v)}" for k, v in varied.items())
        cells = [
            record.name,
            record.state + ("" if not record.retries else f" ({record.retries + 1}.)"),
            f"{step:,}/{self._ledger.sweep.base.meta.steps:,}",
            f"{last.score:.4f}" if last else "",
            str(last.k) if last else "",
            f"{last.loss:.4f}" if last else (f"{numbers['loss']:.4f}" if numbers else ""),
            human_duration(left) if left is not None and left < 1e9 else "",
        ]
        cells = [cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)]
        return "  ".join([*cells, values, record.reason.partition("\n")[0]]).rstrip()


_SHOWN = 24
_WIDTHS = (3, 12, 11, 8, 3, 8, 10)
_HEAD = (
    "  ".join(
        name.ljust(width)
        for name, width in zip(
            ("no.", "state", "outer step", "score", "k", "loss", "ETA"), _WIDTHS, strict=True
        )
    )
    + "  values"
)


def write_hparams(ledger: Ledger, record: Record) -> None:
    """Tell TensorBoard's HParams of a trial that is over."""
    last = record.last
    found = {"score": last.score, "k": last.k, "loss": last.loss, "step": last.step} if last else {}
    values = {
        k: v if isinstance(v, int | float | str | bool) else str(v)
        for k, v in record.values.items()
    }
    with SummaryWriter(f"{ledger.url}/tensorboard") as board:
        board.add_hparams(values, {f"sweep/{k}": v for k, v in found.items()}, run_name=record.name)


def short_name(key: str, keys: Iterable[str]) -> str:
    """The shortest ending of a dotted key that no other of the `keys` has."""
    others = [other.removesuffix(".name") for other in keys if other != key]
    parts = key.removesuffix(".name").split(".")
    endings = (".".join(parts[-n:]) for n in range(1, len(parts)))
    unlike = (e for e in endings if not any(f".{other}".endswith(f".{e}") for other in others))
    return next(unlike, ".".join(parts))


def brief(value: Any) -> str:
    """A value in few digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""The table of a sweep's trials: it redraws itself in a terminal; elsewhere it logs events."""

import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from ray import tune
from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from metatrain.base.progress import human_duration, log_line
from metatrain.base.text import counted
from tuning.ledger import SweepLedger, TrialRecord
from tuning.recorder import WorkerMessages

# The columns with a fixed width in log lines; the values of the space follow them.
_COLUMNS = {"no.": 3, "state": 12, "outer step": 11, "score": 8, "k": 3, "loss": 8, "ETA": 10}

# The lines of a terminal besides those of trials: two headings, the cursor, and one to spare.
_OTHER_LINES = 4


class TrialTable(tune.Callback):
    """A callback that shows all trials.

    Args:
        ledger: the ledger of the sweep.
        messages: the messages from the workers of trials.
        stream: the stream to write to.
    """

    def __init__(
        self, ledger: SweepLedger, messages: WorkerMessages, stream: TextIO | None = None
    ) -> None:
        self._ledger, self._messages = ledger, messages
        self._stream = stream or sys.stdout
        self._live: Live | None = None
        self._updated = 0.0
        self._logged: dict[int, tuple[Any, ...]] = {}

    @override
    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        # Tune calls this many times a second.
        if time.monotonic() - self._updated >= 1.0:
            self._updated = time.monotonic()
            self.update()

    def update(self) -> None:
        """Redraw the table; or log the trials that changed."""
        if self._stream.isatty():
            self._draw()
        else:
            self._log()

    def close(self) -> None:
        """Bring the table up to date, and leave it in the terminal."""
        self.update()
        if self._live:
            self._live.stop()

    def table(self, rows: int) -> Group:
        """Build the table of the newest trials, at most so many."""
        records = list(self._ledger.records.values())
        ended = sum(record.has_ended for record in records)
        lowest = self._ledger.tied()
        title = f"{ended} of {counted(self._ledger.sweep.settings.budget.trials, 'trial')} ended"
        if lowest:
            by = lowest[0].name if len(lowest) == 1 else f"{len(lowest)} trials"
            title += f"; the lowest score is {lowest[0].reports[-1].score:.4f}, by {by}"
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
        for column in _COLUMNS:
            table.add_column(column, no_wrap=True)
        table.add_column("values")
        for record in records[-rows:]:
            # In a narrow terminal these alone are cut.
            values = Text(self._values(record), no_wrap=True, overflow="ellipsis")
            table.add_row(*map(Text, self._cells(record)), values)
        return Group(Text(title), table)

    def _draw(self) -> None:
        if self._live is None:
            # Not when this is made: Tune pickles callbacks before the first trial.
            console = Console(file=self._stream)
            self._live = Live(
                console=console,
                get_renderable=lambda: self.table(max(1, console.height - _OTHER_LINES)),
                auto_refresh=False,
            )
            self._live.start()
        self._live.refresh()

    def _log(self) -> None:
        for record in self._ledger.records.values():
            event = (record.state, record.retries, len(record.reports))
            if self._logged.get(record.number) != event:
                self._logged[record.number] = event
                cells = zip(self._cells(record), _COLUMNS.values(), strict=True)
                fixed = "  ".join(cell.ljust(width) for cell, width in cells)
                line = f"trial {fixed}  {self._values(record)}".rstrip()
                print(log_line(line), file=self._stream, flush=True)

    def _cells(self, record: TrialRecord) -> list[str]:
        report, numbers = record.last_report, self._messages.numbers(record.number)
        step = max(int(numbers.get("step", 0)), report.step if report else 0)
        left = numbers.get("left") if record.state == "running" else None
        loss = report.loss if report else numbers.get("loss")
        return [
            record.name,
            record.state + (f" ({record.retries + 1}.)" if record.retries else ""),
            f"{step:,}/{self._ledger.sweep.base.meta.steps:,}",
            f"{report.score:.4f}" if report else "",
            str(report.k) if report else "",
            "" if loss is None else f"{loss:.4f}",
            human_duration(left) if left is not None and left < 1e9 else "",
        ]

    def _values(self, record: TrialRecord) -> str:
        """Write the values of a trial, and the reason why it failed."""
        space = self._ledger.sweep.settings.space
        searched = {k: v for k, v in record.values.items() if not space[k].same_as}
        values = [f"{short_name(k, searched)}={short_value(v)}" for k, v in searched.items()]
        return "  ".join([*values, record.reason.partition("\n")[0]]).rstrip()


def short_name(key: str, keys: Iterable[str]) -> str:
    """Return the shortest ending of a dotted key that no other of the `keys` has."""
    others = [other.removesuffix(".name") for other in keys if other != key]
    parts = key.removesuffix(".name").split(".")
    endings = (".".join(parts[-n:]) for n in range(1, len(parts)))
    unique = (e for e in endings if not any(f".{other}".endswith(f".{e}") for other in others))
    return next(unique, ".".join(parts))


def short_value(value: Any) -> str:
    """Write a value with few digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""What a sweep knows of its trials, safe at any moment: one small JSON file a trial."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from metatrain.base.errors import UserError
from metatrain.config import Config, differences, parse_config
from metatrain.metrics.metric import VALIDATION_METRICS
from metatrain.storage.files import (
    MissingError,
    asking,
    filesystem_of,
    read_file,
    sizes_under,
    write_file,
)
from tuning.config import Sweep
from tuning.space import Values

State = Literal["waiting", "running", "finished", "stopped", "failed"]

# What may be otherwise when a sweep goes on: how much of it, where, and who is told.
_SETTINGS_MAY_CHANGE = ("name", "dir", "base", "overrides", "budget", "loggers", "max_failures")
_BASE_MAY_CHANGE = ("run.", "cluster.", "validation.network")


@dataclass(frozen=True)
class Report:
    """One look at a trial.

    Attributes:
        step: outer steps taken.
        score: what the metric makes of the best k; lower is better.
        k: that number of inner steps.
        loss: query loss there.
        seconds: time of the trial until then, all starts together.
        order: which report of the sweep it is.
        curve: by number of inner steps, what the metric makes of it.
    """

    step: int
    score: float
    k: int
    loss: float
    seconds: float
    order: int
    curve: dict[int, float]

    @property
    def finite(self) -> bool:
        """Whether the score is a number to compare with."""
        return math.isfinite(self.score)


@dataclass
class Record:
    """A trial as it stands.

    Attributes:
        number: of the trial, from 0.
        values: what it was given.
        run: name of its run, which changes when it goes on from another trial's.
        state: where it is.
        reason: why it failed.
        retries: times that it crashed and went on.
        reports: what was seen of it.
    """

    number: int
    values: Values
    run: str
    state: State = "waiting"
    reason: str = ""
    retries: int = 0
    reports: list[Report] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As people and folders call it."""
        return trial_name(self.number)

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("finished", "stopped", "failed")

    @property
    def last(self) -> Report | None:
        """What was seen last."""
        return self.reports[-1] if self.reports else None

    @property
    def seconds(self) -> float:
        """How long it has taken, as far as is known."""
        return self.last.seconds if self.last else 0.0


class Ledger:
    """All records of a sweep, each written whole whenever it changes.

    Args:
        sweep: whose.

    Attributes:
        records: by number.

    Raises:
        UserError: when the folder holds another sweep, or cannot be read or written.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.url = sweep, sweep.settings.url
        _begin_or_go_on(sweep)
        self._spent, self._since = _read_spent(self.url), None
        self.records = {record.number: record for record in read_records(self.url)}

    def add(self, values: Values) -> Record:
        """The record of a new trial."""
        number = len(self.records)
        self.records[number] = Record(number, values, trial_name(number))
        self.write(self.records[number])
        return self.records[number]

    def write(self, record: Record) -> None:
        """Make what is known of a trial safe."""
        content = json.dumps(asdict(record), indent=1).encode()
        write_file(f"{self.url}/trials/{record.name}.json", content)
        self._write_spent()

    @property
    def metric(self) -> str:
        """The title of the cost that the sweep minimises."""
        return VALIDATION_METRICS[self.sweep.settings.metric].cost_title

    def spent(self) -> float:
        """Seconds that the sweep has taken, all of its starts together."""
        return self._spent + (time.monotonic() - self._since if self._since else 0.0)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Counts the time that passes inside as the sweep's."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._spent, self._since = self.spent(), None
            self._write_spent()

    def _write_spent(self) -> None:
        write_file(f"{self.url}/spent.json", json.dumps(self.spent()).encode())

    def reports(self) -> list[tuple[Record, Report]]:
        """All that was seen, in the order of time."""
        pairs = [(record, r) for record in self.records.values() for r in record.reports]
        return sorted(pairs, key=lambda pair: pair[1].order)

    def best(self) -> Record | None:
        """The finished trial of the lowest score."""
        through = [r for r in self.records.values() if r.state == "finished" and r.reports]
        return min(through, key=lambda r: r.reports[-1].score, default=None)

    def config(self, record: Record) -> Config:
        """The configuration that a trial began with."""
        return self.sweep.config(record.values, record.run)

    def let_wait(self) -> None:
        """Nothing runs any more: what is not over goes on when the sweep does."""
        for record in self.records.values():
            if record.state == "running":
                record.state = "waiting"
                self.write(record)

    def remove_runs(self) -> None:
        """Remove what trials that are over have left, unless they finished."""
        kept = {r.run for r in self.records.values() if not r.over or r.state == "finished"}
        fs, root = filesystem_of(f"{self.url}/runs")
        runs = {name.partition("/")[0] for name in sizes_under(f"{self.url}/runs")}
        for name in runs - kept:
            asking(self.url, lambda name=name: fs.rm(f"{root}/{name}", recursive=True))


def trial_name(number: int) -> str:
    """As people and folders call the trial of this number."""
    return f"{number:03d}"


def read_record(sweep: str, number: int) -> Record:
    """The record of one trial of the sweep at a URL."""
    return _read(f"{sweep}/trials/{trial_name(number)}.json")


def read_records(sweep: str) -> list[Record]:
    """The records of all trials of the sweep at a URL, by number."""
    names = sorted(n for n in sizes_under(f"{sweep}/trials") if n.endswith(".json"))
    return [_read(f"{sweep}/trials/{name}") for name in names]


def _read(url: str) -> Record:
    try:
        # Pydantic, since JSON has turned the numbers of steps into strings.
        return TypeAdapter(Record).validate_json(read_file(url))
    except ValidationError as error:
        raise UserError(f"{url} is damaged ({error}); remove it.") from error


def _read_spent(sweep: str) -> float:
    with suppress(MissingError, ValueError):
        return float(json.loads(read_file(f"{sweep}/spent.json")))
    return 0.0


def _begin_or_go_on(sweep: Sweep) -> None:
    """Keep what the sweep is; or compare it with what it was.

    Raises:
        UserError: when it was another.
    """
    url = f"{sweep.settings.url}/sweep.json"
    now: dict[str, Any] = {
        "settings": sweep.settings.model_dump(mode="json", by_alias=True),
        "base": sweep.base.model_dump(mode="json"),
    }
    try:
        before = json.loads(read_file(url))
    except MissingError:
        write_file(url, json.dumps(now, indent=1).encode())
        return
    changed = _changes(before, now)
    if changed:
        raise UserError(
            f"{sweep.settings.url} was begun as another sweep: {', '.join(changed)}; set back what "
            f"was changed, or choose another name."
        )


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    was, said = before["settings"], []
    for key, value in now["settings"].items():
        if key not in _SETTINGS_MAY_CHANGE and value != was.get(key):
            parts = _parts(key, was.get(key), value)
            said += [f"{k} from {json.dumps(a)} to {json.dumps(b)}" for k, a, b in parts]
    pairs = differences(parse_config(before["base"]), parse_config(now["base"])).items()
    said += [
        f"{key} from {json.dumps(a, default=str)} to {json.dumps(b, default=str)}"
        for key, (a, b) in pairs
        if not key.startswith(_BASE_MAY_CHANGE)
    ]
    return said


def _parts(key: str, a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    """What differs, each by its own key."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [(key, _terse(a), _terse(b))]
    keys = dict.fromkeys([*a, *b])
    return [
        (f"{key}.{k}", _terse(a.get(k)), _terse(b.get(k))) for k in keys if a.get(k) != b.get(k)
    ]


def _terse(value: Any) -> Any:
    """Without what a dimension does not say."""
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if v not in (None, {})}
    return value

"""The records of a sweep's trials, durable at any moment: one small JSON file per trial."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from metatrain.base.errors import UserError
from metatrain.base.section import Count
from metatrain.config import Config, StableName, differences, parse_config
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

RecordState = Literal["waiting", "running", "finished", "stopped", "failed"]

# What may change when a sweep is resumed: its extent, its machines, and its loggers.
_SETTINGS_MAY_CHANGE = ("name", "dir", "base", "overrides", "budget", "loggers", "max_failures")
_BASE_MAY_CHANGE = ("run.", "cluster.", "validation.network")


@dataclass(frozen=True)
class TrialReport:
    """The result of one validation of a trial.

    Attributes:
        step: outer steps taken.
        score: the cost, by the sweep's metric, at the best k; lower is better.
        k: the number of inner steps with that score.
        loss: the query loss after them.
        seconds: the time of the trial until then, over all of its starts.
        order: the number of the report among all of the sweep.
        curve: the cost by number of inner steps.
    """

    step: Count
    score: float
    k: Count
    loss: float
    seconds: float
    order: Count
    curve: dict[int, float]

    @property
    def is_finite(self) -> bool:
        """Whether the score can be compared."""
        return math.isfinite(self.score)


@dataclass
class TrialRecord:
    """The state of a trial.

    Attributes:
        number: its number, from 0.
        values: its values of the space.
        run: the name of its run, which changes when it continues another trial's.
        state: where it stands.
        reason: why it failed.
        retries: how often it crashed and was resumed.
        reports: the results of its validations.
    """

    number: Count
    values: Values
    run: StableName
    state: RecordState = "waiting"
    reason: str = ""
    retries: Count = 0
    reports: list[TrialReport] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name in tables and folders."""
        return trial_name(self.number)

    @property
    def has_ended(self) -> bool:
        """Whether it will not run again."""
        return self.state in ("finished", "stopped", "failed")

    @property
    def last_report(self) -> TrialReport | None:
        """The result of its last validation."""
        return self.reports[-1] if self.reports else None

    @property
    def seconds(self) -> float:
        """The time that it took until its last validation."""
        return self.last_report.seconds if self.last_report else 0.0


class _Begun(TypedDict):
    """The settings that a sweep was begun with, and the configuration that its trials vary."""

    settings: dict[str, Any]
    base: dict[str, Any]


_BEGUN = TypeAdapter(_Begun)
_SECONDS = TypeAdapter(Annotated[float, Field(ge=0, allow_inf_nan=False)])


class SweepLedger:
    """The records of all trials of a sweep, each written whole whenever it changes.

    Args:
        sweep: the sweep; it is begun, or compared with the one that the folder holds.

    Attributes:
        records: the records by number.

    Raises:
        UserError: when the folder holds another sweep, or cannot be read or written.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.url = sweep, sweep.settings.url
        _begin_or_resume(sweep)
        self._seconds, self._since = _read_seconds(self.url), None
        self.records = {record.number: record for record in read_records(self.url)}

    def add(self, values: Values) -> TrialRecord:
        """Add and write the record of a new trial."""
        number = len(self.records)
        self.records[number] = TrialRecord(number, values, trial_name(number))
        self.write(self.records[number])
        return self.records[number]

    def write(self, record: TrialRecord) -> None:
        """Write a record."""
        content = json.dumps(asdict(record), indent=1).encode()
        write_file(f"{self.url}/trials/{record.name}.json", content)
        self._write_seconds()

    @property
    def metric(self) -> str:
        """The title of the cost that the sweep minimises."""
        return VALIDATION_METRICS[self.sweep.settings.metric].cost_title

    @property
    def highest_score(self) -> float:
        """The largest score that there can be: 1 for the complement of a share."""
        return VALIDATION_METRICS[self.sweep.settings.metric].highest

    def seconds(self) -> float:
        """Return the time of the sweep, over all of its starts."""
        return self._seconds + (time.monotonic() - self._since if self._since else 0.0)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Count the time inside as time of the sweep."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._seconds, self._since = self.seconds(), None
            self._write_seconds()

    def _write_seconds(self) -> None:
        write_file(f"{self.url}/spent.json", json.dumps(self.seconds()).encode())

    def reports_in_order(self) -> list[tuple[TrialRecord, TrialReport]]:
        """List all reports with their records, in the order of time."""
        pairs = [(record, r) for record in self.records.values() for r in record.reports]
        return sorted(pairs, key=lambda pair: pair[1].order)

    def finished_by_score(self) -> list[TrialRecord]:
        """List the finished trials, the lowest score first."""
        finished = [r for r in self.records.values() if r.state == "finished" and r.reports]
        return sorted(finished, key=lambda record: record.reports[-1].score)

    def best(self) -> TrialRecord | None:
        """Return the finished trial with the lowest score."""
        return next(iter(self.finished_by_score()), None)

    def tied(self) -> list[TrialRecord]:
        """List the finished trials whose score is the lowest, as tables show it."""
        finished = self.finished_by_score()
        scores = [f"{record.reports[-1].score:.4f}" for record in finished]
        return [r for r, score in zip(finished, scores, strict=True) if score == scores[0]]

    def config(self, record: TrialRecord) -> Config:
        """Return the configuration that a trial began with."""
        return self.sweep.config(record.values, record.run)

    def mark_waiting(self) -> None:
        """Mark the trials that ran as waiting, when the sweep ends: a resumed sweep runs them."""
        for record in self.records.values():
            if record.state == "running":
                record.state = "waiting"
                self.write(record)

    def remove_runs(self) -> None:
        """Remove the runs of the trials that were stopped or failed."""
        kept = {r.run for r in self.records.values() if not r.has_ended or r.state == "finished"}
        fs, root = filesystem_of(f"{self.url}/runs")
        runs = {name.partition("/")[0] for name in sizes_under(f"{self.url}/runs")}
        for name in runs - kept:
            asking(self.url, lambda name=name: fs.rm(f"{root}/{name}", recursive=True))


def trial_name(number: int) -> str:
    """Return the name of a trial in tables and folders."""
    return f"{number:03d}"


def read_record(sweep: str, number: int) -> TrialRecord:
    """Read the record of one trial of the sweep at a URL."""
    return _read(f"{sweep}/trials/{trial_name(number)}.json")


def read_records(sweep: str) -> list[TrialRecord]:
    """Read the records of all trials of the sweep at a URL, by number."""
    names = sorted(n for n in sizes_under(f"{sweep}/trials") if n.endswith(".json"))
    return [_read(f"{sweep}/trials/{name}") for name in names]


def _read(url: str) -> TrialRecord:
    try:
        # By pydantic, since JSON has strings for the numbers of steps.
        record = TypeAdapter(TrialRecord).validate_json(read_file(url))
        if not url.endswith(f"/{record.name}.json"):
            raise ValueError(f"it is the record of trial {record.name}")
        return record
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{url} is damaged ({error}); remove it.") from error


def _read_seconds(sweep: str) -> float:
    with suppress(MissingError, ValidationError):
        return _SECONDS.validate_json(read_file(f"{sweep}/spent.json"))
    return 0.0


def _begin_or_resume(sweep: Sweep) -> None:
    """Write the sweep's settings; or compare them with those that it began with.

    Raises:
        UserError: when they differ.
    """
    url = f"{sweep.settings.url}/sweep.json"
    now: dict[str, Any] = {
        "settings": sweep.settings.model_dump(mode="json", by_alias=True),
        "base": sweep.base.model_dump(mode="json"),
    }
    try:
        before = _BEGUN.validate_json(read_file(url))
    except MissingError:
        write_file(url, json.dumps(now, indent=1).encode())
        return
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UserError(f"{url} is damaged ({reason}); choose another name.") from error
    changes = _changes(before, now)
    if changes:
        raise UserError(
            f"{sweep.settings.url} was begun as another sweep: {', '.join(changes)}; undo the "
            f"changes, or choose another name."
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the settings and the keys of the base that may not change, and have."""
    changes: list[tuple[str, Any, Any]] = []
    for key, new in now["settings"].items():
        old = before["settings"].get(key)
        if key not in _SETTINGS_MAY_CHANGE and new != old:
            changes += _changed_parts(key, old, new)
    pairs = differences(parse_config(before["base"]), parse_config(now["base"]))
    changes += [
        (key, old, new) for key, (old, new) in pairs.items() if not key.startswith(_BASE_MAY_CHANGE)
    ]
    return [f"{key} from {_json(old)} to {_json(new)}" for key, old, new in changes]


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def _changed_parts(key: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Split a change of a mapping into those of its keys."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [(key, _without_defaults(old), _without_defaults(new))]
    return [
        (f"{key}.{part}", _without_defaults(old.get(part)), _without_defaults(new.get(part)))
        for part in dict.fromkeys([*old, *new])
        if old.get(part) != new.get(part)
    ]


def _without_defaults(value: Any) -> Any:
    """Drop the entries that a dimension leaves at their defaults."""
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if v not in (None, {})}
    return value

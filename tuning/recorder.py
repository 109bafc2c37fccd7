"""Callbacks of Ray Tune that keep the ledger of a sweep while it runs."""

from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.util.queue import Queue
from typing_extensions import override

from tuning.ledger import SweepLedger, TrialRecord, TrialReport


class WorkerMessages:
    """The newest messages from the workers of all trials.

    Args:
        queue: the queue that trials put them into.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._numbers: dict[int, dict[str, float]] = {}
        self._errors: dict[int, str] = {}

    def numbers(self, trial: int) -> dict[str, float]:
        """Return the values in the newest line of progress; empty before the first."""
        self._receive()
        return self._numbers.get(trial, {})

    def error(self, trial: int) -> str:
        """Return the reason why a trial crashed."""
        self._receive()
        return self._errors.get(trial, "its process was lost")

    def _receive(self) -> None:
        with suppress(Empty):
            while True:
                trial, message = self._queue.get_nowait()
                if message.kind == "error":
                    self._errors[trial] = message.text
                elif message.numbers:
                    self._numbers[trial] = message.numbers


class TrialRecorder(tune.Callback):
    """A callback that records the results and states of trials in the ledger.

    Args:
        ledger: the ledger of the sweep.
        messages: the messages from the workers of trials.
        on_end: called with the record of each trial that ends.
    """

    def __init__(
        self,
        ledger: SweepLedger,
        messages: WorkerMessages,
        on_end: Callable[[TrialRecord], None],
    ) -> None:
        self._ledger, self._messages, self._on_end = ledger, messages, on_end
        self._order = len(ledger.reports_in_order())

    @override
    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._update(trial, state="running")

    @override
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any
    ) -> None:
        record, steps = self._record(trial), self._ledger.sweep.base.meta.steps
        if "score" in result:
            values = {k: result[k] for k in ("step", "score", "k", "loss", "curve", "seconds")}
            record.reports.append(TrialReport(**values, order=self._order))
            record.run, self._order = result["run"], self._order + 1
        if "failed" in result:
            self._update(trial, state="failed", reason=result["failed"])
        elif result["done"]:  # by itself, or stopped by Tune
            self._update(trial, state="finished" if result["step"] == steps else "stopped")
        else:
            self._ledger.write(record)

    @override
    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        # The budget ended it between two results; a larger one resumes it.
        if not self._record(trial).has_ended:
            self._update(trial, state="waiting")

    @override
    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._update(trial, state="waiting", retries=self._record(trial).retries + 1)

    @override
    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        record = self._record(trial)
        self._update(trial, state="failed", reason=self._messages.error(record.number))

    def _update(self, trial: Trial, **changes: Any) -> None:
        record = self._record(trial)
        for name, value in changes.items():
            setattr(record, name, value)
        self._ledger.write(record)
        if record.has_ended:
            self._on_end(record)

    def _record(self, trial: Trial) -> TrialRecord:
        return self._ledger.records[int(trial.trial_id)]

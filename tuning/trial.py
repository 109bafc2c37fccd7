"""A trial: one distributed training run, which Ray Tune steps from validation to validation."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ray import tune
from ray.util.queue import Queue
from typing_extensions import override

from cluster.run.messages import Decision, Message
from cluster.run.worker_group import WorkerGroup, WorkersFailedError
from metatrain.base.errors import UserError
from metatrain.config import Config, parse_config
from metatrain.evaluation.validation import ValidationResult, read_validations, write_validations
from metatrain.storage.lease import LeaseKey
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.checkpoint.state import state_of
from metatrain.training.run import begin_or_resume, finish_run
from metatrain.training.run_data import begin_run_with, source_of_run
from tuning.config import Sweep
from tuning.ledger import read_record, trial_name


@dataclass(frozen=True)
class TrialContext:
    """The objects that all trials of a sweep share.

    Attributes:
        sweep: the settings and the base.
        folder: the driver's working directory, for relative paths.
        messages: the queue to the driver, of pairs of a trial's number and a message.
        lease: the lease of the sweep.
    """

    sweep: Sweep
    folder: str
    messages: Queue
    lease: LeaseKey


class TrialRun(tune.Trainable):
    """A trainable of Ray Tune: it starts a run's workers and reports each of their validations.

    After a validation the workers wait for Tune's decision. So a trial that Tune stops ends by
    itself, at once: nothing has to be killed, and nothing stays behind.
    """

    @override
    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  # Tune passes `context`
        self, config: dict[str, Any], context: TrialContext
    ) -> None:
        # The workers start with the first step.
        if Path(context.folder).is_dir():
            os.chdir(context.folder)
        # The values come from the ledger: PBT passes a clone all values of its donor.
        self._number = int(self.trial_id)
        self._context, self._rate = context, config.get("inner.lr")
        record = read_record(context.sweep.settings.url, self._number)
        self._seconds_before, self._started = record.seconds, time.monotonic()
        self._validated_step = record.last_report.step if record.last_report else 0
        self._config = _with_inherited_rates(context.sweep.config(record.values, record.run))
        self._decisions = Queue(actor_options={"num_cpus": 0})
        self._workers: WorkerGroup | None = None
        self._messages: Iterator[Message] = iter(())

    @override
    def step(self) -> dict[str, Any]:
        """Train until the next validation; or report why that is impossible.

        Raises:
            WorkersFailedError: when a retry may succeed.
        """
        try:
            validation = self._next()
        except WorkersFailedError as error:
            self._context.messages.put((self._number, Message("error", text=str(error))))
            raise
        except UserError as error:
            # A retry would fail in the same way: to Tune the trial is done, and Train's own
            # retries are not waited for.
            if self._workers:
                self._workers.abort()
            return {"done": True, "failed": str(error), "step": self._validated_step}
        return self._report(validation)

    @override
    def cleanup(self) -> None:
        """Tell the workers to leave, and wait until they have."""
        if self._workers:
            self._decisions.put(Decision(self._validated_step, continue_training=False))
            with suppress(UserError):
                for _ in self._messages:
                    pass
        self._decisions.shutdown()

    @override
    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Name the run's own checkpoint, once it is written, for trials that continue it."""
        self._continue()
        unread = []
        for message in self._messages:
            if message.kind == "saved" and message.step >= self._validated_step:
                break
            unread.append(message)
        self._messages = chain(unread, self._messages)
        return {"config": self._config.model_dump(mode="json"), "step": self._validated_step}

    @override
    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Continue another trial's checkpoint, with the inner rate that Tune set for this one."""
        assert checkpoint is not None, "Tune restores from the result of save_checkpoint"
        donor, step = parse_config(checkpoint["config"]), checkpoint["step"]
        if donor.run.name != self._config.run.name:
            run = f"{trial_name(self._number)}-{step}"
            self._config = fork_run(donor, step, run=run, rate=self._rate)
            self._validated_step = step

    def _next(self) -> ValidationResult:
        """Wait for the next validation, and start the workers wherever none run."""
        self._continue()
        while not (self._workers and self._wait_for_validation()):
            if self._is_trained():
                finish_run(self._config)
                break
            self._workers = WorkerGroup(self._config, self._context.lease, self._decisions)
            self._messages = self._workers.messages()
        return read_validations(self._config.run.url)[-1]

    def _continue(self) -> None:
        if self._workers:
            self._decisions.put(Decision(self._validated_step, continue_training=True))

    def _wait_for_validation(self) -> bool:
        """Wait for the next validation except the last, or until the workers have ended.

        Returns:
            Whether there was a validation.
        """
        assert self._workers
        for message in self._messages:
            if message.kind == "line":
                self._context.messages.put((self._number, message))
            elif message.kind == "validated":
                # Workers that were restarted from an older checkpoint validate it again.
                is_known = message.step <= self._validated_step
                self._validated_step = max(self._validated_step, message.step)
                if not is_known and self._validated_step < self._config.meta.steps:
                    return True
                self._continue()
        self._workers = None
        return False

    def _is_trained(self) -> bool:
        """Tell whether the last outer step has been taken, and its checkpoint is complete."""
        checkpoints = CheckpointStore(self._config.run.url)
        step = begin_or_resume(self._config, checkpoints, self._say)
        return step == self._config.meta.steps

    def _say(self, line: str) -> None:
        self._context.messages.put((self._number, Message("line", text=line)))

    def _report(self, validation: ValidationResult) -> dict[str, Any]:
        metric = self._context.sweep.settings.metric
        curve, best = validation.costs(metric), validation.best(metric)
        return {
            "step": validation.step,
            "score": curve[best.k],
            "k": best.k,
            "loss": best.loss,
            "curve": curve,
            "seconds": self._seconds_before + time.monotonic() - self._started,
            "run": self._config.run.name,
            "done": validation.step == self._config.meta.steps,
        }


def fork_run(donor: Config, step: int, *, run: str, rate: float | None) -> Config:
    """Begin a run at a checkpoint of another; from there on its inner rate is `rate`.

    Args:
        donor: the configuration of the other run.
        step: the outer step of the checkpoint.
        run: the name of the new run.
        rate: the inner rate; None keeps the donor's.

    Returns:
        The configuration of the new run; training it from the beginning gives the same weights.
    """
    inner = donor.inner
    if rate is not None and rate != inner.lr_at(step):
        inner = inner.model_copy(update={"lr_changes": inner.lr_changes | {step: rate}})
    renamed = donor.run.model_copy(update={"name": run})
    config = donor.model_copy(update={"run": renamed, "inner": inner})
    state = state_of(CheckpointStore(donor.run.url).open(step))
    begin_run_with(source_of_run(donor), config)
    CheckpointStore(config.run.url).save(draft_of(state, config))
    validations = [v for v in read_validations(donor.run.url) if v.step <= step]
    write_validations(config.run.url, validations)
    return config


def _with_inherited_rates(config: Config) -> Config:
    """Take over the inner rates of a run that was forked from another trial's."""
    newest = CheckpointStore(config.run.url).newest()
    if newest is None:
        return config
    kept = {"inner": newest.config.inner, "run": config.run, "cluster": config.cluster}
    return newest.config.model_copy(update=kept)

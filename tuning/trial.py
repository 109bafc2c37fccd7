"""A trial: one whole distributed run, which Ray Tune asks for one look after another."""

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

from cluster.run.launch import finish, steps_taken
from cluster.run.messages import Message, Verdict
from cluster.run.training import Training, WorkersFailedError
from metatrain.base.errors import UserError
from metatrain.config import Config, parse_config
from metatrain.evaluation.validation import Validated, read_validations, write_validations
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.checkpoint.state import state_of
from metatrain.training.run_data import begin_run_with, source_of_run
from tuning.config import Sweep
from tuning.ledger import read_record, trial_name


@dataclass(frozen=True)
class Job:
    """What all trials of a sweep have in common.

    Attributes:
        sweep: its settings and its base.
        folder: the driver's working directory, for relative paths.
        news: the queue to the driver: the number of a trial, and what its workers say.
    """

    sweep: Sweep
    folder: str
    news: Queue


class TrialRun(tune.Trainable):
    """Starts a run's workers, and hands Tune what each of their validations found.

    The workers wait after a validation until Tune has decided, so that a trial which is to stop
    does so at once, and of itself: nothing has to be killed, and nothing stays behind.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]  # Tune passes `job`
        self, config: dict[str, Any], job: Job
    ) -> None:
        """See `tune.Trainable`; workers start with the first step."""
        if Path(job.folder).is_dir():
            os.chdir(job.folder)
        # Not by what Tune gave it: a clone of PBT is given all that its donor was.
        self._number = int(self.trial_id)
        self._job, self._rate = job, config.get("inner.lr")
        record = read_record(job.sweep.settings.url, self._number)
        self._before, self._since = record.seconds, time.monotonic()
        self._seen = record.last.step if record.last else 0
        self._config = _going_on(job.sweep.config(record.values, record.run))
        self._verdicts = Queue(actor_options={"num_cpus": 0})
        self._training: Training | None = None
        self._messages: Iterator[Message] = iter(())

    def step(self) -> dict[str, Any]:
        """Go on until the next validation; or say why that cannot be.

        Raises:
            WorkersFailedError: when the same again may succeed.
        """
        try:
            found = self._next()
        except WorkersFailedError as error:
            self._job.news.put((self._number, Message("error", str(error))))
            raise
        except UserError as error:
            # Nothing would be otherwise the next time: to Tune the trial is through, and what Train
            # would still try is not waited for.
            if self._training:
                self._training.abort()
            return {"done": True, "failed": str(error), "step": self._seen}
        return self._report(found)

    def cleanup(self) -> None:
        """Have the workers leave, and wait until nothing of them is left."""
        if self._training:
            self._verdicts.put(Verdict(self._seen, go_on=False))
            with suppress(UserError):
                for _ in self._messages:
                    pass
        self._verdicts.shutdown()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Name the run's own checkpoint, once it is written; for others that go on from it."""
        self._go_on()
        held = []
        for message in self._messages:
            if message.kind == "saved" and message.content >= self._seen:
                break
            held.append(message)
        self._messages = chain(held, self._messages)
        return {"config": self._config.model_dump(mode="json"), "step": self._seen}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Go on from another trial's checkpoint, with the inner rate that Tune gave this one."""
        assert checkpoint is not None, "Tune restores from what save_checkpoint returned"
        donor, step = parse_config(checkpoint["config"]), checkpoint["step"]
        if donor.run.name != self._config.run.name:
            run = f"{trial_name(self._number)}-{step}"
            self._config = forked(donor, step, run, self._rate)
            self._seen = step

    def _next(self) -> Validated:
        self._go_on()
        while not (self._training and self._listen()):
            if self._through():
                finish(self._config)
                break
            self._training = Training(self._config, self._verdicts)
            self._messages = self._training.messages()
        return read_validations(self._config.run.url)[-1]

    def _go_on(self) -> None:
        if self._training:
            self._verdicts.put(Verdict(self._seen, go_on=True))

    def _listen(self) -> bool:
        """Wait for the next validation but the last, or until the workers have ended.

        Returns:
            Whether there was one.
        """
        assert self._training
        for message in self._messages:
            if message.kind == "line":
                self._job.news.put((self._number, message))
            elif message.kind == "validated":
                # Of a checkpoint that was lost with its workers it comes again.
                known = message.content <= self._seen
                self._seen = max(self._seen, message.content)
                if not known and self._seen < self._config.meta.steps:
                    return True
                self._go_on()
        self._training = None
        return False

    def _through(self) -> bool:
        """Whether the last outer step has been taken, and its checkpoint is whole."""
        checkpoints = CheckpointStore(self._config.run.url)
        return steps_taken(self._config, checkpoints) == self._config.meta.steps

    def _report(self, found: Validated) -> dict[str, Any]:
        metric = self._job.sweep.settings.metric
        curve, best = found.by_k(metric), found.best(metric)
        return {
            "step": found.step,
            "score": curve[best.k],
            "k": best.k,
            "loss": best.loss,
            "curve": curve,
            "seconds": self._before + time.monotonic() - self._since,
            "run": self._config.run.name,
            "done": found.step == self._config.meta.steps,
        }


def forked(donor: Config, step: int, run: str, lr: float | None) -> Config:
    """Begin a run where another has a checkpoint; from there on its inner rate is `lr`.

    Returns:
        Its configuration, which from its beginning would have given the same run.
    """
    inner = donor.inner
    if lr is not None and lr != inner.lr_at(step):
        inner = inner.model_copy(update={"lr_changes": inner.lr_changes | {step: lr}})
    named = donor.run.model_copy(update={"name": run})
    config = donor.model_copy(update={"run": named, "inner": inner})
    state = state_of(CheckpointStore(donor.run.url).open(step))
    begin_run_with(source_of_run(donor), config)
    CheckpointStore(config.run.url).save(draft_of(state, config))
    seen = [v for v in read_validations(donor.run.url) if v.step <= step]
    write_validations(config.run.url, seen)
    return config


def _going_on(config: Config) -> Config:
    """With the inner rates that its run has had, where it began from another trial's."""
    newest = CheckpointStore(config.run.url).newest()
    if newest is None:
        return config
    kept = {"inner": newest.config.inner, "run": config.run, "cluster": config.cluster}
    return newest.config.model_copy(update=kept)

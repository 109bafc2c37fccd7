"""A sweep, from its file to its best configuration."""

import logging
from contextlib import suppress
from pathlib import Path

import ray
from fsspec import AbstractFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray import tune
from ray.util.queue import Queue
from typing_extensions import override

from cluster.capacity import workers_that_fit
from cluster.run.ray_cluster import check_resources, ray_connection, required_cpus
from metatrain.base.errors import UserError
from metatrain.base.text import counted
from metatrain.config import Config
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import validation_of
from metatrain.storage.files import absolute, asking, filesystem_of
from metatrain.storage.lease import Lease, lease
from metatrain.training.run_data import training_sampler
from tuning.best import write_best
from tuning.config import Sweep
from tuning.ledger import SweepLedger
from tuning.loggers import build_loggers, write_hparams
from tuning.recorder import TrialRecorder, WorkerMessages
from tuning.schedule import build_scheduler
from tuning.suggestions import LedgerSearch
from tuning.trial import TrialContext, TrialRun
from tuning.trial_table import TrialTable
from tuning.verdict import scored_tasks, verdict_on


def run_sweep(sweep: Sweep, *, wait: bool = False) -> str:
    """Run or resume a sweep; returns the URL of its report.

    Args:
        sweep: the sweep.
        wait: whether to wait until another process that runs it has ended.

    Raises:
        HeldError: when another process runs it.
        UserError: when it cannot start or be resumed, or none of its trials finished.
        KeyboardInterrupt: with how many trials have ended.
    """
    with lease(sweep.settings.url, "runs", wait=wait) as held:
        return _run(SweepLedger(sweep), held)


def _run(ledger: SweepLedger, held: Lease) -> str:
    sweep = ledger.sweep
    loggers = build_loggers(sweep.settings)
    source = open_tasks(sweep.base.data)
    training_sampler(source, sweep.base)
    validation_of(sweep.base, source)  # trains the metric network, once for all trials
    if not BudgetStopper(ledger).stop_all() and not _has_ended(ledger):
        with ray_connection(cpus=required_cpus(sweep.base), dashboard=True) as is_own:
            check_resources(sweep.base, fixed=is_own)
            _run_trials(ledger, held, max_concurrent_trials(sweep.base), loggers)
    ledger.remove_runs()
    return _conclude(ledger)


def max_concurrent_trials(base: Config, nodes: list[dict[str, float]] | None = None) -> int:
    """Count the trials that the cluster has room for, each with all of its workers.

    Args:
        base: the configuration, with the workers of a trial and what each of them needs.
        nodes: the resources of each node; by default those of the cluster of this process.
    """
    if nodes is None:
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    workers = sum(workers_that_fit(node, base.cluster) for node in nodes)
    return max(1, workers // base.cluster.workers)


class BudgetStopper(tune.Stopper):
    """A stopper that ends the sweep when its time is over, with that of earlier starts.

    Args:
        ledger: the ledger of the sweep.
    """

    def __init__(self, ledger: SweepLedger) -> None:
        self._ledger, self._budget = ledger, ledger.sweep.settings.budget
        cluster = ledger.sweep.base.cluster
        self._gpus = cluster.workers * cluster.gpus_per_worker

    @override
    def __call__(self, trial_id: str, result: dict) -> bool:
        return False  # it stops no single trial

    @override
    def stop_all(self) -> bool:
        hours = self._ledger.seconds() / 3600
        gpu_hours = self._gpus * sum(r.seconds for r in self._ledger.records.values()) / 3600
        limits = ((hours, self._budget.hours), (gpu_hours, self._budget.gpu_hours))
        return any(limit is not None and value >= limit for value, limit in limits)


def _has_ended(ledger: SweepLedger) -> bool:
    trials = ledger.sweep.settings.budget.trials
    return len(ledger.records) >= trials and all(r.has_ended for r in ledger.records.values())


def _run_trials(
    ledger: SweepLedger, held: Lease, max_concurrent: int, loggers: list[tune.Callback]
) -> None:
    """Run trials until the budget is over, and leave the ledger complete.

    Raises:
        UserError: when the cluster is too small for PBT.
        KeyboardInterrupt: with how many trials have ended.
    """
    settings = ledger.sweep.settings
    _check_room(ledger, max_concurrent)
    print(
        f"{settings.url}: {counted(settings.budget.trials, 'trial')}, {max_concurrent} at a time; "
        f"the first starts in about 20 s.",
        flush=True,
    )
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    queue = Queue(actor_options={"num_cpus": 0})
    messages = WorkerMessages(queue)
    table = TrialTable(ledger, messages)
    recorder = TrialRecorder(ledger, messages, lambda record: write_hparams(ledger, record))
    context = TrialContext(ledger.sweep, str(Path.cwd()), queue, held.key)
    try:
        with ledger.clock():
            _tuner(ledger, max_concurrent, context, [recorder, table, *loggers]).fit()
    except KeyboardInterrupt as interrupt:
        ended = sum(record.has_ended for record in ledger.records.values())
        progress = f"{ended} of {counted(settings.budget.trials, 'trial')} ended"
        interrupt.args = (f"{progress}; the same command resumes the sweep",)
        raise
    finally:
        ledger.mark_waiting()
        table.close()
        queue.shutdown()
    # Tune's own state; the ledger has all that a resumed sweep needs.
    fs, path = _tune_folder(ledger)
    with suppress(FileNotFoundError):
        asking(settings.url, lambda: fs.rm(path, recursive=True))


def _check_room(ledger: SweepLedger, max_concurrent: int) -> None:
    settings = ledger.sweep.settings
    if settings.scheduler.name == "pbt" and settings.budget.trials > max_concurrent:
        raise UserError(
            f"PBT runs its trials side by side, and the cluster has room for {max_concurrent} of "
            f"{settings.budget.trials}; lower budget.trials or cluster.cpus_per_worker."
        )


def _tuner(
    ledger: SweepLedger,
    max_concurrent: int,
    context: TrialContext,
    callbacks: list[tune.Callback],
) -> tune.Tuner:
    settings = ledger.sweep.settings
    trainable = tune.with_parameters(TrialRun, context=context)
    # Tune's process of a trial computes nothing, but it must ask for some resource.
    resources = tune.PlacementGroupFactory([{"memory": 1_000_000}])
    fs, path = _tune_folder(ledger)
    return tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearch(ledger, max_concurrent),
            scheduler=build_scheduler(ledger),
            num_samples=settings.budget.trials,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=path,
            storage_filesystem=PyFileSystem(FSSpecHandler(fs)),
            stop=BudgetStopper(ledger),
            failure_config=tune.FailureConfig(max_failures=settings.max_failures),
            callbacks=callbacks,
            verbose=0,
        ),
    )


def _tune_folder(ledger: SweepLedger) -> tuple[AbstractFileSystem, str]:
    return filesystem_of(absolute(f"{ledger.url}/ray"))


def _conclude(ledger: SweepLedger) -> str:
    """Write the best configuration and the report; returns the URL of the report."""
    verdict = verdict_on(ledger, scored_tasks(ledger.sweep.base))
    if verdict is None:
        reasons = "; ".join(f"{r.name}: {r.reason}" for r in ledger.records.values() if r.reason)
        raise UserError(f"no trial of {ledger.url} finished ({reasons or 'the budget is over'}).")
    # Here, since it imports the libraries of statistics and pages, which takes seconds.
    from tuning.report import write_report

    print(f"{verdict.sentence} To train as trial {verdict.lowest.name}: metatrain train", end=" ")
    print(write_best(ledger, verdict.lowest), flush=True)
    return write_report(ledger, verdict)

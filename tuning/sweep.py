"""A sweep from its file to its best configuration."""

import logging
from contextlib import suppress
from pathlib import Path

import ray
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray import tune
from ray.util.queue import Queue

from cluster.capacity import places
from cluster.run.ray_cluster import check_resources, cpus_wanted, joined_cluster
from metatrain.base.errors import UserError
from metatrain.config import Config
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import validation_of
from metatrain.storage.files import absolute, asking, filesystem_of
from metatrain.training.run_data import training_sampler
from tuning.best import write_best
from tuning.config import Sweep
from tuning.ledger import Ledger
from tuning.loggers import loggers_of
from tuning.report import write_report
from tuning.schedule import scheduler_of
from tuning.suggestions import Suggestions
from tuning.trial import Job, TrialRun
from tuning.watch import Bookkeeper, News, Table, write_hparams


def sweep(chosen: Sweep) -> str:
    """Run a sweep, going on where it was; returns the URL of its report.

    Raises:
        UserError: when it cannot begin or go on, or none of its trials finished.
        KeyboardInterrupt: with how far it is.
    """
    ledger = Ledger(chosen)
    loggers = loggers_of(chosen.settings)
    source = open_tasks(chosen.base.data)
    training_sampler(source, chosen.base)
    validation_of(chosen.base, source)  # trains the metric network, once for all trials
    if not Budget(ledger).stop_all() and not _all_over(ledger):
        with joined_cluster(cpus_wanted(chosen.base), dashboard=True) as own:
            check_resources(chosen.base, fixed=own)
            _run(ledger, trials_at_once(chosen.base), loggers)
    ledger.remove_runs()
    return _conclude(ledger)


def trials_at_once(base: Config, nodes: list[dict[str, float]] | None = None) -> int:
    """How many trials the cluster has room for, each with all of its workers.

    Args:
        base: how many workers a trial has, and what each of them needs.
        nodes: what each node has; by default those of the cluster that is joined.
    """
    if nodes is None:
        nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    workers = sum(places(node, base.cluster) for node in nodes)
    return max(1, workers // base.cluster.workers)


class Budget(tune.Stopper):
    """Whether the time is over that the sweep may take, with what earlier starts took.

    Args:
        ledger: what it has taken.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._budget = ledger, ledger.sweep.settings.budget
        cluster = ledger.sweep.base.cluster
        self._gpus = cluster.workers * cluster.gpus_per_worker

    def __call__(self, trial_id: str, result: dict) -> bool:
        """See `tune.Stopper`: no trial stops for itself."""
        return False

    def stop_all(self) -> bool:
        """See `tune.Stopper`."""
        hours = self._ledger.spent() / 3600
        gpu_hours = self._gpus * sum(r.seconds for r in self._ledger.records.values()) / 3600
        limits = ((hours, self._budget.hours), (gpu_hours, self._budget.gpu_hours))
        return any(limit is not None and taken >= limit for taken, limit in limits)


def _all_over(ledger: Ledger) -> bool:
    wanted = ledger.sweep.settings.budget.trials
    return len(ledger.records) >= wanted and all(r.over for r in ledger.records.values())


def _run(ledger: Ledger, at_once: int, loggers: list[tune.Callback]) -> None:
    settings = ledger.sweep.settings
    if settings.scheduler.name == "pbt" and settings.budget.trials > at_once:
        raise UserError(
            f"PBT's trials run side by side, and of {settings.budget.trials} the cluster has room "
            f"for {at_once}; lower budget.trials or cluster.cpus_per_worker."
        )
    print(
        f"{settings.url}: {settings.budget.trials} trials, {at_once} at a time; the first starts "
        f"in some 20 s.",
        flush=True,
    )
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    queue = Queue(actor_options={"num_cpus": 0})
    news = News(queue)
    table = Table(ledger, news)
    job = Job(ledger.sweep, str(Path.cwd()), queue)
    trainable = tune.with_parameters(TrialRun, job=job)
    fs, path = filesystem_of(absolute(f"{settings.url}/ray"))
    tuner = tune.Tuner(
        # Tune's own process of a trial computes nothing, but something it must ask for.
        tune.with_resources(trainable, tune.PlacementGroupFactory([{"memory": 1_000_000}])),
        tune_config=tune.TuneConfig(
            search_alg=Suggestions(ledger, at_once),
            scheduler=scheduler_of(ledger),
            num_samples=settings.budget.trials,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=path,
            storage_filesystem=PyFileSystem(FSSpecHandler(fs)),
            stop=Budget(ledger),
            failure_config=tune.FailureConfig(max_failures=settings.max_failures),
            callbacks=[
                Bookkeeper(ledger, news, lambda record: write_hparams(ledger, record)),
                table,
                *loggers,
            ],
            verbose=0,
        ),
    )
    try:
        with ledger.clock():
            tuner.fit()
    except KeyboardInterrupt as interrupt:
        over = sum(record.over for record in ledger.records.values())
        raise KeyboardInterrupt(
            f"{over} of {settings.budget.trials} trials are over; the same command goes on"
        ) from interrupt
    finally:
        ledger.let_wait()
        table.show()
        queue.shutdown()
    # Nothing in it is needed to go on: the ledger has it all.
    with suppress(FileNotFoundError):
        asking(settings.url, lambda: fs.rm(path, recursive=True))


def _conclude(ledger: Ledger) -> str:
    best = ledger.best()
    if best is None:
        reasons = "; ".join(f"{r.name}: {r.reason}" for r in ledger.records.values() if r.reason)
        raise UserError(f"no trial of {ledger.url} finished ({reasons or 'the budget is over'}).")
    print(f"The best trial is {best.name}; metatrain train {write_best(ledger, best)}")
    return write_report(ledger, best)

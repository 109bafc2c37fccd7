"""Searcher and scheduler, Optuna's and Tune's, on a known objective without training."""

import math
from pathlib import Path

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from metatrain.base.errors import HeldError, UserError
from metatrain.storage.files import write_file
from metatrain.storage.lease import lease
from tuning.config import load_sweep
from tuning.importance import importances
from tuning.ledger import SweepLedger, TrialReport, read_record
from tuning.loggers import build_loggers
from tuning.response import response
from tuning.schedule import build_scheduler
from tuning.suggestions import Searcher
from tuning.sweep import BudgetStopper, max_concurrent_trials, run_sweep

SWEEP = """
dir: {dir}
overrides: {{meta.steps: 400}}
space:
  inner.lr: {{loguniform: [1.0e-5, 1.0]}}
  adapt.lr: {{same_as: inner.lr}}
  inner.steps: {{int: [1, 8]}}
  inner.scope.name: {{choice: [all, film, lora]}}
  inner.scope.rank: {{int: [1, 8], when: {{inner.scope.name: lora}}}}
budget: {{trials: 40}}
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.format(dir=tmp_path / "sweeps"))
    return str(file)


def test_a_sweep_that_another_process_runs_is_refused_before_anything_starts(path):
    sweep = load_sweep(path, [])
    with (
        lease(sweep.settings.url, "runs"),
        pytest.raises(HeldError, match=r"sweep is in use: .* runs it, as process \d+"),
    ):
        run_sweep(sweep)
    assert not Path(sweep.settings.dir).exists()


def planted(values, step, steps=400):
    """Score values: lowest at inner.lr 0.003, 5 steps, scope film; training lowers all scores."""
    distance = (math.log10(values["inner.lr"]) - math.log10(0.003)) ** 2 / 4
    distance += (values["inner.steps"] - 5) ** 2 / 40
    distance += {"film": 0.0, "all": 0.2, "lora": 0.4}[values["inner.scope.name"]]
    return distance + 0.3 * (1 - step / steps)


def run_until(ledger, trials):
    """Run trials one after the other as Tune does, each until the scheduler stops it."""
    searcher, scheduler = Searcher(ledger), build_scheduler(ledger)
    steps, every = ledger.sweep.base.meta.steps, ledger.sweep.base.checkpoint.every
    while len(ledger.records) < trials:
        record = ledger.add(searcher.ask(len(ledger.records)))
        trial = Trial("planted", stub=True, trial_id=record.name)
        scheduler.on_trial_add(None, trial)
        for step in range(every, steps + 1, every):
            score = planted(record.values, step)
            order = sum(len(r.reports) for r in ledger.records.values())
            record.reports.append(
                TrialReport(step, score, 1, 0.0, 60.0, order, {1: score, 2: score + 0.1})
            )
            result = {"step": step, "score": score}
            if scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                break
        record.state = "finished" if step == steps else "stopped"
        ledger.write(record)
        searcher.tell(record)
    return ledger


def test_the_planted_best_region_is_found_and_most_trials_are_stopped(path):
    ledger = run_until(SweepLedger(load_sweep(path)), 40)
    best = ledger.best().values
    assert 3e-4 < best["inner.lr"] < 3e-2  # within one of five orders of magnitude
    assert best["inner.scope.name"] == "film"
    assert planted(best, 400) < 0.25
    stopped = sum(record.state == "stopped" for record in ledger.records.values())
    assert 10 < stopped < 40
    shares, _ = importances(ledger)
    assert next(iter(shares)) in ("inner.lr", "inner.scope.name")
    assert shares["inner.steps"] < 0.5
    # The trials of one scope: those of others have another surface.
    surface = response(ledger)
    assert surface.common == {"inner.scope.name": "film"}
    assert 3e-4 < surface.optimum.rate < 3e-2
    assert surface.optimum.score == pytest.approx(0, abs=0.15)


def test_an_interrupted_search_resumes_with_what_it_learned(path):
    run_until(SweepLedger(load_sweep(path)), 25)
    again = SweepLedger(load_sweep(path))
    assert len(again.records) == 25
    run_until(again, 40)
    assert 3e-4 < again.best().values["inner.lr"] < 3e-2
    # No new search: the trials after the first 25 are better than random ones.
    late = [planted(again.records[n].values, 400) for n in range(25, 40)]
    early = [planted(again.records[n].values, 400) for n in range(6)]
    assert sum(late) / len(late) < sum(early) / len(early)


def test_a_scheduler_with_replayed_reports_decides_as_one_that_received_them(path):
    ledger = run_until(SweepLedger(load_sweep(path)), 12)
    replayed = build_scheduler(SweepLedger(load_sweep(path)))
    fresh = build_scheduler(SweepLedger(load_sweep(path, ["name=other"])))
    every = ledger.sweep.base.checkpoint.every
    for scheduler, expected in ((replayed, TrialScheduler.STOP), (fresh, TrialScheduler.CONTINUE)):
        trial = Trial("new", stub=True, trial_id="new")
        scheduler.on_trial_add(None, trial)
        bad = {"step": every, "score": 100.0}
        assert scheduler.on_trial_result(None, trial, bad) == expected


def test_median_stopping_replays_earlier_reports_too(path):
    chosen = ["scheduler.name=median", "searcher=random"]
    ledger = run_until(SweepLedger(load_sweep(path, chosen)), 0)
    for n, score in enumerate((1.0, 1.1, 0.9, 1.2)):
        record = ledger.add({"inner.lr": 0.1, "adapt.lr": 0.1, "inner.steps": 1})
        record.reports = [
            TrialReport(step, score, 1, 0.0, 60.0, n, {1: score}) for step in (100, 200, 300, 400)
        ]
        record.state = "finished"
        ledger.write(record)
    scheduler = build_scheduler(SweepLedger(load_sweep(path, chosen)))
    for score, expected in ((5.0, TrialScheduler.STOP), (0.5, TrialScheduler.CONTINUE)):
        trial = Trial("new", stub=True, trial_id=f"new-{score}")
        scheduler.on_trial_add(None, trial)
        assert scheduler.on_trial_result(None, trial, {"step": 100, "score": score}) == expected


def test_another_space_or_base_under_the_same_name_is_refused_with_the_difference(path, tmp_path):
    SweepLedger(load_sweep(path))
    SweepLedger(load_sweep(path, ["budget.trials=99", "cluster.workers=1", "loggers.wandb=p"]))
    with pytest.raises(UserError, match=r"meta.steps from 400 to 500.*choose another name"):
        SweepLedger(load_sweep(path, ["meta.steps=500"]))
    with pytest.raises(UserError, match=r'searcher from "tpe" to "random"'):
        SweepLedger(load_sweep(path, ["searcher=random"]))
    text = (tmp_path / "sweep.yaml").read_text().replace("[1, 8]}", "[1, 6]}", 1)
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(UserError, match=r"space.inner.steps from .*\[1, 8\].* to .*\[1, 6\]"):
        SweepLedger(load_sweep(path))


def test_records_are_read_back_as_written_and_damage_is_reported(path):
    ledger = run_until(SweepLedger(load_sweep(path)), 2)
    for record in ledger.records.values():
        assert read_record(ledger.url, record.number) == record
    write_file(f"{ledger.url}/trials/001.json", b"{")
    with pytest.raises(UserError, match=r"001.json is damaged"):
        SweepLedger(load_sweep(path))


def test_budgets_count_the_time_of_earlier_starts(path):
    ledger = run_until(SweepLedger(load_sweep(path, ["cluster.gpus_per_worker=1"])), 3)
    assert not BudgetStopper(ledger).stop_all()
    gpu_hours = sum(r.seconds for r in ledger.records.values()) * 2 / 3600
    for hours, over in ((0.9 * gpu_hours, True), (1.1 * gpu_hours, False)):
        chosen = load_sweep(path, ["cluster.gpus_per_worker=1", f"budget.gpu_hours={hours}"])
        assert BudgetStopper(SweepLedger(chosen)).stop_all() is over


def test_concurrent_trials_are_as_many_as_fit_on_the_nodes(path):
    base = load_sweep(path, ["cluster.workers=2", "cluster.cpus_per_worker=3", "meta.batch=2"]).base
    # One worker of 3 CPUs fits on a node of 5, so two of four nodes take a trial.
    assert max_concurrent_trials(base, [{"CPU": 5.0}] * 4) == 2
    assert max_concurrent_trials(base, [{"CPU": 8.0}] * 3) == 3
    assert max_concurrent_trials(base, [{"CPU": 1.0}]) == 1  # Ray waits, and reports that it waits
    third = load_sweep(path, ["name=b", "cluster.cpus_per_worker=0.3333333333333333"]).base
    assert max_concurrent_trials(third, [{"CPU": 2.0}]) == 3
    gpus = load_sweep(path, ["name=c", "cluster.gpus_per_worker=1"]).base
    assert max_concurrent_trials(gpus, [{"CPU": 64.0, "GPU": 8.0}]) == 4


def test_a_logger_that_is_not_installed_is_refused_with_its_package(path):
    with pytest.raises(UserError, match="pip install wandb"):
        build_loggers(load_sweep(path, ["loggers.wandb=project"]).settings)
    assert build_loggers(load_sweep(path).settings) == []


def test_random_trials_follow_from_the_seed(path):
    def trials(*overrides):
        searcher = Searcher(SweepLedger(load_sweep(path, ["searcher=random", *overrides])))
        return [searcher.ask(n) for n in range(5)]

    assert trials("name=a") == trials("name=b")
    assert trials("name=a") != trials("name=c", "seed=1")


def test_a_random_search_that_goes_on_does_not_begin_again(path):
    chosen = load_sweep(path, ["searcher=random", "scheduler.name=none"])
    run_until(SweepLedger(chosen), 5)
    again = run_until(SweepLedger(chosen), 10)
    assert len({record.values["inner.lr"] for record in again.records.values()}) == 10


def test_the_searcher_learns_from_a_trial_of_an_earlier_start(path):
    ledger = SweepLedger(load_sweep(path))
    record = ledger.add(Searcher(ledger).ask(0))
    searcher = Searcher(SweepLedger(load_sweep(path)))
    record.reports.append(TrialReport(400, 0.5, 1, 0.0, 60.0, 0, {1: 0.5}))
    record.state = "finished"
    searcher.tell(record)
    [trial] = searcher._study.trials
    assert trial.value == 0.5

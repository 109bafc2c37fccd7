"""Measure how often a calibrated model's interval of 90% holds on another list of tasks.

    python -m benchmarks.evaluation.coverage RUN --tasks 40 --seeds 3 --out FOLDER

Calibrates the model of a run on tasks of the split val, and asks it about tasks of the split test,
as lists of other sizes and other numbers of seeds. Run again, it resumes.
"""

import argparse
from dataclasses import replace
from itertools import product

from metatrain.base.tables import aligned
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.calibrate import calibration_protocol
from metatrain.evaluation.candidates import read_candidates
from metatrain.evaluation.running.jobs import read_outputs
from metatrain.evaluation.running.runner import LocalRunner, run_jobs
from metatrain.evaluation.terminal_table import score_with_interval
from metatrain.evaluation.training_data import data_for
from metatrain.metrics.network import NETWORK


def rows(run: str, out: str, data: str | None, tasks: int, seeds: int) -> list[list[str]]:
    """Return the rows of the table, of every pair of a calibration and a list."""
    [candidate] = read_candidates([run], trust=True)
    store = EpisodeStore(data_for(candidate.model, data, candidate.system.url))
    sizes = sorted({tasks, max(20, tasks // 2)})
    result = []
    for (known, asked), number in product(product(sizes, sizes), sorted({1, seeds})):
        val, test = (
            calibration_protocol(
                store, candidate, tasks=of, seeds=each, network=f"{out}/{NETWORK}", split=split
            )
            for split, of, each in (("val", known, seeds), ("test", asked, number))
        )
        jobs = [protocol.jobs(candidate.system, out) for protocol in (val, test)]
        run_jobs([job for part in jobs for job in part], LocalRunner())
        calibration = val.calibration(candidate.system, read_outputs(jobs[0]))
        model = replace(candidate.model, calibration=calibration)
        quality = test.expectation_quality(model, candidate.system, read_outputs(jobs[1]))
        assert quality is not None
        held, error = (score_with_interval("own_task", e) for e in (quality.held, quality.error))
        foreseen = "yes" if calibration.forecast().foresees else "no"
        result.append([f"{known}", f"{asked}", f"{number}", held, error, foreseen])
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run, or a name")
    parser.add_argument("--data", metavar="URL", help="packed data set (the training data)")
    parser.add_argument("--tasks", type=int, default=40, help="tasks of each split (40)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (3)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of what is computed")
    arguments = parser.parse_args()
    heads = ["calibrated on", "tasks asked", "seeds", "interval held", "mean error", "foreseen"]
    table = rows(arguments.run, arguments.out, arguments.data, arguments.tasks, arguments.seeds)
    print(aligned([heads, *table], justify="right"))


if __name__ == "__main__":
    main()

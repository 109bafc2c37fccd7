"""Accuracy of detectors of red cells in new blood smears, by what they learned from.

    python -m benchmarks.medicine.cells BCCD CELLS
    python -m benchmarks.medicine CELLS --out DIR

For each smear of the test, a classifier of windows learns from 5, 10 or 20 red cells of that smear,
with a standard augmentation, with generated cells, or both, beside windows that are no red cell.
Its rival learned from the smears of training alone. Systems are paired by seed, and every finished
system of a seed is a file in --out, so that the same command resumes; it ends in a table for each
number of cells, and a picture of the first generated ones.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import resumable
from benchmarks.few_real import BUDGETS, add_budgets, picture, table
from benchmarks.medicine.systems import ALL, Smears
from benchmarks.paired import measured, written


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and print the tables."""
    options = _parse(argv)
    return resumable(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    budgets = {name: getattr(options, name) for name in ("smears", *BUDGETS)}
    for shots in options.shots:
        bench = Smears(cells=options.cells, out=options.out, shots=shots, **budgets)
        settings = {"shots": shots, **budgets, "smears": len(bench.held_out)}
        place = options.out / f"shots-{shots}"
        results = measured(place, ALL, options.seeds, settings, bench.measure)
        print(f"{shots} red cells, {len(bench.held_out)} smears\n")
        print(written(place, table(results), settings), end="\n\n")
        picture(bench.rows(), place / "generated.png")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Red cells of new smears, with generated cells.")
    add = parser.add_argument
    add("cells", type=Path, metavar="CELLS", help="folder that benchmarks.medicine.cells wrote")
    add("--out", type=Path, required=True, help="folder to write; the same again resumes")
    add("--seeds", type=int, default=3)
    add("--smears", type=int, default=16, help="at most so many, those of most cells (16)")
    add("--shots", type=int, nargs="+", default=[5, 10, 20], help="red cells given (5 10 20)")
    add_budgets(parser, generated=60, classifier_steps=200)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

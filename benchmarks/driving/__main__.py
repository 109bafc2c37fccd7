"""Accuracy on rare traffic signs of a classifier that learned from real and generated photos.

    python -m benchmarks.driving SIGNS --out DIR

Systems are paired by seed: the same photos given, the same start of the classifier. The model is
trained once, on the other classes. Every finished system of a seed is a file in --out, so that the
same command resumes; it ends in a table, and a picture of the first generated photos.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands import resumable
from benchmarks.driving.systems import Signs, read_signs
from benchmarks.few_real import BUDGETS, SYSTEMS, add_budgets, picture, table
from benchmarks.paired import measured, written
from metatrain.base.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, and print a table."""
    options = _parse(argv)
    return resumable(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    budgets = {name: getattr(options, name) for name in ("rare", "shots", *BUDGETS)}
    signs = read_signs(options.signs, options.rare + 2)
    bench = Signs(out=options.out, signs=signs, **budgets)
    if len(bench.held_out) < options.rare:
        raise UserError(
            f"{options.signs} has {len(bench.held_out)} classes with enough photos to be rare; "
            f"lower --rare or --shots."
        )
    results = measured(options.out, SYSTEMS, options.seeds, budgets, bench.measure)
    print(written(options.out, table(results), budgets))
    picture(bench.rows(), options.out / "generated.png")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Rare traffic signs, with generated photos.")
    add = parser.add_argument
    add("signs", type=Path, metavar="SIGNS", help="a folder for each class, a photo a track")
    add("--out", type=Path, required=True, help="folder to write; the same again resumes")
    add("--seeds", type=int, default=5)
    add("--rare", type=int, default=10, help="classes to hold out, those of fewest photos (10)")
    add("--shots", type=int, default=5, help="real photos of a rare class (5)")
    add_budgets(parser, generated=100, classifier_steps=500)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

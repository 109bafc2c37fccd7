"""Accuracy on handwriting of a classifier that learned from simulated letters, refined or not.

    python -m benchmarks.refinement HANDWRITING/Latin --out DIR

Systems are paired by seed: the same test persons, the same letters of each, the same start of the
classifier. Every finished system of a seed is a file in --out, so that the same command resumes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paired import measured, table, written
from benchmarks.refinement.letters import Letters, handwritten, rendered
from benchmarks.refinement.picture import letters_png
from benchmarks.refinement.systems import SYSTEMS, Bench
from metatrain.base.errors import UserError
from metatrain.storage.files import write_file


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print a table."""
    arguments = _parse(argv)
    persons = handwritten(arguments.handwriting)
    names = list(persons)
    if len(names) < arguments.persons + 10:
        raise UserError(
            f"{arguments.handwriting} has the letters of {len(names)} persons; give 10 more than "
            f"--persons, which is {arguments.persons}, to train on."
        )
    budgets = {
        name: getattr(arguments, name)
        for name in ("shots", "classifier_steps", "meta_steps", "alone_steps")
    }
    bench = Bench(
        out=arguments.out,
        simulated=_some(rendered(), arguments.letters),
        training={name: persons[name] for name in names[: -arguments.persons]},
        test={name: persons[name] for name in names[-arguments.persons :]},
        **budgets,
    )
    asked = {**budgets, "persons": arguments.persons, "letters": arguments.letters}
    systems = [name for name in SYSTEMS if name in (arguments.only or SYSTEMS)]
    results = measured(arguments.out, systems, arguments.seeds, asked, bench.measure)
    print(written(arguments.out, table(results), asked))
    if not arguments.only:
        write_file(f"{arguments.out}/letters.png", letters_png(bench, seed=0))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Letters refined towards handwriting.")
    add = parser.add_argument
    add("handwriting", type=Path, metavar="HANDWRITING", help="folder of character01 to 26")
    add("--out", type=Path, required=True, help="folder to write; the same again resumes")
    add("--only", nargs="+", choices=SYSTEMS, metavar="SYSTEM", help="these alone, no picture")
    add("--seeds", type=int, default=5)
    add("--persons", type=int, default=8, help="persons to read, the last of all (8)")
    add("--letters", type=int, help="at most so many rendered letters (all)")
    add("--shots", type=int, default=5, help="unlabelled letters of a person (5)")
    add("--classifier-steps", type=int, default=1000)
    add("--meta-steps", type=int, default=2000)
    add("--alone-steps", type=int, default=500)
    return parser.parse_args(argv)


def _some(letters: Letters, count: int | None) -> Letters:
    step = max(1, -(-len(letters.labels) // (count or len(letters.labels))))
    return Letters(letters.images[::step], letters.labels[::step])


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from error

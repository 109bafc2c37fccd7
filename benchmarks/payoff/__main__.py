"""The payoff of meta-learning over budgets: train and score what remains, and write a page.

    python -m benchmarks.payoff --list
    python -m benchmarks.payoff --only icons-32 --budget 0 4 20

Each cell is a training, named DATA/METHOD/TFLOP/SEED. Cells that are done are not repeated, and one
that was interrupted resumes. The page has the cells that are done, and names those that are not.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.payoff.cells import Cells
from benchmarks.payoff.page import write_page
from benchmarks.payoff.plan import Cell, all_cells, chosen_cells, read_plan
from metatrain.base.errors import UserError
from metatrain.base.progress import StreamDisplay, displayed, human_duration, log_line

_PLAN = str(Path(__file__).with_name("payoff.yaml"))
# An evaluation takes about as long as a training of so many TFLOP.
_EVALUATION_TFLOP = 4.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen cells that remain, and write the page."""
    options = _parse(argv)
    # As Ctrl-C does: the training in progress saves and ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(options.threads)
    try:
        with displayed(StreamDisplay(sys.stderr)):
            _run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        saved = f", {interrupt}" if interrupt.args else ""
        print(f"interrupted{saved}; the same command resumes.", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--plan", default=_PLAN, help="file of the payoff (payoff.yaml)")
    add("--only", nargs="+", default=[], metavar="CELL", help="names of cells, as icons-32/joint")
    add("--budget", nargs="+", type=float, default=[], metavar="TFLOP", help="0: random weights")
    add("--list", action="store_true", help="list the chosen cells, and whether they are done")
    add("--page", action="store_true", help="run no cell, write the page of those that are done")
    add("--threads", type=int, default=1, help="threads of a training, processes that adapt (1)")
    add("--folder", default="runs/payoff", help="folder of data, trainings and results")
    add("--out", default="docs", help="folder of the page (docs)")
    return parser.parse_args(argv)


def _run(options: argparse.Namespace) -> None:
    plan = read_plan(options.plan)
    cells, every = Cells(plan, options.folder, options.threads), all_cells(plan)
    chosen = chosen_cells(every, options.only, options.budget)
    if options.list:
        for cell in chosen:
            print(f"{cell.name:<40} {'done' if cells.result(cell) else 'not run'}")
        return
    remaining = [] if options.page else [cell for cell in chosen if not cells.result(cell)]
    _run_cells(cells, remaining)
    print(write_page(plan, cells, every, Path(options.out)))


def _run_cells(cells: Cells, remaining: Sequence[Cell]) -> None:
    work = [cell.tflop + _EVALUATION_TFLOP for cell in remaining]
    began = time.monotonic()
    for number, cell in enumerate(remaining):
        left = "unknown"
        if number:
            rate = (time.monotonic() - began) / sum(work[:number])
            left = human_duration(rate * sum(work[number:]))
        place = f"cell {number + 1} of {len(remaining)}"
        print(log_line(f"{place}: {cell.name}, ETA {left}"), flush=True)
        cells.run(cell)


if __name__ == "__main__":
    sys.exit(main())

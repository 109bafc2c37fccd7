"""Steps to a new concept from several starts: `python -m benchmarks.backbones.concepts OUT`.

Trains a small backbone of diffusers from nothing on the training tasks, then starts of a LoRA over
it, and adapts each start to tasks of the split test at rates that are chosen on the split val. Ends
in tables.md and concepts.png under OUT; an interrupted command resumes.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.backbones.concepts.adapting import Adapting
from benchmarks.backbones.concepts.curves import Curves
from benchmarks.backbones.concepts.page import curve_table, figure_svg, pace_of, speed_table
from benchmarks.backbones.concepts.plan import STANDARD, read_plan
from benchmarks.backbones.concepts.trainings import Trainings
from benchmarks.commands import resumable
from benchmarks.figures import png
from benchmarks.provenance import commit, hardware
from metatrain.base.progress import say
from metatrain.storage.files import write_file

_PLAN = str(Path(__file__).with_name("concepts.yaml"))


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is missing, and write the tables and the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", metavar="OUT", help="folder of trainings and results")
    parser.add_argument("--plan", default=_PLAN, help="file of the benchmark (concepts.yaml)")
    parser.add_argument("--threads", type=int, default=1, help="threads of a training (1)")
    options = parser.parse_args(argv)
    # As Ctrl-C does: the training in progress saves and ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(options.threads)
    return resumable(lambda: _run(options.plan, options.out.rstrip("/")))


def _run(file: str, out: str) -> None:
    plan = read_plan(file)
    trainings = Trainings(plan, out)
    names = [STANDARD, *plan.starts]
    starts = {name: trainings.start(name) for name in names}
    adapting = Adapting(plan, starts[STANDARD].config, out)
    curves: dict[str, Curves] = {}
    for number, (name, start) in enumerate(starts.items(), start=1):
        say(f"adapting from start {number} of {len(names)}: {name}")
        curves[name] = adapting.curves(name, start)
    real = adapting.held_out_own_task()
    write_file(f"{out}/concepts.png", png(figure_svg(curves, real)))
    facts = (
        f"{len(adapting.test.benchmark.tasks)} concepts, {adapting.test.benchmark.shots} images "
        f"each; an inner step takes {1000 * pace_of(curves):.0f} ms on one core; held-out real "
        f"images: own task {real:.1%}; {hardware()}, commit {commit()[:12]}"
    )
    text = "\n\n".join([speed_table(curves), curve_table(curves), facts])
    write_file(f"{out}/tables.md", f"{text}\n".encode())
    print(text)


if __name__ == "__main__":
    sys.exit(main())

"""The cost of meta-learning over backbones: `python -m benchmarks.backbones OUT`.

For each class and learner: the gradient of one episode, in milliseconds of a processor, and a
plain loop over PEFT's LoRA that passes the backbone as often, in turn, on one thread. The goal is a
ratio of at most 1.05 for learners of first order. Then the memory that the gradient holds, for few
and for many inner steps. A cell that is finished is not measured again.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.backbones.cell import BackboneCell, measured
from benchmarks.backbones.models import sizes_of

LEARNERS = ("reptile", "fomaml", "maml")
_WIDTH, _STEPS, _ROUNDS = 64, 4, 7


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not measured yet, and print a line for each cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="folder of the cells")
    add("--classes", nargs="+", default=list(sizes_of(_WIDTH)), metavar="CLASS")
    add("--learners", nargs="+", default=list(LEARNERS), choices=LEARNERS)
    add("--width", type=int, default=_WIDTH, help=f"channels of the backbones ({_WIDTH})")
    add("--steps", type=int, default=_STEPS, help=f"inner steps ({_STEPS})")
    add("--rounds", type=int, default=_ROUNDS, help=f"rounds of both systems ({_ROUNDS})")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print("| class | learner | ours, ms | plain, ms | ratio | held, MB, by inner steps |")
    print("|---|---|---|---|---|---|")
    sizes = {"width": options.width, "steps": options.steps, "rounds": options.rounds}
    for kind in options.classes:
        for learner in options.learners:
            result = measured(BackboneCell(kind=kind, learner=learner, **sizes), options.out)
            held = ", ".join(f"{n}: {size / 1e6:.0f}" for n, size in result.held.items())
            print(
                f"| {kind} | {learner} | {1e3 * result.ours:.0f} | {1e3 * result.plain:.0f} | "
                f"{result.ours / result.plain:.2f} | {held} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

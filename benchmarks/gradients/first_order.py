"""The speed of two settings: `python -m benchmarks.gradients.first_order [--compile]`.

Compares `meta.tasks_at_once=4` with 1, on the outer gradient of four tasks, by scope; and with
`--compile`, since it takes minutes, `inner.compile=true` with false, on Reptile in scope all. U-Net
of width 32 at 28 pixels, 5 + 5 images per task, 4 inner steps, one thread. CPU time, interleaved.
"""

import argparse
from collections.abc import Sequence

import torch

from benchmarks.gradients.measure import Times, times
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.model.build import build_learner, build_theta

TASKS, REPEATS = 4, 7
LEARNERS, SCOPES = ("reptile", "fomaml", "maml"), ("film", "lora", "head", "context", "all")


def main() -> None:
    """Measure each setting and print a line for it."""
    parser = argparse.ArgumentParser(description="Measure the speed of two settings.")
    parser.add_argument("--compile", action="store_true", help="measure inner.compile too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| learner | scope | setting | without, ms | with, ms | ratio |\n|---|---|---|---|---|---|"
    )
    for learner in LEARNERS:
        for scope in SCOPES:
            _measure(learner, scope, "meta.tasks_at_once=4")
    if arguments.compile:
        _measure("reptile", "all", "inner.compile=true")


def _measure(learner: str, scope: str, setting: str) -> None:
    common = [f"learner.name={learner}", f"inner.scope.name={scope}"]
    measured = outer_gradient_times({"without": common, "with": [*common, setting]})
    without, with_it = 1e3 * measured["without"].cpu, 1e3 * measured["with"].cpu
    ratio = with_it / without
    print(
        f"| {learner} | {scope} | `{setting}` | {without:.0f} | {with_it:.0f} | {ratio:.2f} |",
        flush=True,
    )


def outer_gradient_times(configurations: dict[str, Sequence[str]]) -> dict[str, Times]:
    """Time an outer gradient of the same four tasks for each configuration."""
    episodes, systems = _episodes(), {}
    for name, overrides in configurations.items():
        config = load_config(None, ["generator.width=32", *overrides])
        learner = build_learner(config, build_theta(config))
        theta = learner.inner.theta.copy()
        noise = torch.Generator().manual_seed(0)
        for p in theta.values():  # layers that start at 0 have no gradients behind them
            p += 0.02 * torch.randn(p.shape, generator=noise)
        systems[name] = lambda learner=learner, theta=theta: learner.outer_gradient(
            theta, episodes, step=0
        )
        systems[name]()
    return times(systems, REPEATS)


def _episodes() -> list[Episode]:
    images = torch.rand(TASKS, 10, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return [Episode(f"task {i}", *Examples(task).split(5), i) for i, task in enumerate(images)]


if __name__ == "__main__":
    main()

"""Whether two settings pay: `python -m benchmarks.gradients.first_order [--compile]`.

`meta.tasks_at_once=4` against 1, for the outer gradient of four tasks in small scopes; and, since
it takes minutes, only when asked, `inner.compile=true` against false, for one of Reptile in scope
all. U-Net of width 32 at 28 pixels, 5 + 5 images a task, 4 inner steps, one thread. CPU time, with
both in turn.
"""

import argparse
from collections.abc import Sequence

import torch

from benchmarks.gradients.cases import theta_of
from benchmarks.gradients.measure import Times, times
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.model.build import build_learner, build_theta

TASKS, REPEATS = 4, 7
LEARNERS, SCOPES = ("reptile", "fomaml", "maml"), ("film", "lora", "head", "context", "all")


def main() -> None:
    """Measure, and print a line each."""
    parser = argparse.ArgumentParser(description="Whether two settings pay.")
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
    taken = outer_gradient_times({"without": common, "with": [*common, setting]})
    without, with_it = 1e3 * taken["without"].cpu, 1e3 * taken["with"].cpu
    ratio = with_it / without
    print(
        f"| {learner} | {scope} | `{setting}` | {without:.0f} | {with_it:.0f} | {ratio:.2f} |",
        flush=True,
    )


def outer_gradient_times(configurations: dict[str, Sequence[str]]) -> dict[str, Times]:
    """Seconds of an outer gradient of the same four tasks, by configuration."""
    episodes, systems = _episodes(), {}
    for name, overrides in configurations.items():
        config = load_config(None, ["generator.width=32", *overrides])
        learner = build_learner(config, build_theta(config))
        theta = theta_of(learner.inner.generator)
        noise = torch.Generator().manual_seed(0)
        for p in theta.values():  # layers that start at 0 would leave nothing to do
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

"""Two ways that might make first-order learners faster: `python -m benchmarks.first_order`.

One gradient, compiled against eager; and the gradients of four tasks in one call, by `vmap` over
the moved parameters alone, against one after the other. U-Net of width 32, 10 images, one thread.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from benchmarks.measure import times
from metatrain.build import build_generator
from metatrain.config import load_config
from metatrain.episodes import Episode
from metatrain.generators import Draw, Generator
from metatrain.inner.hvp import plain_attention
from metatrain.inner.scopes import SCOPES
from metatrain.parameters import Parameters

TASKS, REPEATS = 4, 15


def main() -> None:
    """Measure both, print a line each."""
    torch.set_num_threads(1)
    for scope in ("film", "lora", "context"):
        _print(f"{TASKS} tasks in one call, scope {scope}", *tasks_at_once(scope))
    _print("compiled", *compiled())


def compiled() -> tuple[float, float]:
    """Seconds of a gradient in all weights, eager and compiled."""
    generator, draws = _unet("all")
    weights = list(generator.parameters())
    fast = torch.compile(generator, dynamic=False)

    def run(forward: Callable[..., Tensor]) -> None:
        torch.autograd.grad(forward(*draws[0]), weights)

    run(fast)
    taken = times({"eager": lambda: run(generator), "fast": lambda: run(fast)}, REPEATS)
    return taken["eager"].cpu, taken["fast"].cpu


def tasks_at_once(scope: str) -> tuple[float, float]:
    """Seconds of a gradient for each task in the weights of `scope`, in turn and at once."""
    generator, draws = _unet(scope)
    weights = {name: p.detach() for name, p in generator.named_parameters()}
    moved = {name: weights.pop(name) for name in SCOPES[scope].names(generator)}

    def gradient(of: Parameters, draw: Draw) -> Parameters:
        return grad(lambda m: functional_call(generator, weights | m, draw))(of)

    def in_turn() -> None:
        for draw in draws:
            leaves = {name: p.requires_grad_() for name, p in moved.items()}
            loss = functional_call(generator, weights | leaves, draw)
            torch.autograd.grad(loss, list(leaves.values()))

    stacked = {name: torch.stack([p] * TASKS) for name, p in moved.items()}
    together = tuple(torch.stack(part) for part in zip(*draws, strict=True))

    def at_once() -> None:
        with plain_attention():  # fused attention has no batching rule
            vmap(gradient)(stacked, together)

    taken = times({"in_turn": in_turn, "at_once": at_once}, REPEATS)
    return taken["in_turn"].cpu, taken["at_once"].cpu


def _unet(scope: str) -> tuple[Generator, list[Draw]]:
    overrides = ["generator.width=32", f"inner.scope.name={scope}"]
    generator = build_generator(load_config(None, overrides))
    images = torch.rand(TASKS, 10, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    episodes = [Episode("task", task[:5], task[5:], seed) for seed, task in enumerate(images)]
    return generator, [generator.draw(episode.whole_batch()) for episode in episodes]


def _print(what: str, plain: float, other: float) -> None:
    verdict = "wins" if other <= 0.9 * plain else "does not win 10%"
    print(f"| {what} | {1e3 * plain:.1f} | {1e3 * other:.1f} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()

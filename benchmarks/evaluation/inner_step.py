"""Measure ways to take the inner steps of many tasks, on one core.

    python -m benchmarks.evaluation.inner_step runs/demo

Prints the milliseconds computed for a task and an inner step: one task after the other, and several
at once (`Model.adapt_tasks`), by scope; and one task after the other with other layouts and
precisions, which change the numbers. The least of some rounds, for other programs only add to it.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from metatrain import Model, load
from metatrain.config import with_values
from metatrain.data.examples import Examples
from metatrain.model.adapt import adapt_together
from metatrain.model.rescope import rescoped

_STEPS, _ROUNDS = 6, 3
_SCOPES = ("all", "body", "film", "lora", "head")
_AT_ONCE = (4, 8, 16)


def support_of(model: Model, seed: int) -> Examples:
    """Make a support of noise, of the model's shape."""
    data = model.config.data
    shape = (data.shots, data.channels, data.image_size, data.image_size)
    return Examples(torch.randn(shape, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1))


def with_scope(model: Model, scope: str) -> Model:
    """Return the model with few inner steps, in `scope`."""
    config, parameters = rescoped(model.config, model.parameters, scope)
    return Model(with_values(config, {"adapt.steps": _STEPS}), parameters, model.step)


def one_by_one(model: Model, layout: torch.memory_format = torch.contiguous_format) -> None:
    """Adapt to one task, with weights in `layout`."""
    adapter = model.adapter()
    adapter.generator.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    for _ in adapter.steps(support_of(model, 0)):
        pass


def together(model: Model, tasks: int) -> None:
    """Adapt to several tasks at once."""
    adapt_together(model.config, model.theta(), [support_of(model, i) for i in range(tasks)])


@contextmanager
def rounded_convolutions() -> Iterator[None]:
    """Let convolutions round their inputs to bfloat16, as AMX takes them."""
    convolutions = torch.backends.mkldnn.conv  # pyright: ignore[reportAttributeAccessIssue]
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "bf16"
    try:
        yield
    finally:
        convolutions.fp32_precision = before


def milliseconds(act: Callable[[], None], tasks: int = 1) -> float:
    """Return the least time that a task and a step of `act` took to compute."""
    act()
    times = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        act()
        times.append(time.process_time() - started)
    return 1000 * min(times) / tasks / _STEPS


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", metavar="RUN", help="the folder of a finished run, or a name")
    torch.set_num_threads(1)
    model = load(parser.parse_args().model, trust=True)
    print(f"{'scope':<34}{'one':>8}" + "".join(f"{count:>8}" for count in _AT_ONCE), flush=True)
    for scope in _SCOPES:
        scoped = with_scope(model, scope)
        times = [milliseconds(lambda m=scoped: one_by_one(m))]
        times += [milliseconds(lambda m=scoped, n=n: together(m, n), n) for n in _AT_ONCE]
        print(f"{scope:<34}" + "".join(f"{value:>8.1f}" for value in times), flush=True)
    whole, last = with_scope(model, "all"), torch.channels_last
    ways: dict[str, tuple[AbstractContextManager[object], torch.memory_format]] = {
        "channels last": (nullcontext(), last),
        "bf16 autocast": (torch.autocast("cpu", torch.bfloat16), torch.contiguous_format),
        "bf16 autocast, channels last": (torch.autocast("cpu", torch.bfloat16), last),
        "bf16 convolutions": (rounded_convolutions(), torch.contiguous_format),
        "bf16 convolutions, channels last": (rounded_convolutions(), last),
    }
    for name, (context, layout) in ways.items():
        with context:
            print(
                f"{name:<34}{milliseconds(lambda f=layout: one_by_one(whole, f)):>8.1f}", flush=True
            )


if __name__ == "__main__":
    main()

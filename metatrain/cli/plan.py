"""`metatrain plan`."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli.arguments import above_0, add_config_arguments, positive
from metatrain.cli.command import Command, sentence_of, show

if TYPE_CHECKING:
    from metatrain.config import Config
    from metatrain.plan.hardware import Hardware


def _arguments(parser: argparse.ArgumentParser) -> None:
    """A configuration, and what to plan for."""
    add_config_arguments(parser)
    add = parser.add_argument
    add("--gpus", type=positive, metavar="N", help="plan for N GPUs, a worker each")
    add("--gpu-memory", type=above_0, metavar="GB", help="of one GPU (80)")
    add("--per-node", type=positive, metavar="N", help="workers of a node (8)")
    add("--tflops", type=above_0, metavar="T", help="of one GPU (fp32 67, bf16 989: H100)")
    add("--efficiency", type=above_0, metavar="E", help="share of them that is reached (0.3)")
    add("--link", type=above_0, metavar="GB/S", help="from GPU to GPU in a node (300)")
    add("--network", type=above_0, metavar="GB/S", help="from GPU to GPU between nodes (35)")
    add("--price", type=above_0, metavar="P", help="of a GPU for an hour, in any currency")


def _plan(arguments: argparse.Namespace) -> None:
    """Print the plan, and what to change where it does not fit.

    Raises:
        UserError: when the configuration cannot be used, or does not fit.
    """
    from metatrain.config import Config, load_config

    gpus = arguments.gpus
    given = [f"cluster.workers={gpus}", "cluster.gpus_per_worker=1"] if gpus else []

    def load(further: Sequence[str]) -> Config:
        return load_config(arguments.config, [*arguments.overrides, *given, *further])

    config = load(())
    from metatrain.plan.plan import plan_of, remedy
    from metatrain.plan.terminal_table import advice, plan_table

    result = plan_of(config, _hardware(arguments, config))
    show(plan_table(result))
    _tell_problems(result.config, here=not gpus)
    if not result.fits:
        raise UserError(advice(*remedy(result, load)))


def _tell_problems(config: "Config", *, here: bool) -> None:
    """Tell what training would refuse.

    Args:
        config: the run's configuration.
        here: whether this machine shall train.
    """
    import torch

    from metatrain.training.problems import problems_of

    problems = problems_of(config, gpus=torch.cuda.device_count() if here else None)
    if problems:
        lines = ["\nTraining would be refused as it is now:", *map(sentence_of, problems)]
        show("\n  ".join(lines))


def _hardware(arguments: argparse.Namespace, config: "Config") -> "Hardware":
    from dataclasses import replace

    from metatrain.plan.hardware import Hardware, has_bf16_backbone, this_machine

    stated = {
        "memory": arguments.gpu_memory and 1e9 * arguments.gpu_memory,
        "per_node": arguments.per_node,
        "tflops": arguments.tflops,
        "efficiency": arguments.efficiency,
        "link": arguments.link and 1e9 * arguments.link,
        "network": arguments.network and 1e9 * arguments.network,
        "price": arguments.price,
    }
    bf16 = config.inner.precision == "bf16" or has_bf16_backbone(config)
    gpus = config.cluster.gpus_per_worker
    usual = Hardware.h100(bf16=bf16) if gpus else this_machine(config.cluster.workers)
    return replace(usual, **{name: value for name, value in stated.items() if value is not None})


PLAN = Command("Predict a run's memory, traffic, time and cost.", _arguments, _plan)

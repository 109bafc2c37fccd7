"""`metatrain from-lora`: LoRAs that people have, as a model to start from."""

import argparse

from metatrain.base.errors import UserError
from metatrain.cli.arguments import above_0, add_wait_argument
from metatrain.cli.command import Command, show


def _from_lora(arguments: argparse.Namespace) -> None:
    from metatrain.combine.from_lora import mean_of_loras, mixture_of_loras
    from metatrain.config import load_config
    from metatrain.storage.lease import lease

    if not arguments.out.endswith(".safetensors"):
        raise UserError(f"--out is {arguments.out}; give the name of a .safetensors file.")
    if arguments.mixture and arguments.strength != 1.0:
        raise UserError("--strength is of a mean, and --mixture makes none; leave one of them out.")
    config = load_config(arguments.config, [])
    with lease(arguments.out, "combines", wait=arguments.wait, is_file=True):
        if arguments.mixture:
            model = mixture_of_loras(config, arguments.files)
        else:
            model, kept = mean_of_loras(config, arguments.files, arguments.strength)
            rank = config.inner.scope.rank
            show(f"rank {rank} keeps {kept:.2%} of the squared norm of the mean's terms")
        model.save(arguments.out)
    show(arguments.out)


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", metavar="FILE", nargs="+", help="LoRAs in names of kohya, diffusers or PEFT")
    add("--config", required=True, metavar="CONFIG", help="YAML file of a run in the scope lora")
    add("--out", required=True, metavar="FILE.safetensors", help="model to write")
    add("--mixture", action="store_true", help="learn a weight of each LoRA on every support")
    add(
        "--strength",
        type=above_0,
        default=1.0,
        metavar="E",
        help="of the mean; below 1, a step of Reptile (1)",
    )
    add_wait_argument(parser)


FROM_LORA = Command("Start a run from LoRAs of kohya, diffusers or PEFT.", _arguments, _from_lora)

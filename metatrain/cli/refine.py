"""`metatrain refine`."""

import argparse

from metatrain.cli.arguments import (
    above_0,
    add_device_argument,
    add_trust_argument,
    add_wait_argument,
    refuse_missing_model,
    seed,
    whole,
)
from metatrain.cli.command import Command, show


def _refine(arguments: argparse.Namespace) -> None:
    refuse_missing_model(arguments.model)
    from metatrain.model.file import load_model
    from metatrain.model.refine_folder import refine_folder
    from metatrain.storage.lease import lease

    model = load_model(arguments.model, trust=arguments.trust).to(arguments.device)
    options = {name: getattr(arguments, name) for name in ("like", "keep", "steps", "lr", "seed")}
    # Beside the folder: one in it might have the name of an annotation.
    with lease(arguments.out, "refines images into", wait=arguments.wait, is_file=True):
        result = refine_folder(model, arguments.simulated, arguments.out, **options)
    show(f"{arguments.out}\n  {result}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("simulated", metavar="SIMULATED", help="folder or archive of simulated images: path or URL")
    add("--like", required=True, metavar="DIR", help="a handful of unlabelled images of the domain")
    add("--model", required=True, metavar="RUN", help="a model file, a run's folder or a name")
    add("--out", required=True, metavar="DIR", help="folder to write; the same again resumes")
    add(
        "--keep",
        nargs="+",
        default=(),
        metavar="PATTERN",
        help="images to copy as they are, such as 'masks/*'",
    )
    add("--steps", type=whole, help="inner steps, 0 for none (the configuration's)")
    add("--lr", type=above_0, help="inner learning rate (the configuration's)")
    add("--seed", type=seed, default=0, help="the same seed, the same result (0)")
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


REFINE = Command("Refine simulated images to look like a few real ones.", _arguments, _refine)

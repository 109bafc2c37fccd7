"""`metatrain enlarge`."""

import argparse
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli.arguments import (
    above_0,
    add_device_argument,
    add_trust_argument,
    refuse_missing_model,
    seed,
    whole,
)
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.model.model import Model


def _enlarge(arguments: argparse.Namespace) -> None:
    from metatrain.storage.files import exists, is_same_file, read_file

    _refuse_same_names(arguments.images)
    refuse_missing_model(arguments.model)
    for image in arguments.images:
        if "://" not in image and not exists(image):
            read_file(image)  # refuses it, before torch is imported
    from metatrain.model.file import load_model

    model = load_model(arguments.model, trust=arguments.trust).to(arguments.device)
    _check_scale(model, arguments.scale)
    for image in arguments.images:
        photo = model.enlarge(
            image,
            kernel=arguments.kernel,
            steps=arguments.steps,
            lr=arguments.lr,
            seed=arguments.seed,
        )
        url = f"{arguments.out.rstrip('/')}/{PurePosixPath(image).stem}{photo.ending}"
        if is_same_file(url, image):
            raise UserError(f"{url} is the photograph itself; give another --out.")
        photo.save(url)
        show(url)


def _refuse_same_names(images: list[str]) -> None:
    stems = Counter(PurePosixPath(image).stem for image in images)
    if twice := [stem for stem, count in stems.items() if count > 1]:
        raise UserError(
            f"two photographs are named '{twice[0]}', and would be one file in --out; enlarge them "
            f"one by one."
        )


def _check_scale(model: "Model", scale: int | None) -> None:
    trained = getattr(model.config.data.tasks, "scale", None)
    if scale is not None and trained is not None and scale != trained:
        raise UserError(
            f"--scale is {scale}, and the model was trained to enlarge by {trained}; leave --scale "
            f"out, or train with data.tasks.scale={scale}."
        )


def _enlarge_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="photographs: paths or URLs of files")
    add("--model", required=True, metavar="RUN", help="a model file, a run's folder or a name")
    add("--out", required=True, metavar="DIR", help="folder of the enlarged photographs")
    add("--scale", type=int, choices=[2, 3, 4], help="the scale, which is that of the training")
    add("--steps", type=whole, help="inner steps, 0 for none (the configuration's)")
    add("--lr", type=above_0, help="inner learning rate (the configuration's)")
    add(
        "--kernel",
        default="bicubic",
        metavar="FILE|gaussian:SIGMA|bicubic|estimate",
        help="the blur that the photographs have: a .npy or .mat file, a Gaussian of SIGMA pixels "
        "of the enlarged image, that of bicubic reduction (the default), or a Gaussian estimated "
        "from each photograph",
    )
    add("--seed", type=seed, default=0, help="the same seed, the same result (0)")
    add_device_argument(parser)
    add_trust_argument(parser)


ENLARGE = Command("Adapt a model to each photograph, and enlarge it.", _enlarge_arguments, _enlarge)

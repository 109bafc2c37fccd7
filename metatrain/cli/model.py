"""`metatrain adapt`, `metatrain generate` and `metatrain tune-adaptation`."""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.cli.arguments import (
    above_0,
    add_adapted_from_argument,
    add_device_argument,
    add_trust_argument,
    add_wait_argument,
    positive,
    refuse_missing_model,
    seed,
)
from metatrain.cli.command import Command, sentence_of, show
from metatrain.metrics.metric import VALIDATION_METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from metatrain.data.decoding.grey_16 import Bits
    from metatrain.data.examples import Examples
    from metatrain.model.model import Model

SCOPES = ("all", "film", "norms", "attention", "lora", "head", "body", "context")
IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

# The format of outlines, which have no pixels.
_OUTLINES = "svg"

# Keys that adapting may change.
_ADAPTATION = ("adapt.", "inner.", "objective.sampler.")


def _adapt(arguments: argparse.Namespace) -> None:
    from metatrain.model.places import refuse_missing_images

    refuse_missing_model(arguments.checkpoint)
    refuse_missing_images(arguments.images)
    from metatrain.model.collapse import collapse_of
    from metatrain.model.expectation import warning
    from metatrain.model.file import load_model
    from metatrain.model.support import as_support
    from metatrain.storage.lease import lease

    model = load_model(arguments.checkpoint, trust=arguments.trust).to(arguments.device)
    model = _configured(model, arguments.overrides)
    support = as_support(arguments.images, model.config.data)
    if line := warning(model, support):
        say(line)
    with lease(arguments.out, "adapts", wait=arguments.wait):
        adapted = model.adapt(
            support,
            given=_given(arguments, model),
            steps=arguments.steps,
            lr=arguments.lr,
            scope=arguments.scope,
            seed=arguments.seed,
        )
        say(_expectation(model, support, adapted))
        if line := collapse_of(adapted):
            say(line)
        show(_saved(adapted, arguments))


def _given(arguments: argparse.Namespace, model: "Model") -> "dict[str, str]":
    """Return the conditions that the options give, by their names in the model."""
    from metatrain.model.given import condition_of_kind

    options = {"text": arguments.text, "audio": arguments.audio}
    return {
        condition_of_kind(kind, model.config): value
        for kind, value in options.items()
        if value is not None
    }


def _given_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", help="a text that the images belong to")
    parser.add_argument("--audio", metavar="FILE", help="a sound that the images belong to")


def _saved(adapted: "Model", arguments: argparse.Namespace) -> str:
    """Write an adapted model, and return its URL."""
    from metatrain.model.file import save_adapted

    url = f"{arguments.out.rstrip('/')}/adapted.safetensors"
    if not arguments.discriminator:
        adapted = adapted.to_sample_only()
    if arguments.whole:
        adapted.save(url)
    elif save_adapted(adapted, url, arguments.checkpoint):
        say(
            f"The file holds what changed, and needs {arguments.checkpoint} where it is; --whole "
            f"writes one that needs nothing."
        )
    return url


def _configured(model: "Model", overrides: list[str]) -> "Model":
    """Return the model with other settings of adapting and sampling."""
    from metatrain.config import differences, override_values, with_values

    config = with_values(model.config, override_values(overrides))
    for key in differences(model.config, config):
        if key.startswith("inner.scope"):
            raise UserError("inner.scope cannot be set here; choose a scope by --scope.")
        if not key.startswith(_ADAPTATION):
            raise UserError(
                f"{key} was settled by training; adapting may change "
                f"{', '.join(f'{part}*' for part in _ADAPTATION)}."
            )
    return replace(model, config=config)


def _expectation(model: "Model", support: "Examples", adapted: "Model") -> str:
    from metatrain.model.expectation import expectation

    try:
        return expectation(model, support, adapted)
    except UserError as error:
        return f"Note: {sentence_of(error)}"


def _adapt_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="a model file, a run's folder or a name")
    add("images", metavar="IMAGES", help="a folder, an archive, a file or a URL of a few images")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="such as inner.optimizer=adam")
    add("--out", required=True, metavar="DIR", help="folder of the adapted model")
    _given_arguments(parser)
    add("--steps", type=positive, help="inner steps (the configuration's)")
    add("--lr", type=above_0, help="inner learning rate (the configuration's)")
    add("--scope", choices=SCOPES, help="the parameters that the inner steps move (training's)")
    add("--seed", type=seed, default=0, help="the same seed, the same adaptation (0)")
    add("--whole", action="store_true", help="write a file that needs no other")
    add("--discriminator", action="store_true", help="keep a GAN's discriminator in the file")
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


def _generate(arguments: argparse.Namespace) -> None:
    from metatrain.model.places import adapted_url, model_url, refuse_missing
    from metatrain.storage.files import exists

    out, is_sheet = arguments.out, _is_sheet(arguments.out, arguments.format)
    url = adapted_url(arguments.adapted)
    if (arguments.text or arguments.audio) and not exists(url):
        url = model_url(arguments.adapted)
    refuse_missing(url)
    from metatrain.model.file import load_model

    model = load_model(url, arguments.adapted_from, trust=arguments.trust).to(arguments.device)
    if arguments.format == _OUTLINES and model.config.data.channels != 1:
        raise UserError(
            f"--format svg traces black on white, and this model draws "
            f"{model.config.data.channels} channels; choose another format."
        )
    batches = model.batches(
        arguments.n,
        given=_given(arguments, model),
        seed=arguments.seed,
        steps=arguments.steps,
        guidance=_weights(arguments.guidance),
        truncation=arguments.truncation,
    )
    if is_sheet:
        _write_sheet(batches, out)
    else:
        _write_files(batches, out.rstrip("/"), arguments, model.config.data.bits)
    show(out)


def _is_sheet(out: str, file_format: str) -> bool:
    """Tell whether `out` is one picture of all images, and not a folder.

    Raises:
        UserError: when it is a file of another kind, or the format has no sheets.
    """
    suffix = PurePath(out).suffix.lower()
    if not suffix or out.endswith("/"):
        return False
    if suffix not in IMAGE_FORMATS:
        raise UserError(
            f"--out is {out}; give a picture ({', '.join(IMAGE_FORMATS)}) for a sheet of all "
            f"images, or a folder for a file each."
        )
    if file_format == _OUTLINES:
        raise UserError(f"--format svg writes a file each, and --out is {out}; give a folder.")
    return True


def _write_sheet(batches: "Iterable[Tensor]", url: str) -> None:
    import torch

    from metatrain.data.pictures import contact_sheet
    from metatrain.storage.files import write_file

    kind = IMAGE_FORMATS[PurePath(url).suffix.lower()]
    write_file(url, contact_sheet(torch.cat([*batches]), kind))


def _write_files(
    batches: "Iterable[Tensor]", folder: str, arguments: argparse.Namespace, bits: "Bits"
) -> None:
    """Write images as they come, named by their number; as PNG files of so many bits."""
    from metatrain.data.outlines import svg_of
    from metatrain.data.pictures import encoded, lossless, pil_images
    from metatrain.storage.files import write_file

    kind = IMAGE_FORMATS.get(f".{arguments.format}")
    digits = max(4, len(str(arguments.n - 1)))
    for number, image in enumerate(image for batch in batches for image in batch):
        if kind == "PNG":
            data = lossless(image, bits)
        else:
            [picture] = pil_images(image[None])
            data = encoded(picture, kind) if kind else svg_of(picture)
        write_file(f"{folder}/{number:0{digits}}.{arguments.format}", data)


def _guidance(text: str) -> tuple[str, float]:
    """Parse NAME=WEIGHT, or WEIGHT alone, which has no name."""
    name, _, weight = text.rpartition("=")
    try:
        return name, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not WEIGHT or NAME=WEIGHT") from None


def _weights(pairs: list[tuple[str, float]] | None) -> "float | dict[str, float] | None":
    """Return the guidance: of one strength where it has no name, else by condition."""
    if not pairs:
        return None
    weights = dict(pairs)
    return weights[""] if [*weights] == [""] else {n or "support": w for n, w in weights.items()}


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "adapted",
        metavar="ADAPTED",
        help="the folder or file that metatrain adapt wrote; or, with --text or --audio alone, a "
        "model that was never adapted",
    )
    _given_arguments(parser)
    add("-n", type=positive, default=64, help="number of images (64)")
    add("--seed", type=seed, default=0, help="the same seed, the same images (0)")
    add("--steps", type=positive, help="sampler steps (the configuration's)")
    add(
        "--guidance",
        nargs="+",
        type=_guidance,
        metavar="[NAME=]WEIGHT",
        help="guidance towards the support, or by condition, as support=1 text=3; 1: none (the "
        "configuration's)",
    )
    add("--truncation", type=above_0, help="largest size of a GAN's latents (the configuration's)")
    add("--out", required=True, help="a picture (.png, .jpg, .webp) of all, or a folder")
    formats = [*(suffix.removeprefix(".") for suffix in IMAGE_FORMATS), _OUTLINES]
    add(
        "--format",
        choices=formats,
        default="png",
        help="kind of the files in a folder (png); svg: outlines of a model that draws grey",
    )
    add_adapted_from_argument(parser)
    add_device_argument(parser)
    add_trust_argument(parser)


def _tune_adaptation(arguments: argparse.Namespace) -> None:
    refuse_missing_model(arguments.checkpoint)
    from metatrain.evaluation.run_networks import networks_of
    from metatrain.evaluation.training_data import data_for
    from metatrain.evaluation.tune_adaptation import (
        adaptation_table,
        tune_adaptation,
        write_outcome,
    )
    from metatrain.model.file import load_model
    from metatrain.model.places import model_url
    from metatrain.storage.lease import lease

    model = load_model(arguments.checkpoint, trust=arguments.trust).to(arguments.device)
    url = model_url(arguments.checkpoint)
    data = data_for(model, arguments.data, url)
    out = arguments.out.rstrip("/")
    with lease(out, "tunes", wait=arguments.wait):
        outcome = tune_adaptation(
            model,
            data,
            f"{out}/metric.safetensors",
            scopes=arguments.scopes,
            tasks=arguments.tasks,
            metric=arguments.metric,
            known=networks_of(model, url),
        )
        show(adaptation_table(outcome))
        show(write_outcome(outcome, out))


def _tune_adaptation_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a model file, a run's folder or a name"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the model")
    parser.add_argument("--data", metavar="URL", help="packed data set (the training data)")
    parser.add_argument("--tasks", type=positive, default=24, help="at most so many tasks (24)")
    parser.add_argument(
        "--scopes",
        nargs="*",
        default=["film", "lora"],
        choices=SCOPES,
        help="scopes to try beside the model's own (film lora)",
    )
    parser.add_argument(
        "--metric",
        default="kid",
        choices=VALIDATION_METRICS,
        help="metric to optimise (kid)",
    )
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


ADAPT = Command("Adapt a model to a handful of images.", _adapt_arguments, _adapt)
GENERATE = Command("Sample images from an adapted model.", _generate_arguments, _generate)
TUNE_ADAPTATION = Command(
    "Find the best steps, rate and scope to adapt a model.",
    _tune_adaptation_arguments,
    _tune_adaptation,
)

"""`metatrain adapt`, `metatrain generate` and `metatrain tune-adaptation`."""

import argparse
import sys
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli.arguments import (
    add_device_argument,
    add_wait_argument,
    data_url,
    positive,
    seed,
)
from metatrain.cli.command import Command, sentence_of
from metatrain.metrics.metric import VALIDATION_METRICS

if TYPE_CHECKING:
    from metatrain.data.examples import Examples
    from metatrain.model.file import Model


def _adapt(arguments: argparse.Namespace) -> None:
    from metatrain.model.expectation import warning
    from metatrain.model.file import load_model
    from metatrain.model.support import as_support
    from metatrain.storage.lease import lease

    model = load_model(arguments.checkpoint).to(arguments.device)
    support = as_support(arguments.images, model.config.data)
    if line := warning(model, support):
        print(line, file=sys.stderr)
    with lease(arguments.out, "adapts", wait=arguments.wait):
        adapted, url = model.adapt(support), f"{arguments.out}/adapted.safetensors"
        print(_expectation(model, support, adapted), file=sys.stderr)
        adapted.save(url)
    print(url)


def _expectation(model: "Model", support: "Examples", adapted: "Model") -> str:
    from metatrain.model.expectation import expectation

    try:
        return expectation(model, support, adapted)
    except UserError as error:
        return f"Note: {sentence_of(error)}"


def _adapt_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a model file, or a run's folder")
    parser.add_argument("images", metavar="IMAGES_DIR", help="a folder with a handful of images")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the adapted model")
    add_device_argument(parser)
    add_wait_argument(parser)


def _generate(arguments: argparse.Namespace) -> None:
    from metatrain.data.pictures import contact_sheet
    from metatrain.model.file import load_model
    from metatrain.storage.files import write_file

    model = load_model(arguments.adapted).to(arguments.device)
    images = model.sample(
        arguments.n, seed=arguments.seed, steps=arguments.steps, guidance=arguments.guidance
    )
    write_file(arguments.out, contact_sheet(images))
    print(arguments.out)


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapted", metavar="ADAPTED", help="the file that metatrain adapt wrote")
    parser.add_argument("-n", type=positive, default=64, help="number of images (64)")
    parser.add_argument("--seed", type=seed, default=0, help="the same seed, the same images (0)")
    parser.add_argument("--steps", type=positive, help="sampler steps (the configuration's)")
    parser.add_argument(
        "--guidance", type=float, help="guidance towards the support; 1: none (the configuration's)"
    )
    parser.add_argument("--out", required=True, metavar="FILE.png", help="the picture to write")
    add_device_argument(parser)


def _tune_adaptation(arguments: argparse.Namespace) -> None:
    from metatrain.evaluation.tune_adaptation import (
        adaptation_table,
        tune_adaptation,
        write_outcome,
    )
    from metatrain.model.file import load_model
    from metatrain.storage.lease import lease

    model = load_model(arguments.checkpoint).to(arguments.device)
    out = arguments.out.rstrip("/")
    with lease(out, "tunes", wait=arguments.wait):
        outcome = tune_adaptation(
            model,
            arguments.data or data_url(model.config),
            f"{out}/metric.safetensors",
            scopes=arguments.scopes,
            tasks=arguments.tasks,
            metric=arguments.metric,
        )
        print(adaptation_table(outcome))
        print(write_outcome(outcome, out))


def _tune_adaptation_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a model file, or a run's folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the model")
    parser.add_argument("--data", metavar="URL", help="packed data set (the training data)")
    parser.add_argument("--tasks", type=positive, default=24, help="at most so many tasks (24)")
    parser.add_argument(
        "--scopes",
        nargs="*",
        default=["film", "lora"],
        choices=["all", "film", "lora", "head", "body", "context"],
        help="scopes to try beside the model's own (film lora)",
    )
    parser.add_argument(
        "--metric",
        default="kid",
        choices=VALIDATION_METRICS,
        help="metric to optimise (kid)",
    )
    add_device_argument(parser)
    add_wait_argument(parser)


ADAPT = Command("Adapt a model to a handful of images.", _adapt_arguments, _adapt)
GENERATE = Command("Sample images from an adapted model.", _generate_arguments, _generate)
TUNE_ADAPTATION = Command(
    "Find the best steps, rate and scope to adapt a model.",
    _tune_adaptation_arguments,
    _tune_adaptation,
)

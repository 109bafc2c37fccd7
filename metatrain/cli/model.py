"""`metatrain adapt`, `metatrain generate` and `metatrain tune-adaptation`."""

import argparse
import sys

from metatrain.cli.arguments import positive, seed
from metatrain.cli.command import Command
from metatrain.metrics.metric import VALIDATION_METRICS


def _adapt(arguments: argparse.Namespace) -> None:
    from metatrain.model.adapt import Adapter, read_support
    from metatrain.model.expectation import expectation, warning
    from metatrain.model.file import load_model, save_model

    model = load_model(arguments.checkpoint)
    support = read_support(arguments.images, model.config.data)
    if found := warning(model, support):
        print(found, file=sys.stderr)
    adapted, url = Adapter(model).adapt(support), f"{arguments.out}/adapted.safetensors"
    print(expectation(model, support, adapted), file=sys.stderr)
    save_model(adapted, url)
    print(url)


def _adapt_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a model file, or a run's folder")
    parser.add_argument("images", metavar="IMAGES_DIR", help="a folder with a handful of images")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the model goes")


def _generate(arguments: argparse.Namespace) -> None:
    from metatrain.data.pictures import contact_sheet
    from metatrain.model.file import load_model
    from metatrain.model.generate import generate
    from metatrain.storage.files import write_file

    images = generate(load_model(arguments.adapted), arguments.n, arguments.seed)
    write_file(arguments.out, contact_sheet(images))
    print(arguments.out)


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapted", metavar="ADAPTED", help="what metatrain adapt wrote")
    parser.add_argument("-n", type=positive, default=64, help="how many images (64)")
    parser.add_argument("--seed", type=seed, default=0, help="the same seed, the same images (0)")
    parser.add_argument("--out", required=True, metavar="FILE.png", help="the picture to write")


def _tune_adaptation(arguments: argparse.Namespace) -> None:
    from metatrain.evaluation.tune_adaptation import (
        adaptation_table,
        tune_adaptation,
        write_outcome,
    )
    from metatrain.model.file import load_model

    model, out = load_model(arguments.checkpoint), arguments.out.rstrip("/")
    outcome = tune_adaptation(
        model,
        arguments.data or model.config.data.path,
        f"{out}/metric.safetensors",
        scopes=arguments.scopes,
        tasks=arguments.tasks,
        metric=arguments.metric,
    )
    print(adaptation_table(outcome))
    print(write_outcome(outcome, out))


def _tune_adaptation_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a model file, or a run's folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the model goes")
    parser.add_argument("--data", metavar="URL", help="packed data (that of the training)")
    parser.add_argument("--tasks", type=positive, default=24, help="unseen tasks at most (24)")
    parser.add_argument(
        "--scopes",
        nargs="*",
        default=["film", "lora"],
        choices=["all", "film", "lora", "head", "body", "context"],
        help="to try beside the model's own (film lora)",
    )
    parser.add_argument(
        "--metric",
        default="kid",
        choices=VALIDATION_METRICS,
        help="what to judge by (kid)",
    )


ADAPT = Command("Adapt a model to a handful of images.", _adapt_arguments, _adapt)
GENERATE = Command("Draw new images.", _generate_arguments, _generate)
TUNE_ADAPTATION = Command(
    "Find how a model adapts best.", _tune_adaptation_arguments, _tune_adaptation
)

"""`metatrain models` and `metatrain ship`: models by name, and the making of one."""

import argparse
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli.arguments import (
    add_device_argument,
    add_subset_arguments,
    add_trust_argument,
    add_wait_argument,
    positive,
)
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.model.listing import ListedModel

_HEADS = ("name", "MB", "data", "pixels", "channels", "shots", "")


def _models(arguments: argparse.Namespace) -> None:
    from metatrain.model.listing import listed_model, models

    if arguments.name:
        model = listed_model(arguments.name)
        show(model.card or _table([model]))
    elif every := models():
        show(_table(every))
    else:
        raise UserError(
            "no model ships with this metatrain, ./runs has no finished run, METATRAIN_MODELS "
            "names no folder with a model, and the studio has adapted none; train one with "
            "metatrain train CONFIG."
        )


def _table(models: "list[ListedModel]") -> str:
    from metatrain.base.tables import aligned
    from metatrain.base.text import printable

    rows = [
        (
            *(model.reference, f"{model.bytes / 1e6:.1f}", model.data, str(model.image_size)),
            *(str(model.channels), str(model.shots), model.about),
        )
        for model in models
    ]
    return aligned([_HEADS, *(tuple(map(printable, row)) for row in rows)], justify="left")


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="MODEL", help="print the card of this one")


def _ship(arguments: argparse.Namespace) -> None:
    from metatrain.base.device import device_of
    from metatrain.evaluation.running.runner import LocalRunner
    from metatrain.evaluation.training_data import data_for
    from metatrain.model.file import load_model
    from metatrain.model.places import home_of, model_url
    from metatrain.report.shipping import ship

    url = model_url(arguments.run_folder)
    model = load_model(url, trust=arguments.trust)
    shipped = ship(
        model,
        name=arguments.name,
        run=home_of(arguments.run_folder),
        data=data_for(model, arguments.data, url),
        out=arguments.out.rstrip("/"),
        tasks=arguments.tasks,
        seeds=arguments.seeds,
        runner=LocalRunner(arguments.workers, device_of(arguments.device)),
        about=arguments.about,
        wait=arguments.wait,
    )
    show("\n".join(shipped))


def _ship_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="the folder of a finished run")
    add("--name", required=True, help="the model's name, by which it is taken wherever one is")
    add("--out", required=True, metavar="DIR", help="folder of NAME.safetensors and NAME.md")
    add("--data", metavar="URL", help="packed data set (default: the training data)")
    add("--about", metavar="SENTENCE", help="the first sentence of the card")
    add_subset_arguments(parser)
    add("--workers", type=positive, metavar="N", help="worker processes (default: one a core)")
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


MODELS = Command("List the models at hand, or print a model's card.", _models_arguments, _models)
SHIP = Command("Make a model file and a card to give away.", _ship_arguments, _ship)

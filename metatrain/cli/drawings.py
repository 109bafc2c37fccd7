"""`metatrain drawings`: pack drawings of a model, for raters to choose between."""

import argparse

from metatrain.cli.arguments import (
    add_device_argument,
    add_trust_argument,
    add_wait_argument,
    positive,
    refuse_missing_model,
    seed,
)
from metatrain.cli.command import Command, show


def _drawings(arguments: argparse.Namespace) -> None:
    refuse_missing_model(arguments.model)
    from metatrain.base.text import counted
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.training_data import data_for
    from metatrain.model.file import load_model
    from metatrain.model.places import model_url
    from metatrain.preferences.drawings import DrawingOptions, pack_drawings

    model = load_model(arguments.model, trust=arguments.trust).to(arguments.device)
    store = EpisodeStore(data_for(model, arguments.data, model_url(arguments.model)))
    names = ("splits", "tasks", "drawings", "seed")
    options = DrawingOptions(**{name: getattr(arguments, name) for name in names})
    count = pack_drawings(model, store, arguments.out, options, wait=arguments.wait)
    show(f"{arguments.out}\n  {options.drawings} drawings of each of {counted(count, 'task')}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model file, a run's folder or a name")
    add("--out", required=True, metavar="DEST", help="the folder to write")
    add("--data", metavar="DATA", help="packed data set (that of the model's training)")
    add(
        "--splits",
        nargs="+",
        choices=("train", "val", "test"),
        default=["train", "val", "test"],
        metavar="SPLIT",
        help="splits whose tasks are drawn (train val test)",
    )
    add("--tasks", type=positive, default=200, metavar="N", help="tasks of a split at most (200)")
    add("--drawings", type=positive, default=96, metavar="N", help="drawings of a task (96)")
    add("--seed", type=seed, default=0, help="of tasks, images and noise (0)")
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


DRAWINGS = Command("Pack drawings of a model, for raters to choose between.", _arguments, _drawings)

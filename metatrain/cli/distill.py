"""`metatrain distill`: a student that draws in a few network calls what its teacher draws."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from metatrain.base.progress import say
from metatrain.cli.arguments import (
    add_adapted_from_argument,
    add_device_argument,
    add_trust_argument,
    add_wait_argument,
    refuse_writing_over,
)
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.config import Config
    from metatrain.model.model import Model

# Trains a run to its last step.
Train = Callable[["Config"], object]


def distill(arguments: argparse.Namespace, train: Train | None = None) -> None:
    """Distil a model; a meta-trained one by default in this process."""
    from metatrain.model.places import adapted_url, model_url, refuse_missing
    from metatrain.storage.files import exists

    url = adapted_url(arguments.model)
    url = url if exists(url) else model_url(arguments.model)
    refuse_missing(url)
    from metatrain.model.file import load_model

    model = load_model(url, arguments.adapted_from, trust=arguments.trust)
    if model.support is None:
        show(_student(arguments, model, url, train or _trained_here(arguments)))
    else:
        show(_adapted_student(arguments, model.to(arguments.device), url))


def _student(arguments: argparse.Namespace, model: "Model", url: str, train: Train) -> str:
    """Train a student that adapts, by one run a stage; return the URL of its file."""
    from metatrain.config import override_values
    from metatrain.evaluation.training_data import data_for
    from metatrain.model.file import load_model
    from metatrain.model.places import model_url
    from metatrain.training.distillation import stages_of, student_config

    reads = model.config.data.url is not None
    data = data_for(model, arguments.data, url) if arguments.data or reads else None
    out, overrides = arguments.out.rstrip("/"), override_values(arguments.overrides)
    for steps in stages_of(model, arguments.steps):
        folder = out if steps == arguments.steps else f"{out}-{steps}"
        say(f"Distilling {url} to {_calls(steps)} an image, in {folder}.")
        config = student_config(model, url, folder, steps=steps, data=data, overrides=overrides)
        train(config)
        url = model_url(folder)
        model = load_model(url, trust=True)
    return url


def _adapted_student(arguments: argparse.Namespace, model: "Model", url: str) -> str:
    """Train a student of an adapted model; return the URL of its file."""
    from metatrain.config import override_values
    from metatrain.generators.frozen import pinned
    from metatrain.storage.lease import lease
    from metatrain.training.adapted_student import distilled
    from metatrain.training.distillation import stages_of, student_config

    out, overrides = arguments.out.rstrip("/"), override_values(arguments.overrides)
    student = refuse_writing_over(url, out)
    with lease(out, "distils", wait=arguments.wait):
        for steps in stages_of(model, arguments.steps):
            say(f"Distilling {url} to {_calls(steps)} an image.")
            config = student_config(model, url, out, steps=steps, data=None, overrides=overrides)
            model = distilled(model, pinned(config))
        model.save(student)
    return student


def _calls(steps: int) -> str:
    from metatrain.base.text import counted

    return counted(steps, "network call")


def _trained_here(arguments: argparse.Namespace) -> Train:
    from metatrain.base.device import device_of
    from metatrain.training.local_run import train_locally

    device = device_of(arguments.device)
    return lambda config: train_locally(config, device=device, say=say, wait=arguments.wait)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `metatrain distill`."""
    add = parser.add_argument
    add(
        "model",
        metavar="ADAPTED|MODEL",
        help="the teacher: an adapted model; or a model, whose student adapts as it does",
    )
    add("overrides", nargs="*", metavar="KEY=VALUE", help="such as meta.steps=2000")
    add("--steps", type=int, choices=[4, 2, 1], default=4, help="network calls of an image (4)")
    add("--out", required=True, metavar="DIR", help="folder of the student")
    add("--data", metavar="URL", help="packed data set (the teacher's training data)")
    add_adapted_from_argument(parser)
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


DISTILL = Command("Train a student that draws in few network calls.", add_arguments, distill)

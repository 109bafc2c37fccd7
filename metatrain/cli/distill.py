"""`metatrain distill`: a student that draws in a few network calls what its teacher draws."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from metatrain.base.progress import say
from metatrain.cli.arguments import add_device_argument, add_trust_argument, add_wait_argument
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.config import Config

# Trains a run to its last step.
Train = Callable[["Config"], object]


def distill(arguments: argparse.Namespace, train: Train | None = None) -> None:
    """Distil a model; by default in this process."""
    from metatrain.config import override_values
    from metatrain.evaluation.training_data import data_for
    from metatrain.model.file import load_model, model_url
    from metatrain.training.distillation import stages_of, student_config

    teacher = arguments.model
    model = load_model(teacher, trust=arguments.trust)
    data, trust = data_for(model, arguments.data, model_url(teacher)), arguments.trust
    train, out = train or _trained_here(arguments), arguments.out.rstrip("/")
    for steps in stages_of(model, arguments.steps):
        folder = out if steps == arguments.steps else f"{out}-{steps}"
        config = student_config(
            teacher,
            folder,
            steps=steps,
            data=data,
            trust=trust,
            overrides=override_values(arguments.overrides),
        )
        say(f"Distilling {teacher} to {steps} {'calls' if steps > 1 else 'call'} in {folder}.")
        train(config)
        # The next one's teacher is this one, which was trained here.
        teacher, trust = folder, True
    show(model_url(out))


def _trained_here(arguments: argparse.Namespace) -> Train:
    from metatrain.base.machine import device_of
    from metatrain.training.local_run import train_locally

    device = device_of(arguments.device)
    return lambda config: train_locally(config, device=device, say=say, wait=arguments.wait)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `metatrain distill`."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="the teacher: a model file, a run's folder or a name")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="such as meta.steps=2000")
    add("--steps", type=int, choices=[4, 2, 1], default=4, help="network calls of an image (4)")
    add("--out", required=True, metavar="DIR", help="folder of the student's run")
    add("--data", metavar="URL", help="packed data set (the teacher's training data)")
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


DISTILL = Command("Train a student that draws in few network calls.", add_arguments, distill)

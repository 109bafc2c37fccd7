"""`metatrain prefer`: from choices between drawings to a model that prefers."""

import argparse
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
    refuse_writing_over,
    seed,
)
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.preferences.prefer import Outcome


def _prefer(arguments: argparse.Namespace) -> None:
    from metatrain.model.file import load_model
    from metatrain.model.places import adapted_url
    from metatrain.preferences.prefer import prefer
    from metatrain.preferences.sentences import sentences
    from metatrain.preferences.starts import Settings
    from metatrain.storage.lease import lease

    url = adapted_url(arguments.adapted)
    out = refuse_writing_over(url, arguments.out)
    model = load_model(url, arguments.adapted_from, trust=arguments.trust).to(arguments.device)
    start = load_model(arguments.start, trust=arguments.trust) if arguments.start else None
    settings = Settings(beta=arguments.beta, lr=arguments.lr, seed=arguments.seed)
    with lease(arguments.out, "prefers", wait=arguments.wait):
        outcome = prefer(
            model,
            arguments.choices,
            scope=arguments.scope,
            start=start,
            settings=settings,
            steps=arguments.steps,
        )
        for line in sentences(outcome):
            say(line)
        show(_saved(outcome, arguments.choices, out))


def _saved(outcome: "Outcome", choices: str, url: str) -> str:
    """Write the model that prefers to `url`, which is returned."""
    if outcome.model is None:
        raise UserError(
            f"{choices} teaches nothing that foresees held-out choices, so nothing is "
            f"written; choose between more drawings."
        )
    outcome.model.save(url)
    return url


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("adapted", metavar="ADAPTED", help="the folder or file of the adapted model that drew")
    add("choices", metavar="CHOICES", help="a file of choices, with the folder images beside it")
    add("--out", required=True, metavar="DIR", help="folder of the model that prefers")
    add("--scope", choices=("lora", "film"), help="the parameters to move (the model's, or lora)")
    add("--start", metavar="MODEL", help="a model that was meta-trained on choices of raters")
    add("--beta", type=above_0, default=2000.0, help="hold to the adapted model (2000)")
    add("--lr", type=above_0, help="rate of Adam (0.0003, or that of the start)")
    add("--steps", type=positive, default=100, help="at most so many (100)")
    add("--seed", type=seed, default=0, help="the same seed, the same result (0)")
    add_adapted_from_argument(parser)
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


PREFER = Command("Learn from choices between drawings of an adapted model.", _arguments, _prefer)

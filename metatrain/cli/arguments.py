"""Arguments that several commands share."""

import argparse
import re
from collections.abc import Sequence

# An override, and no path or URL that has an equals sign in it.
_OVERRIDE = re.compile(r"[^\W\d]\w*(\.[^=/]+)*=.*", re.DOTALL)


def add_config_arguments(
    parser: argparse.ArgumentParser,
    metavar: str = "CONFIG",
    help: str = "such as inner.lr=0.01 cluster.workers=8",
) -> None:
    """Add a configuration's file and overrides, which may stand between and after options."""
    parser.add_argument(
        "config",
        metavar=metavar,
        nargs="?",
        help="YAML file: a path or any fsspec URL (none: the defaults)",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=help)


def refuse_missing_model(reference: str) -> None:
    """Refuse a model on this machine that is not there, before torch is imported.

    Args:
        reference: a model file, a run's folder or a name.

    Raises:
        UserError: when there is none.
    """
    from metatrain.model.places import model_url, refuse_missing

    refuse_missing(model_url(reference))


def refuse_writing_over(adapted: str, out: str) -> str:
    """Return the file of an adapted model in the folder `out`, unless it is the one that is read.

    Raises:
        UserError: when it is.
    """
    from metatrain.base.errors import UserError
    from metatrain.model.places import ADAPTED
    from metatrain.storage.files import is_same_file

    url = f"{out.rstrip('/')}/{ADAPTED}"
    if is_same_file(url, adapted):
        raise UserError("--out is the folder of the adapted model; give another one.")
    return url


def place_words(arguments: argparse.Namespace, further: Sequence[str]) -> list[str]:
    """Place overrides, and the file of a configuration, wherever they stand on the command line.

    Args:
        arguments: the parsed arguments, of which `config` and `overrides` are set where the command
            has them.
        further: words that the parser could not place, since they follow an option.

    Returns:
        The words that still have no place.
    """
    if "overrides" not in arguments:
        return list(further)
    words = [*arguments.overrides, *(word for word in further if not word.startswith("-"))]
    if "config" in arguments:
        words = [*([arguments.config] if arguments.config else []), *words]
        files = [word for word in words if not _OVERRIDE.fullmatch(word)]
        arguments.config = files[0] if files else None
        words = [word for word in words if word is not arguments.config]
    arguments.overrides = words
    return [word for word in further if word.startswith("-")]


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add --trust."""
    parser.add_argument(
        "--trust", action="store_true", help="read whatever places the model's file names"
    )


def add_adapted_from_argument(parser: argparse.ArgumentParser) -> None:
    """Add --adapted-from, for an adapted model of a small scope."""
    parser.add_argument(
        "--adapted-from",
        metavar="MODEL",
        help="the model that ADAPTED was adapted from, if it is not where it was",
    )


def add_subset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --tasks and --seeds, which take the first part of a list of episodes."""
    add = parser.add_argument
    add("--tasks", type=positive, default=1000, help="use at most so many tasks of the list (1000)")
    add("--seeds", type=positive, default=3, help="use at most so many seeds of the list (3)")


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda",
        help="where to compute (auto: a GPU where there is one)",
    )


def add_wait_argument(parser: argparse.ArgumentParser) -> None:
    """Add --wait."""
    parser.add_argument(
        "--wait", action="store_true", help="wait while another process writes the same"
    )


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def whole(text: str) -> int:
    """A whole number, 0 for none, for argparse."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


def image_size(text: str) -> int:
    """A number of pixels that an image may have on a side, for argparse."""
    number = int(text)
    if not 8 <= number <= 4096:
        raise argparse.ArgumentTypeError(f"{text} is not between 8 and 4096")
    return number


def seed(text: str) -> int:
    """A whole number from 0 to 2^32 - 1, for argparse."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 4294967295")
    return number


def above_0(text: str) -> float:
    """A number above 0, for argparse."""
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number

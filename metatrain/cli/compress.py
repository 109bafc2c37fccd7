"""`metatrain compress`: a smaller file of a model, in fewer bits or with fewer channels."""

import argparse
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.cli.arguments import add_trust_argument
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.model.model import Model


def _compress(arguments: argparse.Namespace) -> None:
    from metatrain.model.named import ENDING
    from metatrain.model.places import adapted_url, model_url, read_model
    from metatrain.storage.files import exists, is_same_file, write_file

    if not arguments.out.endswith(ENDING):
        raise UserError(f"--out is {arguments.out}; name a file that ends in {ENDING}.")
    url = adapted_url(arguments.model)
    url = url if exists(url) else model_url(arguments.model)
    if is_same_file(arguments.out, url):
        raise UserError(f"--out is the model itself, {url}; name another file.")
    file = read_model(url)
    from metatrain.model.file import parse_model
    from metatrain.model.precision import rounded
    from metatrain.model.pruning import pruned

    model = parse_model(file, url, arguments.adapted_from, trust=arguments.trust)
    small = model if arguments.prune is None else pruned(model, arguments.prune)
    dtype = arguments.dtype or ("fp16" if arguments.prune is None else None)
    small = rounded(small, dtype) if dtype else small
    data = small.to_bytes()
    # A narrower network is wanted for itself, also where a file in fewer bits is smaller.
    if arguments.prune is None and len(data) >= len(file):
        raise UserError(
            f"the model would have {len(data):,} bytes in {dtype}, and its file has {len(file):,} "
            f"already; keep that."
        )
    write_file(arguments.out, data)
    say(f"{len(data) / 1e6:.2f} MB in place of {len(file) / 1e6:.2f}. {_advice(arguments, small)}")
    show(arguments.out)


def _advice(arguments: argparse.Namespace, small: "Model") -> str:
    if arguments.prune is None:
        return "It computes and adapts in single precision; calibrate it as it is now."
    width = small.config.generator.width
    return (
        f"It has a width of {width} and has to be trained further: metatrain train CONFIG "
        f"run.name=NEW generator.width={width} run.init={arguments.out}"
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model file, the folder of a run or adaptation, or a name")
    add(
        "--dtype",
        choices=("fp16", "bf16", "int8"),
        help="precision of the file (fp16; single precision with --prune)",
    )
    add(
        "--prune",
        type=float,
        metavar="SHARE",
        help="share of the channels to remove, such as 0.5; the model has to be trained further",
    )
    add("--out", required=True, metavar="FILE", help="the file to write (.safetensors)")
    add(
        "--adapted-from",
        metavar="MODEL",
        help="the model that an adapted one came from, if it is not where it was",
    )
    add_trust_argument(parser)


COMPRESS = Command(
    "Write a smaller file of a model: fewer bits, or fewer channels.", _arguments, _compress
)

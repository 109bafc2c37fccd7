"""`metatrain compress`: a model's file in half precision."""

import argparse

from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.cli.arguments import add_trust_argument
from metatrain.cli.command import Command, show


def _compress(arguments: argparse.Namespace) -> None:
    from metatrain.model.file import parse_model
    from metatrain.model.named import ENDING
    from metatrain.model.places import adapted_url, model_url, read_model
    from metatrain.model.precision import compressed
    from metatrain.storage.files import absolute, exists, write_file

    if not arguments.out.endswith(ENDING):
        raise UserError(f"--out is {arguments.out}; name a file that ends in {ENDING}.")
    url = adapted_url(arguments.model)
    url = url if exists(url) else model_url(arguments.model)
    if absolute(arguments.out) == absolute(url):
        raise UserError(f"--out is the model itself, {url}; name another file.")
    file = read_model(url)
    model = parse_model(file, url, arguments.adapted_from, trust=arguments.trust)
    data = compressed(model, len(file), arguments.dtype)
    write_file(arguments.out, data)
    say(
        f"{len(data) / 1e6:.2f} MB in place of {len(file) / 1e6:.2f}. It computes and adapts in "
        f"single precision; calibrate it as it is now."
    )
    show(arguments.out)


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model file, the folder of a run or adaptation, or a name")
    add("--dtype", choices=("fp16", "bf16"), default="fp16", help="precision of the file (fp16)")
    add("--out", required=True, metavar="FILE", help="the file to write (.safetensors)")
    add(
        "--adapted-from",
        metavar="MODEL",
        help="the model that an adapted one came from, if it is not where it was",
    )
    add_trust_argument(parser)


COMPRESS = Command("Write a model's file in half precision.", _arguments, _compress)

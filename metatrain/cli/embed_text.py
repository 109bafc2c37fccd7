"""`metatrain embed-text`: the text that a backbone is conditioned on, embedded once."""

import argparse
import os

from metatrain.cli.command import Command

# transformers advises on packages that no text needs; what the user has set stays.
_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def _embed_text(arguments: argparse.Namespace) -> None:
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})

    from safetensors.torch import save

    from metatrain.data.packed.captions import captions_in
    from metatrain.generators.embedded_text import embed_text
    from metatrain.storage.files import write_file

    data, column = arguments.captions, arguments.column
    captions = captions_in(data, column) if data else ()
    folder, negative = arguments.pipeline.rstrip("/"), arguments.negative
    tensors = embed_text(folder, arguments.text, negative, captions, arguments.tokens)
    write_file(arguments.out, save(tensors))
    print(arguments.out)


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("pipeline", metavar="PIPELINE", help="folder of a Stable Diffusion or FLUX pipeline")
    add("text", metavar="TEXT", help='such as "a photo of sks", or "a photo of sks, {}"')
    add("--negative", default="", metavar="TEXT", help="what guidance leads away from (no text)")
    add("--captions", metavar="DATA", help="packed data set, whose captions stand for {}")
    add("--column", default="text", metavar="NAME", help="condition with the captions (text)")
    add(
        "--tokens",
        type=int,
        metavar="N",
        help="tokens of T5 (256 of SD3, 512 of FLUX)",
    )
    add("--out", required=True, metavar="FILE.safetensors", help="file to write")


EMBED_TEXT = Command("Embed the text that a backbone makes images from.", _arguments, _embed_text)

"""`metatrain embed-text`: the text that a backbone is conditioned on, embedded once."""

import argparse

from metatrain.cli.command import Command


def _embed_text(arguments: argparse.Namespace) -> None:
    from safetensors.torch import save

    from metatrain.generators.embedded_text import embed_text
    from metatrain.storage.files import write_file

    tensors = embed_text(arguments.pipeline.rstrip("/"), arguments.text, arguments.negative)
    write_file(arguments.out, save(tensors))
    print(arguments.out)


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("pipeline", metavar="PIPELINE", help="folder of a Stable Diffusion or SDXL pipeline")
    add("text", metavar="TEXT", help='such as "a photo of sks"')
    add("--negative", default="", metavar="TEXT", help="what guidance leads away from (no text)")
    add("--out", required=True, metavar="FILE.safetensors", help="file to write")


EMBED_TEXT = Command("Embed the text that a backbone makes images from.", _arguments, _embed_text)

"""`metatrain encode`: latents of a data set, computed once."""

import argparse

from metatrain.cli.arguments import add_device_argument, add_wait_argument, image_size
from metatrain.cli.command import Command, show


def _encode(arguments: argparse.Namespace) -> None:
    from metatrain.base.device import device_of
    from metatrain.config import load_config
    from metatrain.generators.codecs.trained import TrainedConfig
    from metatrain.training.encoding import encode_data

    config = load_config(arguments.config) if arguments.config else None
    data = arguments.data.rstrip("/")
    out = arguments.out or f"{data}-latents"
    latents = encode_data(
        data,
        config.codec if config else TrainedConfig(path=arguments.codec),
        out,
        size=arguments.size or (config.data.image_size if config else None),
        device=device_of(arguments.device),
        wait=arguments.wait,
    )
    shape = " x ".join(map(str, latents.shape))
    show(f"{out}\n  latents {shape} in float16, by the codec with sha256 {latents.codec}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", help="packed data set: a path or any fsspec URL")
    one_of = parser.add_mutually_exclusive_group(required=True)
    one_of.add_argument("--codec", metavar="FILE.safetensors", help="what codec train wrote")
    one_of.add_argument("--config", metavar="CONFIG", help="YAML file of a run: codec and size")
    add("--out", metavar="DEST", help="the folder to write (DATA-latents)")
    add("--size", type=image_size, help="pixels of the images (of the run, or as in the data)")
    add_device_argument(parser)
    add_wait_argument(parser)


ENCODE = Command("Store latents with a data set, for training on them.", _arguments, _encode)

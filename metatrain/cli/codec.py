"""`metatrain codec`: train a codec of one's own."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from metatrain.base.progress import say
from metatrain.cli.arguments import (
    add_device_argument,
    add_wait_argument,
    image_size,
    positive,
)
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.config import Config

# Trains a run to its last step.
Train = Callable[["Config"], object]


def codec(arguments: argparse.Namespace, train: Train | None = None) -> None:
    """Train a codec; by default in this process."""
    from metatrain.config import override_values
    from metatrain.training.codec_run import codec_config, write_codec

    config = codec_config(
        arguments.data,
        arguments.out,
        factor=arguments.factor,
        latent_channels=arguments.channels,
        steps=arguments.steps,
        size=arguments.size,
        overrides=override_values(arguments.overrides),
    )
    (train or _trained_here(arguments))(config)
    write_codec(config, arguments.out)
    _measure(arguments, config)


def _trained_here(arguments: argparse.Namespace) -> Train:
    from metatrain.base.device import device_of
    from metatrain.training.local_run import train_locally

    device = device_of(arguments.device)
    return lambda config: train_locally(config, device=device, say=say, wait=arguments.wait)


def _measure(arguments: argparse.Namespace, config: "Config") -> None:
    """Write the codec's page, and print what it says."""
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.reconstruction import mean_psnr, reconstructions
    from metatrain.generators.codecs.trained import Trained, TrainedConfig
    from metatrain.report.codec import write_codec_page

    section = TrainedConfig(path=arguments.out).pinned()
    store, data = EpisodeStore(arguments.data), config.data
    held_out = next(s for s in ("test", "val", "train") if store.tasks(s))
    results = reconstructions(
        Trained(section),
        store,
        held_out,
        size=data.image_size,
        channels=data.channels,
        tasks=arguments.tasks,
    )
    page = f"{arguments.out.removesuffix('.safetensors')}.html"
    write_codec_page(page, arguments.out, section.sha256 or "", results)
    show(f"{arguments.out}\nsha256 {section.sha256}")
    show(f"PSNR ceiling {mean_psnr(results):.1f} dB on {len(results)} tasks of split {held_out}")
    show(page)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `metatrain codec`."""
    add = parser.add_argument
    add("action", choices=["train"], help="train: train one, or resume")
    add("data", metavar="DATA", help="packed data set: a path or any fsspec URL")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="such as generator.width=48")
    add("--out", required=True, metavar="FILE.safetensors", help="file of the codec")
    add("--factor", type=int, choices=[4, 8], default=4, help="pixels of a latent's side (4)")
    add("--channels", type=positive, default=8, help="channels of a latent (8)")
    add("--steps", type=positive, default=2000, help="outer steps (2000)")
    add("--size", type=image_size, help="pixels of the images (as in the data)")
    add("--tasks", type=positive, default=200, help="held-out tasks to measure on (200)")
    add_device_argument(parser)
    add_wait_argument(parser)


CODEC = Command("Train a codec: a small autoencoder for your images.", add_arguments, codec)

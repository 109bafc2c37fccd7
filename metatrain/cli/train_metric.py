"""`metatrain train-metric`: train the metric network of a data set."""

import argparse

from metatrain.cli.arguments import image_size
from metatrain.cli.command import Command, show


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="packed data set: a path or any fsspec URL")
    parser.add_argument(
        "--out", required=True, metavar="FILE.safetensors", help="file of the metric network"
    )
    parser.add_argument("--size", type=image_size, help="pixels of the images (as in the data)")


def _train_metric(arguments: argparse.Namespace) -> None:
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.metrics.network import metric_network

    store = EpisodeStore(arguments.data)
    size, channels = store.shape()
    network = metric_network(
        store, arguments.out, image_size=arguments.size or size, channels=channels
    )
    show(f"{arguments.out}\nsha256 {network.sha256}")


TRAIN_METRIC = Command("Train the metric network of a data set.", _arguments, _train_metric)

"""`metatrain episodes`: write the list of episodes of a data set, and their support images."""

import argparse
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.base.text import counted
from metatrain.cli.arguments import add_subset_arguments, image_size, positive
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.episodes.episode_list import EpisodeList


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="packed data set: a path or any fsspec URL")
    add = parser.add_argument
    add("--split", default="test", choices=["train", "val", "test"], help="split (test)")
    add("--episodes", metavar="FILE", help="list of episodes (default: derived from the data)")
    add_subset_arguments(parser)
    add("--shots", type=positive, metavar="K", help="support images of a task to export (all)")
    add("--size", type=image_size, help="pixels of the exported images (as in the data)")
    add("--export", metavar="DIR", help="write the support images of every episode there")
    add("--out", metavar="FILE", help="write the list there")


def _episodes(arguments: argparse.Namespace) -> None:
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.episodes.episode_list import read_or_derive_list
    from metatrain.storage.files import write_file

    if not (arguments.out or arguments.export):
        raise UserError("give --out, a file for the list, or --export, a folder for the supports.")
    store = EpisodeStore(arguments.data)
    whole = read_or_derive_list(arguments.episodes, store, arguments.split)
    if arguments.export:
        _export(arguments, store, whole)
    if arguments.out:
        write_file(arguments.out, whole.content())
        show(arguments.out)
    published = "published" if whole.published else "not published"
    size = f"{counted(len(whole.tasks), 'task')}, {counted(whole.seeds, 'seed')}"
    show(f"{size}; sha256 {whole.sha256} ({published})")


def _export(arguments: argparse.Namespace, store: "EpisodeStore", whole: "EpisodeList") -> None:
    from metatrain.evaluation.episodes.benchmark import read_benchmark
    from metatrain.evaluation.episodes.external_samples import export_supports

    size, channels = store.shape()
    benchmark = read_benchmark(
        store,
        whole.first(arguments.tasks, arguments.seeds),
        shots=arguments.shots,
        image_size=arguments.size or size,
        channels=channels,
    )
    export_supports(benchmark, whole, arguments.export)
    show(arguments.export)


EPISODES = Command("Write the episodes that an evaluation uses.", _arguments, _episodes)

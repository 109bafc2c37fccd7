"""`metatrain group`: group the images of a data set that nobody grouped."""

import argparse

from metatrain.cli.arguments import add_wait_argument, image_size, positive, seed
from metatrain.cli.command import Command, show


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", metavar="DATA", help="packed data set: a path or any fsspec URL")
    add("--out", required=True, metavar="FILE.safetensors", help="file of the groups")
    add(
        "--splits",
        nargs="+",
        choices=("train", "val", "test"),
        default=["train"],
        metavar="SPLIT",
        help="splits to group, as the first of them shows how (train)",
    )
    add("--clusters", type=positive, metavar="N", help="groups of a partition (images / 20)")
    add("--partitions", type=positive, default=10, metavar="N", help="each by other traits (10)")
    add("--steps", type=positive, default=1000, metavar="N", help="of learning features (1000)")
    add("--size", type=image_size, default=32, help="pixels at which images are compared (32)")
    add("--seed", type=seed, default=0, help="of all that is random (0)")
    add("--sheet", metavar="FILE.png", help="picture of some groups, one a row")
    add_wait_argument(parser)


def _group(arguments: argparse.Namespace) -> None:
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.data.tasks.grouping import read_grouping
    from metatrain.grouping.group import GroupingOptions, group
    from metatrain.grouping.summary import sheet, summary
    from metatrain.storage.files import write_file
    from metatrain.storage.lease import lease

    store = EpisodeStore(arguments.data)
    names = ("clusters", "partitions", "steps", "size", "seed")
    options = GroupingOptions(**{name: getattr(arguments, name) for name in names})
    with lease(arguments.out, "groups images for", wait=arguments.wait, is_file=True):
        sha256 = group(store, arguments.splits, options).save(arguments.out)
    grouping, _ = read_grouping(arguments.out, store)
    show(f"{arguments.out}\nsha256 {sha256}\n{summary(grouping, store)}")
    if arguments.sheet:
        write_file(arguments.sheet, sheet(grouping, store))
        show(f"{arguments.sheet}: groups of the first partition, one a row")


GROUP = Command("Group the images of a data set that nobody grouped.", _arguments, _group)

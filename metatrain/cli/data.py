"""`metatrain pack`, `metatrain data` and `metatrain store`."""

import argparse

from metatrain.cli.arguments import image_size
from metatrain.cli.command import Command


def _pack(arguments: argparse.Namespace) -> None:
    from metatrain.data.packing.pack import pack

    size, raw, seed = arguments.size, arguments.raw, arguments.seed
    variant = "wide" if arguments.wide else "style" if arguments.task == "style" else None
    packed = pack(arguments.source, arguments.dest, size=size, raw=raw, seed=seed, variant=variant)
    print(packed)


def _pack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder with one subfolder per task, a .csv or .parquet with columns path and task, "
        "or the word glyphs or icons: a benchmark",
    )
    parser.add_argument("dest", metavar="DEST", help="where to: a path or any fsspec URL")
    parser.add_argument("--size", type=image_size, help="resize and crop to so many pixels")
    parser.add_argument(
        "--raw", action="store_true", help="store the pixels themselves: most room, fastest to read"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides which task is in which split")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--wide", action="store_true", help="of icons: more and smaller tasks")
    only.add_argument(
        "--task",
        choices=["character", "style"],
        default="character",
        help="of glyphs: whether a task is a character (the default) or a typeface",
    )


def _data(arguments: argparse.Namespace) -> None:
    from metatrain.base.errors import UserError
    from metatrain.data.check import check, write_contact_sheet

    card = check(arguments.url)
    print(card)
    if card.faults:
        raise UserError("\n  ".join([f"{card.url} is not whole:", *card.faults]))
    print("  whole: every hash, count and image is as it was packed")
    if arguments.sheet:
        write_contact_sheet(arguments.url, arguments.sheet)
        print(arguments.sheet)


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["check"], help="check: read and verify all of it")
    parser.add_argument("url", metavar="URL", help="a packed data set: a path or any fsspec URL")
    parser.add_argument("--sheet", metavar="FILE.png", help="write an image of each task there")


def _store(arguments: argparse.Namespace) -> None:
    from metatrain.storage.s3_server import serve

    serve(arguments.folder)


def _store_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["start"], help="start: serve until interrupted")
    parser.add_argument(
        "--folder", metavar="DIR", default="store", help="where the bucket lies (store/)"
    )


PACK = Command("Pack images, grouped into tasks.", _pack_arguments, _pack)
DATA = Command("Verify a packed data set, and say what it holds.", _data_arguments, _data)
STORE = Command("Run an S3 server on this machine.", _store_arguments, _store)

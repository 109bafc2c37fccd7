"""`metatrain pack`, `metatrain data` and `metatrain store`."""

import argparse
import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from metatrain.cli.arguments import add_wait_argument, image_size, positive
from metatrain.cli.command import Command, sentence_of, show

if TYPE_CHECKING:
    from metatrain.data.task_levels import ValueRange

# Names of the variants that a benchmark has where none is chosen.
_PLAIN = ("character", "emoji")


def _pack(arguments: argparse.Namespace) -> None:
    from metatrain.data.packing.pack import pack

    variant = None if arguments.variant in _PLAIN else arguments.variant
    summary = pack(
        arguments.source,
        arguments.dest,
        size=arguments.size,
        raw=arguments.raw,
        seed=arguments.seed,
        variant=variant,
        conditions=dict(arguments.condition),
        task_depth=arguments.task_depth,
        ignore_splits=arguments.ignore_splits,
        path_column=arguments.path_column,
        task_column=arguments.task_column,
        root=arguments.root,
        grow=arguments.grow,
        background=arguments.background,
        value_range=arguments.range,
        photos=arguments.photos,
        patient_column=arguments.patient_column,
        patient_salt=arguments.patient_salt,
        slice_axis=arguments.slice_axis,
        bits=arguments.bits,
        wait=arguments.wait,
    )
    show(summary)
    _tell_problems(summary.url, "degradations" if arguments.photos else "classes")


def _tell_problems(url: str, tasks: str = "classes") -> None:
    """Tell what training and evaluation with the default settings would refuse about a data set."""
    from metatrain.config import DataConfig
    from metatrain.data.loader import open_tasks
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.data.problems import data_problems, errors_of
    from metatrain.data.tasks import TASK_SOURCES
    from metatrain.evaluation.episodes.episode_list import list_episodes

    store = EpisodeStore(url)
    if store.bits != 8:
        show(f"  {store.bits} bits a channel: train with data.bits={store.bits}")
    data = DataConfig(path=url, bits=store.bits, tasks=TASK_SOURCES[tasks].Config())
    for problem in data_problems(open_tasks(data)):
        show(f"  with the default settings, training refuses it: {sentence_of(problem)}")
    if tasks == "classes":
        for problem in errors_of([lambda: list_episodes(store, "test")]):
            show(f"  evaluation refuses it: {sentence_of(problem)}")


def _condition(text: str) -> tuple[str, str]:
    """Parse NAME=KIND, or NAME alone for a text."""
    name, _, kind = text.partition("=")
    return name, kind or "text"


def _value_range(text: str) -> "ValueRange":
    """Parse per-task, per-image, or MIN,MAX."""
    if text == "per-task" or text == "per-image":
        return text
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not -math.inf < low < high < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not per-task, per-image or MIN,MAX")
    return low, high


def _pack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder, .zip or .tar with one folder per task; a .csv, .tsv, .jsonl or .parquet "
        "with the columns path and task; a .npz, or Parquet files or shards with images inside; "
        "or the word glyphs, icons or emoji: a benchmark",
    )
    parser.add_argument(
        "dest", metavar="DEST", help="the folder to write: a path or any fsspec URL"
    )
    parser.add_argument("--size", type=image_size, help="resize and crop to this many pixels")
    parser.add_argument(
        "--raw", action="store_true", help="store the pixels themselves: largest, fastest to read"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides the split of each task")
    parser.add_argument(
        "--background",
        choices=["white", "black", "auto", "keep"],
        default="white",
        help="takes the place of transparency (white); auto: black for images that white would "
        "hide; keep: pack RGBA, for data.channels=4",
    )
    parser.add_argument(
        "--range",
        metavar="per-task|per-image|MIN,MAX",
        type=_value_range,
        default="per-task",
        help="values of images of more than 8 bits that become black and white: those that a "
        "task's images span (the default) or that each image spans, or two numbers; write "
        "--range=MIN,MAX where MIN is negative",
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=[8, 16],
        default=8,
        help="bits of a channel (8); 16 keeps them of grey images, and refuses all others, for "
        "data.bits=16",
    )
    parser.add_argument(
        "--condition",
        metavar="NAME[=KIND]",
        type=_condition,
        action="append",
        default=[],
        help="pack a column of the table as a condition of each image: a text (the default), a "
        "vector (numbers as JSON), an image or audio (the path of a file); of a folder, text and "
        "audio=audio are files beside images, as 1.txt and 1.wav, or beside their folders; "
        "repeatable",
    )
    _layout_arguments(parser)
    _medical_arguments(parser)
    add_wait_argument(parser)
    _source_arguments(parser)


def _source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of photographs and of each benchmark, of which one may be given."""
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--photos",
        action="store_true",
        help="SOURCE holds photographs of any size, in no folders of tasks: pack each as a task, "
        "for data.tasks.name=degradations",
    )
    add = partial(only.add_argument, dest="variant")
    add("--wide", action="store_const", const="wide", help="icons: more and smaller tasks")
    add(
        "--task",
        choices=["character", "style"],
        help="glyphs: a task is a character (the default) or a typeface",
    )
    add(
        "--by",
        choices=["emoji", "hand", "new-hand"],
        help="emoji: a task is an emoji by several hands (the default), or a subgroup by one hand; "
        "new-hand: likewise, and the test tasks are of a hand that training never saw",
    )


def _layout_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell how to read SOURCE."""
    parser.add_argument(
        "--task-depth",
        metavar="N",
        type=positive,
        help="a task is a folder N levels below SOURCE, or below its folders of splits",
    )
    parser.add_argument(
        "--ignore-splits",
        action="store_true",
        help="pool the tasks of SOURCE's splits, and have the seed decide their splits anew",
    )
    parser.add_argument("--path-column", metavar="NAME", help="the column of paths, or of images")
    parser.add_argument("--task-column", metavar="NAME", help="the column of tasks")
    parser.add_argument(
        "--root", metavar="URL", help="folder or archive that a table's paths are in"
    )
    parser.add_argument(
        "--grow",
        action="store_true",
        help="add to the tasks in DEST also where SOURCE lacks images that they have",
    )


def _medical_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--patient-column",
        metavar="NAME",
        help="the column of a table that names patients (patient, patient_id): each gets a "
        "pseudonym, and is in one split",
    )
    parser.add_argument(
        "--patient-salt",
        metavar="FILE",
        help="the secret that pseudonyms of patients are made with, made where it is missing "
        "(metatrain/patient-salt in your folder of states); keep it apart from DEST",
    )
    parser.add_argument(
        "--slice-axis",
        choices=["axial", "coronal", "sagittal"],
        default="axial",
        help="the direction in which slices of NIfTI volumes are stacked (axial)",
    )


def _data(arguments: argparse.Namespace) -> None:
    from metatrain.base.errors import UserError
    from metatrain.data.check import check, write_contact_sheet

    card = check(arguments.url)
    show(card)
    if card.faults:
        raise UserError("\n  ".join([f"{card.url} is not whole:", *card.faults]))
    show("  whole: every hash, count, image and condition is as it was packed")
    _tell_problems(arguments.url)
    if arguments.sheet:
        show(write_contact_sheet(arguments.url, arguments.sheet))


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["check"], help="check: read and verify all of it")
    parser.add_argument("url", metavar="URL", help="a packed data set: a path or any fsspec URL")
    parser.add_argument(
        "--sheet", metavar="FILE.png", help="write images and names of up to 64 tasks there"
    )


def _store(arguments: argparse.Namespace) -> None:
    from metatrain.storage.s3_server import BUCKET, serve

    def announce(environment: Mapping[str, str]) -> None:
        show(
            f"s3://{BUCKET} is served until Ctrl-C to who has its keys; elsewhere, give this first:"
        )
        for name, value in environment.items():
            show(f"export {name}={value}")

    serve(arguments.folder, announce)


def _store_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["start"], help="start: serve until interrupted")
    parser.add_argument(
        "--folder", metavar="DIR", default="store", help="the folder of the bucket (store/)"
    )


PACK = Command("Pack images, grouped into tasks.", _pack_arguments, _pack)
DATA = Command("Verify a packed data set, and print its contents.", _data_arguments, _data)
STORE = Command("Run an S3 server on this machine.", _store_arguments, _store)

"""The commands of this package: what they take, and which room they lead to.

Rooms are imported when their command runs, so that `metatrain --help` does not wait for torch.
"""

import argparse
import sys

from metatrain.cli import Command
from metatrain.combine.commands import add_ways, combine
from metatrain.evaluation.commands import add_arguments as add_evaluate_arguments
from metatrain.evaluation.commands import evaluate
from metatrain.plan.commands import add_arguments as add_plan_arguments
from metatrain.plan.commands import plan


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG and its overrides, as every command that takes a configuration has them."""
    parser.add_argument("config", metavar="CONFIG", help="YAML file: a path or any fsspec URL")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="such as inner.lr=0.01 cluster.workers=8"
    )


def _config(arguments: argparse.Namespace) -> None:
    from metatrain.config import load_config, to_yaml

    given = [arguments.config] if arguments.config else []
    # Without a file, the first override stands where the file would.
    path = given.pop() if given and "=" not in given[0] else None
    print(to_yaml(load_config(path, given + arguments.overrides)), end="")


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", nargs="?", help="YAML file; none: the defaults")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as inner.lr=0.01")


def _pack(arguments: argparse.Namespace) -> None:
    from metatrain.pack import pack

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


def _adapt(arguments: argparse.Namespace) -> None:
    from metatrain.adapt import Adapter, read_support
    from metatrain.expect import expectation, warning
    from metatrain.model import load_model, save_model

    model = load_model(arguments.checkpoint)
    support = read_support(arguments.images, model.config.data)
    if found := warning(model, support):
        print(found, file=sys.stderr)
    adapted, url = Adapter(model).adapt(support), f"{arguments.out}/adapted.safetensors"
    print(expectation(model, support, adapted), file=sys.stderr)
    save_model(adapted, url)
    print(url)


def _adapt_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a model file, or a run's folder")
    parser.add_argument("images", metavar="IMAGES_DIR", help="a folder with a handful of images")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the model goes")


def _generate(arguments: argparse.Namespace) -> None:
    from metatrain.files import write_file
    from metatrain.generate import contact_sheet, generate
    from metatrain.model import load_model

    images = generate(load_model(arguments.adapted), arguments.n, arguments.seed)
    write_file(arguments.out, contact_sheet(images))
    print(arguments.out)


def _generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapted", metavar="ADAPTED", help="what metatrain adapt wrote")
    parser.add_argument("-n", type=positive, default=64, help="how many images (64)")
    parser.add_argument("--seed", type=seed, default=0, help="the same seed, the same images (0)")
    parser.add_argument("--out", required=True, metavar="FILE.png", help="the picture to write")


def _data(arguments: argparse.Namespace) -> None:
    from metatrain.check import check, write_contact_sheet
    from metatrain.errors import UserError

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
    from metatrain.s3_server import serve

    serve(arguments.folder)


def _store_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["start"], help="start: serve until interrupted")
    parser.add_argument(
        "--folder", metavar="DIR", default="store", help="where the bucket lies (store/)"
    )


def _tune_adaptation(arguments: argparse.Namespace) -> None:
    from metatrain.model import load_model
    from metatrain.tune_adaptation import table, tune_adaptation, write_outcome

    model, out = load_model(arguments.checkpoint), arguments.out.rstrip("/")
    outcome = tune_adaptation(
        model,
        arguments.data or model.config.data.path,
        f"{out}/metric.safetensors",
        scopes=arguments.scopes,
        tasks=arguments.tasks,
        metric=arguments.metric,
    )
    print(table(outcome))
    print(write_outcome(outcome, out))


def _tune_adaptation_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a model file, or a run's folder")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the model goes")
    parser.add_argument("--data", metavar="URL", help="packed data (that of the training)")
    parser.add_argument("--tasks", type=positive, default=24, help="unseen tasks at most (24)")
    parser.add_argument(
        "--scopes",
        nargs="*",
        default=["film", "lora"],
        choices=["all", "film", "lora", "head", "body", "context"],
        help="to try beside the model's own (film lora)",
    )
    parser.add_argument(
        "--metric",
        default="kid",
        choices=["kid", "task_kid", "similarity", "own_task", "loss"],
        help="what to judge by (kid)",
    )


def _report(arguments: argparse.Namespace) -> None:
    from metatrain.report import write_comparison, write_report

    first, *others = arguments.run_folders
    if others:
        print(write_comparison(arguments.run_folders, arguments.out))
    else:
        print(write_report(first, arguments.out))


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_folders",
        metavar="RUN",
        nargs="+",
        help="the folder of an evaluated run; several, on the same episodes, are compared",
    )
    parser.add_argument(
        "--out",
        metavar="FILE.html",
        help="the page (report/index.html in the run; of several, report/comparison.html in the "
        "first)",
    )


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def image_size(text: str) -> int:
    """A number of pixels that an image may have on a side, for argparse."""
    number = int(text)
    if not 8 <= number <= 4096:
        raise argparse.ArgumentTypeError(f"{text} is not between 8 and 4096")
    return number


def seed(text: str) -> int:
    """A whole number from 0 to 2^32 - 1, for argparse."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 4294967295")
    return number


COMMANDS = {
    "config": Command("Print the whole configuration, resolved.", _config_arguments, _config),
    "plan": Command("Predict a run's memory, traffic, time and cost.", add_plan_arguments, plan),
    "pack": Command("Pack images, grouped into tasks.", _pack_arguments, _pack),
    "data": Command("Verify a packed data set, and say what it holds.", _data_arguments, _data),
    "store": Command("Run an S3 server on this machine.", _store_arguments, _store),
    "adapt": Command("Adapt a model to a handful of images.", _adapt_arguments, _adapt),
    "generate": Command("Draw new images.", _generate_arguments, _generate),
    "evaluate": Command("Score models on unseen tasks.", add_evaluate_arguments, evaluate),
    "tune-adaptation": Command(
        "Find how a model adapts best.", _tune_adaptation_arguments, _tune_adaptation
    ),
    "combine": Command("Make one model of several.", add_ways, combine),
    "report": Command("Write a run's page, or one that compares runs.", _report_arguments, _report),
}

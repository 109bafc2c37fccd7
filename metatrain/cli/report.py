"""`metatrain report`."""

import argparse

from metatrain.cli.command import Command, show


def _report(arguments: argparse.Namespace) -> None:
    from metatrain.report import write_comparison, write_report

    first, *others = arguments.run_folders
    if others:
        show(write_comparison(arguments.run_folders, arguments.out))
    else:
        show(write_report(first, arguments.out))


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


REPORT = Command("Write a run's page, or one that compares runs.", _report_arguments, _report)

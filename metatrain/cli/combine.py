"""`metatrain combine HOW`: the ways to make one model of several, each with its arguments."""

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli.arguments import positive
from metatrain.cli.command import Command

if TYPE_CHECKING:
    from metatrain.model.file import Model


def _arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand a way."""
    ways = parser.add_subparsers(title="ways", metavar="HOW", required=True)
    for name, way in WAYS.items():
        subparser = ways.add_parser(name, help=way.help, description=way.help)
        way.arguments(subparser)
        subparser.add_argument(
            "--out", required=True, metavar="FILE.safetensors", help="where the model goes"
        )
        subparser.set_defaults(way=way.run)


def _combine(arguments: argparse.Namespace) -> None:
    """Combine in the way that was chosen.

    Raises:
        UserError: when no command would find what is written, and whatever the way raises.
    """
    if not arguments.out.endswith(".safetensors"):
        raise UserError(f"--out is {arguments.out}; give the name of a .safetensors file.")
    arguments.way(arguments)


def _uniform(arguments: argparse.Namespace) -> None:
    from metatrain.combine.soup import load_ingredients, uniform_soup

    _write(uniform_soup(load_ingredients(arguments.models)), arguments.out)


def _greedy(arguments: argparse.Namespace) -> None:
    from metatrain.combine.soup import greedy_soup, kid_of, load_ingredients

    members = load_ingredients(arguments.models)
    first = next(iter(members.values()))
    data = arguments.data or first.config.data.path
    # Beside the model, as evaluate keeps it beside its scores.
    network = f"{arguments.out.rpartition('/')[0] or '.'}/metric.safetensors"
    score = kid_of(first.config, data, network, arguments.tasks)
    _write(greedy_soup(members, score, say=print), arguments.out)


def _greedy_arguments(parser: argparse.ArgumentParser) -> None:
    _models_arguments(parser)
    parser.add_argument("--data", metavar="URL", help="packed data (that of the first model)")
    parser.add_argument("--tasks", type=positive, default=32, help="how many tasks at most (32)")


def _ensemble(arguments: argparse.Namespace) -> None:
    from metatrain.combine.learned import ensemble

    _learned(arguments, ensemble)


def _mixture(arguments: argparse.Namespace) -> None:
    from metatrain.combine.learned import mixture

    _learned(arguments, mixture)


def _learned(
    arguments: argparse.Namespace, combination: "Callable[[Mapping[str, Model]], Model]"
) -> None:
    from metatrain.combine.members import load_members

    _write(combination(load_members(arguments.models)), arguments.out)


def _post_hoc(arguments: argparse.Namespace) -> None:
    from metatrain.combine.post_hoc import reconstruct

    model, error = reconstruct(arguments.run_folder, arguments.sigma)
    print(f"the profile is met but for {error:.1%}")
    _write(model, arguments.out)


def _post_hoc_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_folder", metavar="RUN", help="the folder of a run trained with meta.post_hoc=true"
    )
    parser.add_argument(
        "--sigma",
        type=float,
        required=True,
        help="length of the average, as a share of the training: 0.13 is long, 0.05 short",
    )


def _models_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", metavar="MODEL", nargs="+", help="model files, or folders of runs or checkpoints"
    )


def _write(model: "Model", out: str) -> None:
    from metatrain.model.file import save_model

    save_model(model, out)
    print(out)


WAYS = {
    "uniform": Command("The mean of all models' parameters.", _models_arguments, _uniform),
    "greedy": Command("The mean of those that improve it.", _greedy_arguments, _greedy),
    "ensemble": Command("Velocities, weighted for each task.", _models_arguments, _ensemble),
    "mixture": Command("The first, moved towards the others.", _models_arguments, _mixture),
    "post-hoc": Command(
        "A run's average over any length, after the training.", _post_hoc_arguments, _post_hoc
    ),
}


COMBINE = Command("Make one model of several.", _arguments, _combine)

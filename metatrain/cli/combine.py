"""`metatrain combine METHOD`: the methods to make one model of several, and their arguments."""

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli.arguments import add_trust_argument, add_wait_argument, positive
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.model.model import Model


def _arguments(parser: argparse.ArgumentParser) -> None:
    methods = parser.add_subparsers(title="methods", metavar="METHOD", required=True)
    for name, method in METHODS.items():
        subparser = methods.add_parser(name, help=method.help, description=method.help)
        method.arguments(subparser)
        subparser.add_argument(
            "--out", required=True, metavar="FILE.safetensors", help="model to write"
        )
        add_trust_argument(subparser)
        add_wait_argument(subparser)
        subparser.set_defaults(method=method.run)


def _combine(arguments: argparse.Namespace) -> None:
    from metatrain.storage.lease import lease

    if not arguments.out.endswith(".safetensors"):
        raise UserError(f"--out is {arguments.out}; give the name of a .safetensors file.")
    with lease(arguments.out, "combines", wait=arguments.wait, is_file=True):
        arguments.method(arguments)


def _uniform(arguments: argparse.Namespace) -> None:
    from metatrain.combine.soup import load_ingredients, uniform_soup

    _write(uniform_soup(load_ingredients(arguments.models, trust=arguments.trust)), arguments.out)


def _greedy(arguments: argparse.Namespace) -> None:
    from metatrain.combine.soup import greedy_soup, load_ingredients, validation_kid
    from metatrain.evaluation.run_networks import networks_of
    from metatrain.evaluation.training_data import data_for
    from metatrain.model.places import model_url

    members = load_ingredients(arguments.models, trust=arguments.trust)
    files = {model_url(url): member for url, member in members.items()}
    url, first = next(iter(files.items()))
    data = data_for(first, arguments.data, url)
    network = f"{arguments.out.rpartition('/')[0] or '.'}/metric.safetensors"
    known = [place for url, member in files.items() for place in networks_of(member, url)]
    score = validation_kid(first.config, data, network, arguments.tasks, known)
    _write(greedy_soup(members, score, report=show), arguments.out)


def _greedy_arguments(parser: argparse.ArgumentParser) -> None:
    _models_arguments(parser)
    parser.add_argument(
        "--data", metavar="URL", help="packed data set (default: the first model's)"
    )
    parser.add_argument("--tasks", type=positive, default=32, help="maximum number of tasks (32)")


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

    _write(combination(load_members(arguments.models, trust=arguments.trust)), arguments.out)


def _post_hoc(arguments: argparse.Namespace) -> None:
    from metatrain.combine.post_hoc import reconstruct

    model, error = reconstruct(arguments.run_folder, arguments.sigma, trust=arguments.trust)
    show(f"relative error of the profile: {error:.1%}")
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
    model.save(out)
    show(out)


METHODS = {
    "uniform": Command("The mean of all models' parameters.", _models_arguments, _uniform),
    "greedy": Command("The mean of those that improve it.", _greedy_arguments, _greedy),
    "ensemble": Command("Velocities, weighted for each task.", _models_arguments, _ensemble),
    "mixture": Command("The first, moved towards the others.", _models_arguments, _mixture),
    "post-hoc": Command(
        "A run's average over any length, after the training.", _post_hoc_arguments, _post_hoc
    ),
}


COMBINE = Command("Make one model of several.", _arguments, _combine)

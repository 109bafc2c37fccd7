"""`metatrain evaluate`: score models, or the samples of another system, on unseen tasks."""

import argparse
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli.arguments import (
    add_device_argument,
    add_subset_arguments,
    add_trust_argument,
    add_wait_argument,
    positive,
)
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.candidates import Candidate
    from metatrain.evaluation.cross_domain import Domain
    from metatrain.evaluation.protocol import Protocol, ScoredSystem
    from metatrain.evaluation.running.runner import Runner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `metatrain evaluate`."""
    parser.add_argument(
        "checkpoints",
        metavar="CHECKPOINT",
        nargs="*",
        help="model files, or folders of runs or checkpoints",
    )
    add = parser.add_argument
    add(
        "--data",
        metavar="URL",
        action="append",
        help="packed data set (default: the first model's training data); given several times, "
        "print a table of all models on all data sets",
    )
    add("--split", default="test", choices=["train", "val", "test"], help="split (test)")
    add("--episodes", metavar="FILE", help="list of episodes (default: derived from the data)")
    add_subset_arguments(parser)
    add("--shots", type=positive, metavar="K", help="support images (default: as in training)")
    add("--joint", metavar="CHECKPOINT", help="jointly trained model to fine-tune as a baseline")
    add("--samples", metavar="DIR", help="samples that another system drew of the episodes")
    add("--metric", metavar="FILE", help="metric network (metric.safetensors in the output)")
    add("--features", metavar="FILE", help="features that another program computed")
    add("--workers", type=positive, metavar="N", help="worker processes (default: one a core)")
    add("--export", metavar="DIR", help="write every image that is compared")
    add("--out", metavar="DIR", help="output folder (evaluation/ beside each checkpoint)")
    add(
        "--demand-privacy",
        action="store_true",
        help="exit with status 1 if more samples than held-out real images are near copies of the "
        "support, beyond the interval, in any feature space",
    )
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


def evaluate(arguments: argparse.Namespace, runner: "Runner | None" = None) -> None:
    """Score the models, or the samples, that the arguments name.

    Args:
        arguments: see `add_arguments`.
        runner: runs the jobs; by default, processes of this machine.

    Raises:
        UserError: when an argument is missing or an input cannot be used.
    """
    if arguments.checkpoints:
        _score_models(arguments, runner)
    elif arguments.samples:
        _score_samples(arguments)
    else:
        raise UserError("there is nothing to evaluate; name a CHECKPOINT, or give --samples.")


def _score_models(arguments: argparse.Namespace, runner: "Runner | None") -> None:
    from metatrain.base.device import device_of
    from metatrain.evaluation.candidates import check_same_shape, read_candidates, read_joint
    from metatrain.evaluation.cross_domain import cross_domain_table
    from metatrain.evaluation.privacy import demand_privacy
    from metatrain.evaluation.running.runner import LocalRunner
    from metatrain.evaluation.training_data import data_for

    trust = arguments.trust
    candidates = read_candidates(arguments.checkpoints, trust=trust)
    joint = read_joint(arguments.joint, trust=trust) if arguments.joint else None
    check_same_shape([*candidates, *([joint] if joint else [])])
    first = candidates[0]
    urls = arguments.data or [data_for(first.model, None, first.system.url)]
    _refuse_options_of_one_data_set(arguments, urls)
    runner = runner or LocalRunner(arguments.workers, device_of(arguments.device))
    scored = [_score_on(arguments, url, candidates, joint, runner) for url in urls]
    if len(scored) > 1:
        show(cross_domain_table([domain for domain, _ in scored]))
    if arguments.demand_privacy:
        demand_privacy([fault for _, faults in scored for fault in faults])


def _refuse_options_of_one_data_set(arguments: argparse.Namespace, urls: "Sequence[str]") -> None:
    for option in ("episodes", "samples", "metric", "features", "joint"):
        if len(urls) > 1 and getattr(arguments, option):
            raise UserError(
                f"--{option} belongs to one data set; give --data once, or leave --{option} out."
            )


def _score_on(
    arguments: argparse.Namespace,
    url: str,
    models: "Sequence[Candidate]",
    joint: "Candidate | None",
    runner: "Runner",
) -> "tuple[Domain, list[str]]":
    """Score all models on the data set at `url`, and list where they memorise."""
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.candidates import with_folders
    from metatrain.storage.lease import leases

    store = EpisodeStore(url)
    candidates = with_folders(models, store, _out(arguments, store))
    with leases([c.folder for c in candidates], "evaluates", wait=arguments.wait):
        return _score_candidates(arguments, store, candidates, joint, runner)


def _score_candidates(
    arguments: argparse.Namespace,
    store: "EpisodeStore",
    candidates: "Sequence[Candidate]",
    joint: "Candidate | None",
    runner: "Runner",
) -> "tuple[Domain, list[str]]":
    """Score all models, whose folders this process holds, and list where they memorise."""
    from metatrain.evaluation.candidates import evaluate_models, shared_folder
    from metatrain.evaluation.cross_domain import Domain
    from metatrain.evaluation.episodes.episode_list import benchmark_name
    from metatrain.evaluation.privacy import privacy_faults
    from metatrain.evaluation.run_networks import networks_of
    from metatrain.evaluation.terminal_table import comparisons, evaluation_table, main_scores

    data = candidates[0].model.config.data
    shots, shape = arguments.shots or data.shots, (data.image_size, data.channels)
    known = [place for c in candidates for place in networks_of(c.model, c.system.url)]
    protocol = _protocol(arguments, store, shots, shape, shared_folder(candidates), known)
    others: dict[str, ScoredSystem] = {}
    if arguments.samples:
        name, images = _samples(arguments, protocol)
        others[name] = protocol.score_images(name, arguments.samples, images)
    scored: dict[str, ScoredSystem] = {}
    faults: list[str] = []
    for evaluation, systems in evaluate_models(protocol, candidates, joint, others, runner):
        show(evaluation_table(evaluation))
        show(comparisons(evaluation.system, systems | scored), end="\n\n")
        scored[evaluation.system] = systems[evaluation.system]
        faults += privacy_faults(systems, [evaluation.system])
    natives = [candidate.name for candidate in candidates if candidate.native]
    scores = {name: main_scores(system) for name, system in scored.items()}
    return Domain(benchmark_name(store), scores, natives), faults


def _out(arguments: argparse.Namespace, store: "EpisodeStore") -> str | None:
    """Return the output folder of one data set: --out, or a folder in it where there are more."""
    from metatrain.evaluation.candidates import data_label

    several = arguments.out and len(arguments.data or ()) > 1
    return f"{arguments.out}/{data_label(store)}" if several else arguments.out


def _score_samples(arguments: argparse.Namespace) -> None:
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.episodes.external_samples import sample_shape
    from metatrain.storage.lease import lease

    if len(arguments.data or ()) != 1:
        raise UserError("samples belong to one data set; give --data, its URL, once.")
    folder = arguments.out or f"{arguments.samples.rstrip('/')}/evaluation"
    store, shape = EpisodeStore(arguments.data[0]), sample_shape(arguments.samples)
    with lease(folder, "evaluates", wait=arguments.wait):
        protocol = _protocol(arguments, store, arguments.shots, shape, folder)
        _score_samples_into(folder, arguments, protocol)


def _score_samples_into(folder: str, arguments: argparse.Namespace, protocol: "Protocol") -> None:
    """Score the samples, and write their evaluation to `folder`, which this process holds."""
    from metatrain.evaluation.privacy import demand_privacy, privacy_faults
    from metatrain.evaluation.results import write_evaluation
    from metatrain.evaluation.terminal_table import comparisons, evaluation_table

    name, images = _samples(arguments, protocol)
    scored = protocol.score_images(name, arguments.samples, images)
    systems = protocol.with_baselines({name: scored})
    evaluation = protocol.evaluation(name, systems, images, folder=folder)
    write_evaluation(evaluation, {n: s.scores for n, s in systems.items()}, folder)
    show(evaluation_table(evaluation))
    show(comparisons(name, systems))
    if arguments.demand_privacy:
        demand_privacy(privacy_faults(systems, [name]))


def _samples(arguments: argparse.Namespace, protocol: "Protocol") -> "tuple[str, Tensor]":
    """Read the images [S, T, N, C, H, W] under --samples, and name their system."""
    from metatrain.evaluation.episodes.external_samples import read_samples

    folder = arguments.samples.rstrip("/")
    return f"samples {folder.rpartition('/')[2]}", read_samples(folder, protocol.benchmark)


def _protocol(
    arguments: argparse.Namespace,
    store: "EpisodeStore",
    shots: int | None,
    shape: tuple[int, int],
    folder: str,
    known: "Sequence[str]" = (),
) -> "Protocol":
    """Make the protocol for images of `shape`, a size and a number of channels.

    The metric network is kept in `folder` where --metric names no other, and is copied from the
    first of `known` that has it.
    """
    from metatrain.evaluation.episodes.episode_list import read_or_derive_list
    from metatrain.evaluation.standard_protocol import standard_protocol
    from metatrain.metrics.network import NETWORK
    from metatrain.metrics.pixels import ExportedPixels
    from metatrain.metrics.precomputed import Precomputed

    return standard_protocol(
        store,
        read_or_derive_list(arguments.episodes, store, arguments.split),
        tasks=arguments.tasks,
        seeds=arguments.seeds,
        shots=shots,
        image_size=shape[0],
        channels=shape[1],
        network=arguments.metric or f"{folder}/{NETWORK}",
        known=known,
        pixels=ExportedPixels(arguments.export) if arguments.export else None,
        others=[Precomputed(arguments.features)] if arguments.features else [],
    )


EVALUATE = Command("Score models on unseen tasks.", add_arguments, evaluate)

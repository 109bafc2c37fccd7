"""`metatrain calibrate`: measure a model on validation tasks, to predict its quality on others."""

import argparse
from typing import TYPE_CHECKING

from metatrain.cli.arguments import (
    add_device_argument,
    add_subset_arguments,
    add_trust_argument,
    add_wait_argument,
    positive,
)
from metatrain.cli.command import Command, show

if TYPE_CHECKING:
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.candidates import Candidate
    from metatrain.evaluation.protocol import Protocol
    from metatrain.evaluation.running.runner import Runner


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `metatrain calibrate`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="model file, or folder of a run")
    add = parser.add_argument
    add("--data", metavar="URL", help="packed data set (default: the training data)")
    add_subset_arguments(parser)
    add("--metric", metavar="FILE", help="metric network (metric.safetensors in evaluation/)")
    add("--workers", type=positive, metavar="N", help="worker processes (default: one a core)")
    add("--out", metavar="FILE.safetensors", help="calibrated model (default: CHECKPOINT itself)")
    add_device_argument(parser)
    add_trust_argument(parser)
    add_wait_argument(parser)


def calibrate(arguments: argparse.Namespace, runner: "Runner | None" = None) -> None:
    """Write the model with its calibration on tasks of the split val.

    Args:
        arguments: see `add_arguments`.
        runner: runs the jobs; by default, processes of this machine.

    Raises:
        HeldError: when another process evaluates the model, or writes the calibrated one.
        UserError: when an input cannot be used, or the model is part of a checkpoint.
    """
    from metatrain.base.machine import device_of
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.calibrate import calibrated, refuse_checkpoints
    from metatrain.evaluation.candidates import read_candidates, with_folders
    from metatrain.evaluation.running.runner import LocalRunner
    from metatrain.evaluation.training_data import data_for
    from metatrain.storage.lease import lease

    candidates = read_candidates([arguments.checkpoint], trust=arguments.trust)
    url = arguments.out or candidates[0].system.url
    refuse_checkpoints(url)
    first = candidates[0]
    store = EpisodeStore(data_for(first.model, arguments.data, first.system.url))
    [candidate] = with_folders(candidates, store, None)
    runner = runner or LocalRunner(arguments.workers, device_of(arguments.device))
    with (
        lease(candidate.folder, "calibrates", wait=arguments.wait),
        lease(url, "calibrates", wait=arguments.wait, is_file=True),
    ):
        protocol = _protocol(arguments, store, candidate)
        calibrated(protocol, candidate, runner).save(url)
    show(url)


def _protocol(
    arguments: argparse.Namespace, store: "EpisodeStore", candidate: "Candidate"
) -> "Protocol":
    from metatrain.evaluation.episodes.benchmark import read_benchmark
    from metatrain.evaluation.episodes.episode_list import list_episodes
    from metatrain.evaluation.protocol import Protocol
    from metatrain.evaluation.run_networks import networks_of
    from metatrain.metrics.network import NETWORK, metric_network

    data, whole = candidate.model.config.data, list_episodes(store, "val")
    first = whole.first(arguments.tasks, arguments.seeds)
    shape = {"image_size": data.image_size, "channels": data.channels}
    benchmark = read_benchmark(store, first, shots=data.shots, **shape)
    network = metric_network(
        store,
        arguments.metric or f"{candidate.folder}/{NETWORK}",
        known=networks_of(candidate.model, candidate.system.url),
        **shape,
    )
    return Protocol(store, whole, benchmark, [network])


CALIBRATE = Command("Let a model predict its quality on new tasks.", add_arguments, calibrate)

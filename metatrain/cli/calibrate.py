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
    from metatrain.base.device import device_of
    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.calibrate import (
        calibrated,
        calibration_protocol,
        refuse_checkpoints,
    )
    from metatrain.evaluation.candidates import read_candidates, with_folders
    from metatrain.evaluation.running.runner import LocalRunner
    from metatrain.evaluation.training_data import data_for
    from metatrain.model.named import refuse_shipped
    from metatrain.storage.lease import lease

    candidates = read_candidates([arguments.checkpoint], trust=arguments.trust)
    url = arguments.out or candidates[0].system.url
    refuse_checkpoints(url)
    refuse_shipped(url)
    first = candidates[0]
    store = EpisodeStore(data_for(first.model, arguments.data, first.system.url))
    [candidate] = with_folders(candidates, store, None)
    runner = runner or LocalRunner(arguments.workers, device_of(arguments.device))
    with (
        lease(candidate.folder, "calibrates", wait=arguments.wait),
        lease(url, "calibrates", wait=arguments.wait, is_file=True),
    ):
        protocol = calibration_protocol(
            store,
            candidate,
            tasks=arguments.tasks,
            seeds=arguments.seeds,
            network=arguments.metric,
        )
        calibrated(protocol, candidate, runner).save(url)
    show(url)


CALIBRATE = Command("Let a model predict its quality on new tasks.", add_arguments, calibrate)

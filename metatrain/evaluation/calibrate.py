"""Calibration: a model's behaviour on unseen tasks, kept in its file to predict that on others."""

from dataclasses import replace

from metatrain.base.errors import UserError
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.candidates import Candidate
from metatrain.evaluation.episodes.benchmark import read_benchmark
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.protocol import Protocol
from metatrain.evaluation.run_networks import networks_of
from metatrain.evaluation.running.jobs import read_outputs
from metatrain.evaluation.running.runner import Runner, run_jobs
from metatrain.metrics.network import NETWORK, metric_network
from metatrain.model.model import Model
from metatrain.storage.files import exists
from metatrain.training.checkpoint.index import INDEX


def calibration_protocol(
    store: EpisodeStore,
    candidate: Candidate,
    *,
    tasks: int,
    seeds: int,
    network: str | None,
    split: str = "val",
) -> Protocol:
    """Make the protocol that calibrates: tasks scored in the metric network.

    Args:
        store: the data set.
        candidate: the model, with the folder of its evaluation.
        tasks: at most so many tasks of the list.
        seeds: at most so many seeds of the list.
        network: URL of the metric network, by default in the candidate's folder.
        split: the split of the tasks.

    Raises:
        UserError: when the episodes or the network cannot be used.
    """
    data, whole = candidate.model.config.data, list_episodes(store, split)
    shape = {"image_size": data.image_size, "channels": data.channels}
    benchmark = read_benchmark(store, whole.first(tasks, seeds), shots=data.shots, **shape)
    space = metric_network(
        store,
        network or f"{candidate.folder}/{NETWORK}",
        known=networks_of(candidate.model, candidate.system.url),
        **shape,
    )
    return Protocol(store, whole, benchmark, [space])


def calibrated(protocol: Protocol, candidate: Candidate, runner: Runner) -> Model:
    """Return the candidate's model with its calibration on the episodes of `protocol`.

    Raises:
        UserError: when a job fails; the outputs so far are kept.
    """
    jobs = protocol.jobs(candidate.system, candidate.folder)
    run_jobs(jobs, runner)
    calibration = protocol.calibration(candidate.system, read_outputs(jobs))
    return replace(candidate.model, calibration=calibration)


def refuse_checkpoints(url: str) -> None:
    """Check that the file `url` is not part of a checkpoint, which must not change.

    Raises:
        UserError: when it is.
    """
    folder = url.rpartition("/")[0] or "."
    if exists(f"{folder}/{INDEX}"):
        raise UserError(
            f"{url} is part of a checkpoint, which must not change; write the calibrated model to "
            f"another file."
        )

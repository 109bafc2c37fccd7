"""The evaluation of one model, by the protocol as every evaluation has it."""

from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.candidates import Candidate, evaluate_models
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.run_networks import networks_of
from metatrain.evaluation.running.runner import Runner
from metatrain.evaluation.standard_protocol import standard_protocol
from metatrain.metrics.network import NETWORK


def evaluate_one(
    candidate: Candidate,
    store: EpisodeStore,
    runner: Runner,
    *,
    split: str,
    tasks: int,
    seeds: int,
    shots: int | None = None,
) -> Evaluation:
    """Score a model on unseen tasks; what is computed lies in the candidate's folder.

    Args:
        candidate: the model.
        store: the data set.
        runner: runs the jobs.
        split: the split of the tasks.
        tasks: at most so many tasks.
        seeds: at most so many selections of images of every task.
        shots: support images of an episode, those of the training by default.

    Raises:
        UserError: when the data cannot be used.
    """
    data = candidate.model.config.data
    protocol = standard_protocol(
        store,
        list_episodes(store, split),
        tasks=tasks,
        seeds=seeds,
        shots=shots or data.shots,
        image_size=data.image_size,
        channels=data.channels,
        network=f"{candidate.folder}/{NETWORK}",
        known=networks_of(candidate.model, candidate.system.url),
    )
    [(evaluation, _)] = evaluate_models(protocol, [candidate], None, {}, runner)
    return evaluation

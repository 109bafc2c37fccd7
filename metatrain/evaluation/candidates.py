"""The models to evaluate: their files and names, their jobs, and the evaluation of each."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from metatrain.base.errors import UserError
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.episode_list import benchmark_name
from metatrain.evaluation.given_files import keep_given
from metatrain.evaluation.protocol import JOINT, SCRATCH, UNADAPTED, Protocol, ScoredSystem
from metatrain.evaluation.results import Evaluation, write_evaluation
from metatrain.evaluation.running.jobs import (
    JobOutput,
    System,
    from_scratch,
    read_outputs,
    system_at,
)
from metatrain.evaluation.running.runner import Runner, run_jobs
from metatrain.evaluation.scores.baselines import COPY, JITTERED, REAL
from metatrain.evaluation.strip_files import keep_strips
from metatrain.model.model import Model
from metatrain.model.places import home_of
from metatrain.storage.files import MissingError, absolute, read_file
from metatrain.training.run_data import RUN_MANIFEST


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model to evaluate.

    Attributes:
        name: its name in tables.
        system: its file.
        model: the content of the file.
        folder: the folder of its evaluation; before `with_folders`, that of its file.
        native: whether it was trained on the training tasks of the data set to evaluate on.
    """

    name: str
    system: System
    model: Model
    folder: str
    native: bool = False


def read_candidates(urls: Sequence[str], *, trust: bool = False) -> list[Candidate]:
    """Read the models at `urls`, and give each a name of its own.

    Raises:
        UntrustedError: see `load_model`.
        UserError: when one cannot be read.
    """
    candidates: list[Candidate] = []
    taken = {COPY, JITTERED, REAL, UNADAPTED, SCRATCH, JOINT}
    for url in urls:
        system, model = system_at(url, trust=trust)
        name = model.config.run.name
        if name in taken:
            name = f"{name} ({url})"
        taken.add(name)
        folder = home_of(url)
        candidates.append(Candidate(name=name, system=system, model=model, folder=folder))
    return candidates


def with_folders(
    candidates: Sequence[Candidate], store: EpisodeStore, out: str | None
) -> list[Candidate]:
    """Return the candidates with the folders of their evaluations on the data set in `store`.

    By default that is `evaluation` beside each model, with the data's label appended if the model
    was trained on other data. With `out` it is that folder, or one in it for each of several.

    Raises:
        UserError: when the data has images of other bits than a model takes.
    """
    placed = []
    for i, candidate in enumerate(candidates):
        store.refuse_other_bits(candidate.model.config.data.bits)
        native = _trained_on(candidate, store)
        name = "evaluation" if native else f"evaluation-{data_label(store)}"
        folder = f"{candidate.folder}/{name}"
        if out:
            folder = out if len(candidates) == 1 else f"{out}/{i:02d}"
        placed.append(replace(candidate, folder=folder, native=native))
    return placed


def data_label(store: EpisodeStore) -> str:
    """Return a label of the data set, different from that of any other with the same name."""
    return f"{benchmark_name(store)}-{store.fingerprint[:8]}"


def shared_folder(candidates: Sequence[Candidate]) -> str:
    """Return the folder of what all candidates share: that of a native one, if there is any."""
    return next((c.folder for c in candidates if c.native), candidates[0].folder)


def _trained_on(candidate: Candidate, store: EpisodeStore) -> bool:
    """Compare the data's location with the training data's, or else its manifest with the run's."""
    url = candidate.model.config.data.url
    if url is None:
        return False
    # As texts: to open a file system that a stranger's model names may already connect to a host.
    if absolute(url).rstrip("/") == absolute(store.url).rstrip("/"):
        return True
    with suppress(MissingError):
        manifest = read_file(f"{candidate.folder}/{RUN_MANIFEST}")
        return hashlib.sha256(manifest).hexdigest() == store.fingerprint
    return False


def read_joint(url: str, *, trust: bool = False) -> Candidate:
    """Read the jointly trained model at `url`, a baseline.

    Raises:
        UntrustedError: see `load_model`.
        UserError: when it cannot be read, or was trained by another learner.
    """
    system, model = system_at(url, trust=trust)
    if model.config.learner.name != "joint":
        raise UserError(
            f"{url} was trained by learner {model.config.learner.name}; give a model that was "
            f"trained by learner joint as the baseline."
        )
    return Candidate(name=JOINT, system=system, model=model, folder="")


def check_same_shape(candidates: Sequence[Candidate]) -> None:
    """Check that all models sample images of one size with the same channels.

    Raises:
        UserError: when they do not.
    """
    first, *others = candidates
    expected = first.model.config.data
    for other in others:
        data = other.model.config.data
        if (data.image_size, data.channels) != (expected.image_size, expected.channels):
            raise UserError(
                f"'{other.name}' samples {data.image_size} pixels with {data.channels} channels, "
                f"and '{first.name}' {expected.image_size} with {expected.channels}; evaluate "
                f"them separately."
            )


def evaluate_models(
    protocol: Protocol,
    candidates: Sequence[Candidate],
    joint: Candidate | None,
    others: dict[str, ScoredSystem],
    runner: Runner,
) -> Iterator[tuple[Evaluation, dict[str, ScoredSystem]]]:
    """Run the jobs of all models, then score and write one model after the other.

    Args:
        protocol: the episodes and the scores.
        candidates: the models.
        joint: the jointly trained baseline, if there is one.
        others: systems that are scored already.
        runner: runs the jobs.

    Yields:
        For each candidate its evaluation, and the systems of that.
    """
    home = shared_folder(candidates)
    jobs = [_CandidateJobs(protocol, candidate, home) for candidate in candidates]
    joint_jobs = protocol.jobs(joint.system, home) if joint else []
    run_jobs([*joint_jobs, *(job for j in jobs for job in (*j.trained, *j.scratch))], runner)
    if joint:
        outputs = read_outputs(joint_jobs)
        others = {JOINT: protocol.score_model(JOINT, joint.model, joint.system, outputs), **others}
    for candidate, its in zip(candidates, jobs, strict=True):
        outputs = read_outputs(its.trained)
        systems = {
            UNADAPTED: protocol.score_unadapted(outputs),
            SCRATCH: protocol.score_model(
                SCRATCH, candidate.model, its.untrained, read_outputs(its.scratch)
            ),
            **others,
        }
        yield _evaluate(protocol, candidate, outputs, systems)


def _evaluate(
    protocol: Protocol,
    candidate: Candidate,
    outputs: Sequence[JobOutput],
    others: dict[str, ScoredSystem],
) -> tuple[Evaluation, dict[str, ScoredSystem]]:
    name, model, system = candidate.name, candidate.model, candidate.system
    scored = protocol.score_model(name, model, system, outputs)
    systems = protocol.with_baselines({**others, name: scored})
    evaluation = protocol.evaluation(
        name,
        systems,
        protocol.final_samples(outputs),
        folder=candidate.folder,
        outer_steps=model.step,
        quality=protocol.expectation_quality(model, system, outputs),
        members=protocol.membership(outputs),
    )
    keep_strips(protocol.benchmark, outputs, candidate.folder)
    keep_given(protocol.store, protocol.benchmark, model.config, candidate.folder)
    write_evaluation(evaluation, {n: s.scores for n, s in systems.items()}, candidate.folder)
    return evaluation, systems


class _CandidateJobs:
    """The jobs of a candidate, and those of its generator from scratch.

    The outputs of the latter go to `home`, where candidates of one configuration share them.
    """

    def __init__(self, protocol: Protocol, candidate: Candidate, home: str) -> None:
        self.untrained = from_scratch(candidate.system, candidate.model)
        self.trained = protocol.jobs(candidate.system, candidate.folder)
        self.scratch = protocol.jobs(self.untrained, home)

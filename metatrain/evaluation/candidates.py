"""Evaluating models: what each has to do, what each got, and what is kept of it."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from metatrain.base.errors import UserError
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.episode_list import benchmark_of
from metatrain.evaluation.protocol import JOINT, SCRATCH, UNADAPTED, Entrant, Protocol
from metatrain.evaluation.results import Evaluation, write_evaluation
from metatrain.evaluation.running.jobs import System, from_scratch, outcomes, system_at
from metatrain.evaluation.running.runner import Runner, do_all
from metatrain.evaluation.scores.baselines import COPY, JITTERED, REAL
from metatrain.evaluation.strip_files import keep_strips
from metatrain.model.file import Model
from metatrain.storage.files import MissingError, filesystem_of, read_file
from metatrain.training.run_data import RUN_MANIFEST


@dataclass(frozen=True)
class Candidate:
    """A model to evaluate.

    Attributes:
        name: what it is called in tables.
        system: its file.
        model: what is in that.
        folder: where its evaluation goes; until it is placed, the folder of its file.
        native: whether it was trained on the training tasks of what it is evaluated on.
    """

    name: str
    system: System
    model: Model
    folder: str
    native: bool = False


def read_candidates(urls: Sequence[str]) -> list[Candidate]:
    """The models at `urls`, each with a name of its own.

    Raises:
        UserError: when one cannot be read.
    """
    candidates: list[Candidate] = []
    taken = {COPY, JITTERED, REAL, UNADAPTED, SCRATCH, JOINT}
    for url in urls:
        system, model = system_at(url)
        name = model.config.run.name
        if name in taken:
            name = f"{name} ({url})"
        taken.add(name)
        candidates.append(Candidate(name, system, model, system.url.rpartition("/")[0] or "."))
    return candidates


def placed(
    candidates: Sequence[Candidate], store: EpisodeStore, out: str | None
) -> list[Candidate]:
    """The candidates with the folders that their evaluations on the data set in `store` go to.

    To `evaluation` beside each, and with the data's label behind it where the model was trained on
    other data; or to `out`, or if there are several, to ones in it.
    """
    found = []
    for i, candidate in enumerate(candidates):
        native = _trained_on(candidate, store)
        name = "evaluation" if native else f"evaluation-{label_of(store)}"
        folder = f"{candidate.folder}/{name}"
        if out:
            folder = out if len(candidates) == 1 else f"{out}/{i:02d}"
        found.append(replace(candidate, folder=folder, native=native))
    return found


def label_of(store: EpisodeStore) -> str:
    """Tells the data set in `store` from all others, also from those in a folder of its name."""
    return f"{benchmark_of(store)}-{store.fingerprint[:8]}"


def home_of(candidates: Sequence[Candidate]) -> str:
    """The folder of what all candidates share: that of one that was trained there, if any was."""
    return next((c.folder for c in candidates if c.native), candidates[0].folder)


def _trained_on(candidate: Candidate, store: EpisodeStore) -> bool:
    """By where the data lies, or, where it was moved, by what the run kept of it."""
    url = candidate.model.config.data.url
    if url is None:
        return False
    trained, here = filesystem_of(url), filesystem_of(store.url)
    if trained[1] == here[1] and type(trained[0]) is type(here[0]):
        return True
    with suppress(MissingError):
        manifest = read_file(f"{candidate.folder}/{RUN_MANIFEST}")
        return hashlib.sha256(manifest).hexdigest() == store.fingerprint
    return False


def read_joint(url: str) -> Candidate:
    """The model at `url`, that was trained jointly, as a baseline.

    Raises:
        UserError: when it cannot be read, or was trained otherwise.
    """
    system, model = system_at(url)
    if model.config.learner.name != "joint":
        raise UserError(
            f"{url} was trained by learner {model.config.learner.name}; --joint wants one that was "
            f"trained by learner joint."
        )
    return Candidate(JOINT, system, model, "")


def check_same_images(candidates: Sequence[Candidate]) -> None:
    """That all models draw images of one size.

    Raises:
        UserError: when they do not.
    """
    first, *others = candidates
    wanted = first.model.config.data
    for other in others:
        data = other.model.config.data
        if (data.image_size, data.channels) != (wanted.image_size, wanted.channels):
            raise UserError(
                f"'{other.name}' draws {data.image_size} pixels with {data.channels} channels, and "
                f"'{first.name}' {wanted.image_size} with {wanted.channels}; evaluate them apart."
            )


def evaluate_models(
    protocol: Protocol,
    candidates: Sequence[Candidate],
    joint: Candidate | None,
    others: dict[str, Entrant],
    runner: Runner,
) -> Iterator[tuple[Evaluation, dict[str, Entrant]]]:
    """Have all models adapt and draw, then score them one after the other.

    Args:
        protocol: the episodes and the scores.
        candidates: the models.
        joint: the jointly trained baseline, if there is one.
        others: systems that have been scored already.
        runner: who does the work.

    Yields:
        For each candidate what was written of it, and the systems that it compares.
    """
    home = home_of(candidates)
    works = [_Works(protocol, candidate, home) for candidate in candidates]
    joints = protocol.works(joint.system, home) if joint else []
    do_all([*joints, *(piece for w in works for piece in (*w.own, *w.scratch))], runner)
    if joint:
        drawn = outcomes(joints)
        others = {JOINT: protocol.model(JOINT, joint.model, joint.system, drawn), **others}
    for candidate, of in zip(candidates, works, strict=True):
        name, model, drawn = candidate.name, candidate.model, outcomes(of.own)
        entrants = {
            UNADAPTED: protocol.unadapted(drawn),
            SCRATCH: protocol.model(SCRATCH, model, of.untrained, outcomes(of.scratch)),
            **others,
            name: protocol.model(name, model, candidate.system, drawn),
        }
        entrants = protocol.beside(entrants)
        evaluation = protocol.evaluation(
            name,
            model.step,
            entrants,
            protocol.adapted(drawn),
            candidate.folder,
            protocol.foresight(model, candidate.system, drawn),
        )
        keep_strips(protocol.benchmark, drawn, candidate.folder)
        write_evaluation(evaluation, {n: e.scores for n, e in entrants.items()}, candidate.folder)
        yield evaluation, entrants


class _Works:
    """What a candidate has to do, and what its generator from scratch has.

    The latter's outcomes go to `home`, where candidates of one configuration share them.
    """

    def __init__(self, protocol: Protocol, candidate: Candidate, home: str) -> None:
        self.untrained = from_scratch(candidate.system, candidate.model)
        self.own = protocol.works(candidate.system, candidate.folder)
        self.scratch = protocol.works(self.untrained, home)

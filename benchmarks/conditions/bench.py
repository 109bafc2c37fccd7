"""The bench: tasks with their captions, and what scores samples of them."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.conditions.judge import Judge
from benchmarks.conditions.picture import picture
from benchmarks.conditions.systems import NO_WORDS, Sampler, Told
from benchmarks.conditions.table import Row, table
from benchmarks.provenance import commit, hardware
from metatrain.base.progress import tracked
from metatrain.data.conditions.text import TextConfig
from metatrain.data.episodes import Episode
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.scores.statistics import Score, mean_of, score
from metatrain.evaluation.standard_protocol import standard_protocol
from metatrain.evaluation.training_data import data_for
from metatrain.generators.conditions.words import WordsConfig
from metatrain.metrics.network import NETWORK
from metatrain.model.model import Model
from metatrain.model.places import model_url
from metatrain.storage.files import write_file

CANDIDATES = 100


class Bench:
    """The tasks with their captions, and the judges.

    Args:
        model: the model that is measured.
        column: the data set's column of captions.
        options: the arguments of the command.

    Raises:
        UserError: when the data set has no such column, or cannot be read.
    """

    def __init__(self, model: Model, column: str, options: argparse.Namespace) -> None:
        settings = model.config.data
        store = EpisodeStore(data_for(model, options.data, model_url(options.model)))
        reader = ClassReader(store, settings.image_size, settings.channels, {column: TextConfig()})
        protocol = standard_protocol(
            store,
            list_episodes(store, "test"),
            tasks=options.tasks,
            seeds=1,
            shots=max(options.shots),
            network=f"{options.out}/{NETWORK}",
            image_size=settings.image_size,
            channels=settings.channels,
        )
        tasks = {task.name: task for task in store.tasks("test")}
        self.tasks = [entry.task for entry in protocol.benchmark.episodes.episodes]
        self.episodes: list[Episode] = [
            reader.read(entry.plan(tasks[entry.task], max(options.shots)))
            for entry in protocol.benchmark.episodes.episodes
        ]
        self.captions = [str(episode.support.given[column][0]) for episode in self.episodes]
        others = (
            str(reader.examples(name, [(task, 0)]).given[column][0]) for name, task in tasks.items()
        )
        self._candidates = list(dict.fromkeys([*self.captions, *others]))[:CANDIDATES]
        self._scorer, self._real = protocol.scorer, protocol.benchmark.held_out[0]
        words = WordsConfig(path=options.words)
        self._judge = Judge(store, reader, column, words, protocol.spaces[:2])
        self._model, self._options = model, options

    def measure(
        self,
        condition: str,
        values: Mapping[str, Sequence[str]],
        systems: Sequence[Told],
        shown: Sequence[Told],
    ) -> None:
        """Sample what is missing; write and print the table, and write the picture.

        Args:
            condition: the name of the model's condition.
            values: by what is told, the condition of each task.
            systems: what is measured; of those without images, the first is the base.
            shown: of these, the columns of the picture.
        """
        options = self._options
        sampler = Sampler(
            self._model,
            condition,
            self.episodes,
            values,
            count=options.samples,
            steps=options.steps,
            folder=Path(options.out, "samples", self._model.sha256[:12]),
        )
        cells = [(told, task) for told in systems for task in range(len(self.episodes))]
        images: dict[Told, list[Tensor]] = {told: [] for told in systems}
        for told, task in tracked("sampling", cells, len(cells)):
            images[told].append(sampler.sample(told, task))
        rows = [self.row("held-out real images", self._real)]
        rows += [self.row(told.name, torch.stack(images[told])) for told in systems]
        facts = f"{len(self.episodes)} tasks, {options.samples} samples of each, {options.steps}"
        text = table(rows, (NO_WORDS, systems[0].words))
        text += f"\n\n{facts} inner steps; {hardware()}, commit {commit()}"
        write_file(f"{options.out}/table.md", f"{text}\n".encode())
        columns = {told.name: images[told] for told in shown}
        supports = [episode.support.target for episode in self.episodes]
        picture(self.captions, supports, columns).save(f"{options.out}/samples.png", optimize=True)
        print(text)

    def row(self, name: str, images: Tensor) -> Row:
        """Score a system's samples [T, N, C, H, W]."""
        fits = self._judge.fit(images, self._candidates)
        places = [self._candidates.index(caption) for caption in self.captions]
        scores = self._scorer.curve_scores(images[None])
        found = caption_found(fits, places)
        return Row(name, *found, kid=scores["kid"], own_task=scores["own_task"])


def caption_found(fits: Tensor, places: Sequence[int]) -> list[Score]:
    """Score how well the captions of images are found among all candidates.

    Args:
        fits: how well each of L captions fits each of N images of T tasks, [T, N, L].
        places: of each task's own caption among the L.

    Returns:
        The shares of images whose own caption is first, and among the first five, and the mean
        share of the other captions that fit worse.
    """
    own = fits.gather(2, torch.tensor(places)[:, None, None].expand(-1, fits.shape[1], 1))
    better = (fits > own).sum(dim=-1).double()
    shares = [(better < 1).double(), (better < 5).double(), 1 - better / (fits.shape[2] - 1)]
    return [score(mean_of(share.mean(dim=1)), len(fits)) for share in shares]


def another(values: Sequence[str]) -> list[str]:
    """Give each task the value of another, half of all tasks further on."""
    half = len(values) // 2
    return [*values[half:], *values[:half]]


def parser_of(description: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that every measure has."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model, or the folder of a run")
    add("--out", required=True, help="folder to write; the same again resumes")
    add("--data", help="the data set (that of the model's training)")
    add("--tasks", type=int, default=60, help="at most so many tasks (60)")
    add("--shots", type=int, nargs="+", default=[1, 3], help="numbers of images given (1 3)")
    add("--samples", type=int, default=4, help="samples of a task (4)")
    add("--steps", type=int, default=48, help="inner steps (48)")
    add("--words", default="wordllama", help="the judge's table of word vectors (wordllama's)")
    add("--threads", type=int, default=1)
    return parser

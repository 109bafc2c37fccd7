"""The benefit of words: a model given 0, 1 or 3 images, and no words, the right or wrong ones.

    python -m benchmarks.conditions MODEL --out DIR [--language de]

On the first tasks of the split test: whether a judge that was trained on the training tasks alone
finds the right caption of a sample among 100 captions, and the usual scores of images. Wrong words
are those of another task; where they hurt nothing, a model ignores words. Samples are kept under
--out, so that the same command resumes; it ends in a table and a picture there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.commands import resumable
from benchmarks.conditions.judge import Judge
from benchmarks.conditions.languages import translated
from benchmarks.conditions.picture import picture
from benchmarks.conditions.systems import NO_WORDS, RIGHT, WRONG, Sampler, Told, systems_of
from benchmarks.conditions.table import Row, table
from benchmarks.provenance import commit, hardware
from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.data.episodes import Episode
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.scores.measure import Scorer
from metatrain.evaluation.scores.statistics import Score, mean_of, score
from metatrain.evaluation.standard_protocol import standard_protocol
from metatrain.evaluation.training_data import data_for
from metatrain.generators.conditions.sections import WordsConfig
from metatrain.metrics.network import NETWORK
from metatrain.model.file import load_model
from metatrain.model.given import condition_of_kind
from metatrain.model.model import Model
from metatrain.model.places import model_url
from metatrain.storage.files import write_file

CANDIDATES = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Sample what is missing, and write the table and the picture."""
    options = _parse(argv)
    torch.set_num_threads(options.threads)
    return resumable(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    model = load_model(options.model, trust=True)
    bench = Bench(model, data_for(model, options.data, model_url(options.model)), options)
    systems = systems_of(options.shots, options.language)
    cells = [(told, task) for told in systems for task in range(len(bench.episodes))]
    images: dict[Told, list[Tensor]] = {told: [] for told in systems}
    for told, task in tracked("sampling", cells, len(cells)):
        images[told].append(bench.sampler.sample(told, task))
    rows = [bench.held_out(), *(bench.row(t.name, torch.stack(images[t])) for t in systems)]
    facts = f"{len(bench.episodes)} tasks, {options.samples} samples of each, {options.steps} inner"
    text = f"{table(rows)}\n\n{facts} steps; {hardware()}, commit {commit()}"
    write_file(f"{options.out}/table.md", f"{text}\n".encode())
    shown = [Told(0, RIGHT), *(Told(options.shots[-1], w) for w in (NO_WORDS, RIGHT, WRONG))]
    columns = {told.name: images[told] for told in shown}
    supports = [episode.support.target for episode in bench.episodes]
    picture(bench.captions, supports, columns).save(f"{options.out}/samples.png", optimize=True)
    print(text)


class Bench:
    """The tasks with their captions, the systems' sampler, and the judges.

    Args:
        model: a model with a condition of the kind text.
        data: URL of the data set.
        options: the arguments of the command.

    Raises:
        UserError: when the model has no such condition, or the data no captions.
    """

    def __init__(self, model: Model, data: str, options: argparse.Namespace) -> None:
        settings, condition = model.config.data, condition_of_kind("text", model.config)
        store = EpisodeStore(data)
        kinds = {condition: settings.conditions[condition]}
        reader = ClassReader(store, settings.image_size, settings.channels, kinds)
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
        self.episodes: list[Episode] = [
            reader.read(entry.plan(tasks[entry.task], max(options.shots)))
            for entry in protocol.benchmark.episodes.episodes
        ]
        self.captions = [str(episode.support.given[condition][0]) for episode in self.episodes]
        others = (
            str(reader.examples(name, [(task, 0)]).given[condition][0])
            for name, task in tasks.items()
        )
        self._candidates = list(dict.fromkeys([*self.captions, *others]))[:CANDIDATES]
        self._scorer, self._real = protocol.scorer, protocol.benchmark.held_out[0]
        words = WordsConfig(path=options.words)
        self._judge = Judge(store, reader, condition, words, protocol.spaces[:2])
        told = {RIGHT: self.captions, WRONG: _turned(self.captions)}
        told |= {name: _in_language(self.captions, name) for name in options.language}
        self.sampler = Sampler(
            model,
            condition,
            self.episodes,
            told,
            count=options.samples,
            steps=options.steps,
            folder=Path(options.out, "samples", model.sha256[:12]),
        )

    def held_out(self) -> Row:
        """Score the held-out real images, a perfect generator's."""
        return self.row("held-out real images", self._real)

    def row(self, name: str, images: Tensor) -> Row:
        """Score a system's samples [T, N, C, H, W]."""
        fits = self._judge.fit(images, self._candidates)
        places = [self._candidates.index(caption) for caption in self.captions]
        return Row(name, *caption_found(fits, places), **_usual(self._scorer, images))


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


def _usual(scorer: Scorer, images: Tensor) -> dict[str, Score]:
    scores = scorer.curve_scores(images[None])
    return {"kid": scores["kid"], "own_task": scores["own_task"]}


def _turned(captions: Sequence[str]) -> list[str]:
    """Give each task the caption of another, half of all tasks further on."""
    half = len(captions) // 2
    return [*captions[half:], *captions[:half]]


def _in_language(captions: Sequence[str], language: str) -> list[str]:
    translations = translated(language)
    missing = [caption for caption in captions if caption not in translations]
    if missing:
        raise UserError(
            f"'{missing[0]}' is no caption of an emoji that has one in '{language}'; "
            f"leave --language out for other data than emoji."
        )
    return [translations[caption] for caption in captions]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What words add to images.")
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model, or the folder of a run")
    add("--out", required=True, help="folder to write; the same again resumes")
    add("--data", help="the data set (that of the model's training)")
    add("--tasks", type=int, default=60, help="at most so many tasks (60)")
    add("--shots", type=int, nargs="+", default=[1, 3], help="numbers of images given (1 3)")
    add("--samples", type=int, default=4, help="samples of a task (4)")
    add("--steps", type=int, default=48, help="inner steps (48)")
    add("--words", default="wordllama", help="the judge's table of word vectors (wordllama's)")
    add("--language", nargs="*", default=[], help="further languages of the words, such as de")
    add("--threads", type=int, default=1)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

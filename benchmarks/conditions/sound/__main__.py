"""The benefit of a sound: a model given 0, 1, 3 or 5 digits of a typeface, and a spoken digit.

    python -m benchmarks.conditions.sound MODEL --recordings RECORDINGS --out DIR

On typefaces of the split test: whether a classifier of digits, trained on the typefaces of
training alone, reads the digit that is spoken in what the model draws, and the usual scores of
images. The sound is of the digit that is asked for, or of another, by speakers that training heard
or by one that it never did; all recordings are new. Samples are kept under --out, so that the same
command resumes; it ends in a table and a picture there. `data` beside this file makes the data set.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import classifier
from benchmarks.commands import resumable
from benchmarks.conditions.sound.picture import picture
from benchmarks.conditions.sound.recordings import DIGITS, read_recordings
from benchmarks.conditions.sound.specimens import (
    ASKED,
    Specimen,
    digit_reader,
    specimen,
    whole_task,
)
from benchmarks.conditions.sound.systems import Heard, Sampler, systems_of
from benchmarks.conditions.sound.table import Row, table
from benchmarks.provenance import commit, hardware
from metatrain.base.progress import tracked
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.augmented import Augmentation
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.scores.measure import Scorer
from metatrain.evaluation.scores.statistics import Score, mean_of, score
from metatrain.evaluation.training_data import data_for
from metatrain.metrics.network import NETWORK, metric_network
from metatrain.model.file import load_model
from metatrain.model.given import condition_of_kind
from metatrain.model.places import model_url
from metatrain.storage.files import write_file

# Typefaces differ in the place and slope of digits by about as much.
_VIEWS = Augmentation(shift=0.05, scale=0.1, turn=5, flip=False, colour=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Sample what is missing, and write the table and the picture."""
    options = _parse(argv)
    torch.set_num_threads(options.threads)
    return resumable(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    model = load_model(options.model, trust=True)
    condition = condition_of_kind("audio", model.config)
    data = data_for(model, options.data, model_url(options.model))
    bench = Bench(EpisodeStore(data), model.config.data.image_size, options)
    sampler = Sampler(
        model,
        condition,
        steps=options.steps,
        guidance=options.guidance,
        folder=Path(options.out, "samples", model.sha256[:12]),
    )
    images: dict[Heard, list[Tensor]] = {heard: [] for heard in systems_of(options.shots)}
    cells = [(k, one) for one in bench.specimens for k in (0, *options.shots)]
    for k, one in tracked("sampling", cells, len(cells)):
        systems = [heard for heard in images if heard.images == k]
        for heard, samples in sampler.sample(systems, one).items():
            images[heard].append(samples)
    rows = {heard: bench.row(torch.stack(images[heard]), heard) for heard in images}
    facts = f"{len(bench.specimens)} typefaces, {ASKED} digits of each, {options.steps} inner"
    facts += f" steps, guidance {options.guidance:g} by the sound"
    text = f"{table(bench.real(), rows)}\n\n{facts}; {hardware()}, commit {commit()}"
    write_file(f"{options.out}/table.md", f"{text}\n".encode())
    picture(bench.specimens, images).save(f"{options.out}/samples.png", optimize=True)
    print(text)


class Bench:
    """The typefaces of the test, and what scores drawings of their digits.

    Args:
        store: the data set, with the condition `digit`.
        size: height and width of the images.
        options: the arguments of the command.

    Raises:
        UserError: when the data set or the recordings cannot be used.
    """

    def __init__(self, store: EpisodeStore, size: int, options: argparse.Namespace) -> None:
        reader, spoken = digit_reader(store, size), read_recordings(Path(options.recordings))
        episodes = list_episodes(store, "test").first(options.tasks, 1)
        tasks = {task.name: task for task in store.tasks("test")}
        self.specimens: list[Specimen] = [
            specimen(reader, tasks[name], number, spoken)
            for number, name in enumerate(episodes.tasks)
        ]
        benchmark = Benchmark(
            episodes=episodes,
            support=self._stacked("given"),
            reference=self._stacked("real"),
            held_out=self._stacked("moved"),
        )
        network = f"{options.out}/{NETWORK}"
        space = metric_network(store, network, image_size=size, channels=1)
        self._scorer, self._held_out = Scorer(benchmark, [space]), benchmark.held_out[0]
        self._classifier = _classifier(store, reader, options.classifier_steps)

    def real(self) -> Row:
        """Score the real images, moved by a pixel: what a perfect generator's would have."""
        return self.row(self._held_out, None)

    def row(self, images: Tensor, heard: Heard | None) -> Row:
        """Score a system's samples [T, 5, 1, H, W]."""
        with torch.no_grad():
            read = self._classifier(images.flatten(0, 1)).argmax(dim=1).view(images.shape[:2])
        sound = [heard.spoken(one) for one in self.specimens] if heard else [""]
        scores = self._scorer.curve_scores(images[None])
        return Row(
            spoken=agreement(read, sound) if sound[0] else None,
            asked=agreement(read, [one.asked for one in self.specimens]),
            kid=scores["kid"],
            own_task=scores["own_task"],
        )

    def _stacked(self, name: str) -> Tensor:
        return torch.stack([getattr(one, name) for one in self.specimens])[None]


def _classifier(store: EpisodeStore, reader: ClassReader, steps: int) -> nn.Module:
    """Train a classifier of digits on the typefaces of training."""
    images, labels = [], []
    tasks = store.tasks("train")
    for task in tracked("reading digits", tasks, len(tasks)):
        examples, digits = whole_task(reader, task)
        images.append(examples.target)
        labels += map(DIGITS.index, digits)
    return classifier.trained(
        torch.cat(images),
        torch.tensor(labels),
        classes=len(DIGITS),
        steps=steps,
        seed=0,
        augmentation=_VIEWS,
    )


def agreement(read: Tensor, digits: Sequence[str]) -> Score:
    """Score the share of images [T, 5] that read as the digit of each."""
    wanted = torch.tensor([[DIGITS.index(digit) for digit in of_one] for of_one in digits])
    return score(mean_of((read == wanted).double().mean(dim=1)), len(read))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What a sound adds to images.")
    add = parser.add_argument
    add("model", metavar="MODEL", help="a model, or the folder of a run")
    add("--recordings", required=True, help="folder of DIGIT_SPEAKER_TAKE.wav, that of the data")
    add("--out", required=True, help="folder to write; the same again resumes")
    add("--data", help="the data set (that of the model's training)")
    add("--tasks", type=int, default=40, help="at most so many typefaces (40)")
    add("--shots", type=int, nargs="+", default=[1, 3, 5], help="numbers of images (1 3 5)")
    add("--steps", type=int, default=24, help="inner steps (24)")
    add("--guidance", type=float, default=1.0, help="by the sound (1, none)")
    add("--classifier-steps", type=int, default=1500)
    add("--threads", type=int, default=1)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

"""The systems: a model that is given images, words, both, or the words of something else."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from metatrain.data.episodes import Episode
from metatrain.data.pictures import from_uint8, to_uint8
from metatrain.model.model import Model
from metatrain.storage.files import read_file, write_file

NO_WORDS, RIGHT, WRONG = "no words", "its words", "wrong words"


@dataclass(frozen=True, order=True)
class Told:
    """A description of what a model is told of a task.

    Attributes:
        images: number of images given; 0 samples without adapting.
        words: `NO_WORDS`, or whose words and how, such as `RIGHT`, `WRONG` or a language.
    """

    images: int
    words: str

    @property
    def name(self) -> str:
        """The system's name in tables and files."""
        if not self.images:
            return f"0 images, {self.words}"
        return f"{self.images} image{'s' if self.images > 1 else ''}, {self.words}"


def systems_of(shots: Sequence[int], words: Sequence[str]) -> list[Told]:
    """List the systems: with 0 images and each number of `shots`, by the words that are told."""
    told = [NO_WORDS, *words]
    return [Told(k, w) for k in (0, *shots) for w in told if k or w != NO_WORDS]


class Sampler:
    """A model that samples for each system and task, and keeps files, so that a command resumes.

    Args:
        model: a model with the condition.
        condition: the name of the captions' condition.
        episodes: of the tasks, with the captions of their images.
        captions: by what is told, the caption of each task, or the path of its sound.
        count: samples of a task.
        steps: inner steps of adapting.
        folder: of the files.
    """

    def __init__(
        self,
        model: Model,
        condition: str,
        episodes: Sequence[Episode],
        captions: Mapping[str, Sequence[str]],
        *,
        count: int,
        steps: int,
        folder: Path,
    ) -> None:
        self._model, self._condition, self._episodes = model, condition, episodes
        self._captions, self._count, self._steps = captions, count, steps
        self._folder = folder

    def sample(self, told: Told, task: int) -> Tensor:
        """Return samples [N, C, H, W] in [-1, 1] of the task with a number."""
        episode = self._episodes[task]  # another for this number with other --tasks or --shots
        given = [episode.task, len(episode.support), told.images, self._caption(told, task)]
        place = [*given, task, self._count, self._steps]
        name = hashlib.sha256(json.dumps(place).encode()).hexdigest()
        url = str(self._folder / f"{name}.safetensors")
        if not Path(url).exists():
            write_file(url, save({"images": to_uint8(self._sampled(told, task))}))
        return from_uint8(load(read_file(url))["images"])

    def _caption(self, told: Told, task: int) -> str | None:
        return None if told.words == NO_WORDS else self._captions[told.words][task]

    def _sampled(self, told: Told, task: int) -> Tensor:
        caption, episode = self._caption(told, task), self._episodes[task]
        given = {} if caption is None else {self._condition: caption}
        model = self._model
        if told.images:
            images = episode.support.target[: told.images]
            model = model.adapt(
                images, given=given, steps=self._steps, seed=task, value_range=(-1, 1)
            )
        return model.sample(self._count, given=given, seed=task).cpu()

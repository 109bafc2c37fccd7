"""The systems: a model that is given images, a sound, both, or the sound of another digit."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from benchmarks.conditions.sound.recordings import Recording
from benchmarks.conditions.sound.specimens import ASKED, SEEN, UNSEEN, Specimen
from metatrain.data.pictures import from_uint8, to_uint8
from metatrain.model.model import Model
from metatrain.storage.files import read_file, write_file

NO_SOUND, RIGHT, WRONG = "no sound", "its sound", "another's sound"


@dataclass(frozen=True)
class Heard:
    """A description of what a model is given of a digit.

    Attributes:
        images: number of other digits given; 0 samples without adapting.
        sound: `NO_SOUND`, `RIGHT` or `WRONG`.
        speaker: whose sound it is, `SEEN` or `UNSEEN`; of no sound SEEN.
    """

    images: int
    sound: str = NO_SOUND
    speaker: str = SEEN

    @property
    def name(self) -> str:
        """The system's name in tables and files."""
        given = f"{self.images} image{'s' if self.images != 1 else ''}, {self.sound}"
        return given if self.sound == NO_SOUND else f"{given}, {self.speaker}"

    def sounds(self, one: Specimen) -> Sequence[Recording]:
        """Return a recording for each digit that is asked for; none where there is no sound."""
        if self.sound == NO_SOUND:
            return ()
        of_asked = one.sounds[self.speaker]
        return of_asked if self.sound == RIGHT else [*of_asked[1:], of_asked[0]]

    def spoken(self, one: Specimen) -> str:
        """Return the digit that is spoken for each that is asked for."""
        return "".join(recording.digit for recording in self.sounds(one))


def systems_of(shots: Sequence[int]) -> list[Heard]:
    """List the systems: with 0 images and each number of `shots`, by the sounds that are heard."""
    return [
        heard
        for images in (0, *shots)
        for heard in (
            *([Heard(images)] if images else []),
            *(Heard(images, sound, who) for sound in (RIGHT, WRONG) for who in (SEEN, UNSEEN)),
        )
    ]


class Sampler:
    """A model that samples for each system and typeface, and keeps files, to resume from.

    Args:
        model: a model with the condition.
        condition: the name of the sounds' condition.
        steps: inner steps of adapting.
        guidance: strength of the guidance by a sound; 1 is none.
        folder: of the files.
    """

    def __init__(
        self, model: Model, condition: str, *, steps: int, guidance: float, folder: Path
    ) -> None:
        self._model, self._condition, self._folder = model, condition, folder
        self._steps, self._guidance = steps, {condition: guidance}

    def sample(self, systems: Sequence[Heard], one: Specimen) -> dict[Heard, Tensor]:
        """Return a sample of each asked digit [5, 1, H, W] by systems of as many images."""
        content = [one.given.numpy().tobytes(), *(r.path.read_bytes() for r in _all_sounds(one))]
        names = [heard.name for heard in systems]
        place = [systems[0].images, one.number, self._steps, self._guidance, names]
        name = hashlib.sha256(b"".join([json.dumps(place).encode(), *content])).hexdigest()
        url = str(self._folder / f"{name}.safetensors")
        if not Path(url).exists():
            samples = self._sampled(systems, one)
            write_file(url, save({heard.name: to_uint8(samples[heard]) for heard in systems}))
        kept = load(read_file(url))
        return {heard: from_uint8(kept[heard.name]) for heard in systems}

    def _sampled(self, systems: Sequence[Heard], one: Specimen) -> dict[Heard, Tensor]:
        """Sample with the same noise for all systems."""
        samples: dict[Heard, Tensor] = {}
        adapted = {told: self._adapted(systems[0].images, one, told) for told in (True, False)}
        for heard in systems:
            sounds = [recording.path for recording in heard.sounds(one)]
            given = {self._condition: sounds} if sounds else {}
            model, guidance = adapted[bool(sounds)], self._guidance if sounds else None
            images = model.sample(ASKED, given=given, seed=one.number, guidance=guidance)
            samples[heard] = images.cpu()
        return samples

    def _adapted(self, images: int, one: Specimen, told: bool) -> Model:
        """Adapt to the first images, with their sounds if `told`."""
        if not images:
            return self._model
        sounds = [recording.path for recording in one.given_sounds[:images]]
        return self._model.adapt(
            one.given[:images],
            given={self._condition: sounds} if told else {},
            steps=self._steps,
            seed=one.number,
            value_range=(-1, 1),
        )


def _all_sounds(one: Specimen) -> list[Recording]:
    return [*one.given_sounds, *one.sounds[SEEN], *one.sounds[UNSEEN]]

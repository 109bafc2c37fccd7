"""A sound as a condition: packed as a wave, decoded as its log-mel spectrogram."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.data.conditions.kind import ConditionKind
from metatrain.data.conditions.sections import AudioConfig
from metatrain.data.sound.log_mel import FRAMES_PER_SECOND, HOP, MELS, scaled_log_mel
from metatrain.data.sound.reading import MOST_FILE_BYTES, read_sound
from metatrain.data.sound.wave import RATE, from_wave, to_wave

# Frames come in such groups, so that networks can halve their number thrice.
_GROUP = 8


class Audio(ConditionKind[AudioConfig]):
    """A sound, in a table as the path of a file; packed as a WAV of 16 kHz, one channel, 16 bits.

    A decoded value is 0 where there is silence, and 0 throughout where an example has no sound.
    """

    Config = AudioConfig
    is_file = True
    most_bytes = MOST_FILE_BYTES
    optional = True

    @override
    @classmethod
    def encode(cls, data: bytes, size: int | None, raw: bool) -> bytes:
        return to_wave(read_sound(data))

    @override
    def decode(self, values: Sequence[bytes]) -> Tensor:
        frames, _ = self.shape
        waves = torch.zeros(len(values), frames * HOP, dtype=torch.float64)
        for wave, value in zip(waves, values, strict=True):
            if value:
                samples = torch.from_numpy(from_wave(value)[: len(wave)])
                wave[: len(samples)] = samples
        return scaled_log_mel(waves)[:, :frames].float()

    @override
    def unread(self, value: bytes) -> str | None:
        seconds, most = len(from_wave(value)) / RATE, self.shape[0] / FRAMES_PER_SECOND
        if seconds <= most:
            return None
        return f"a sound of {seconds:.1f} s, of which the first {most:g} are heard"

    @property
    @override
    def shape(self) -> tuple[int, int]:
        groups = math.ceil(self.config.seconds * FRAMES_PER_SECOND / _GROUP)
        return _GROUP * groups, MELS

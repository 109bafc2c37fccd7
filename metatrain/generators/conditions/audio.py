"""The encoder of sounds: convolutions over the frames of a log-mel spectrogram."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from metatrain.data.sound.log_mel import MELS
from metatrain.generators.conditions.encoder import (
    ConditionEncoder,
    Tokens,
    place_embedding,
)
from metatrain.generators.conditions.sections import AudioEncoderConfig

_HALVINGS = 3
_LEAST_VARIANCE = 1e-4


class AudioEncoder(ConditionEncoder[AudioEncoderConfig]):
    """Convolutions that halve the frames thrice: a token for every 80 ms.

    Args:
        config: its size.
        token: channels of a token (T).
    """

    Config = AudioEncoderConfig

    def __init__(self, config: AudioEncoderConfig, token: int) -> None:
        super().__init__(config, token)
        widths = [MELS, *[config.width] * (_HALVINGS - 1), token]
        self.stages = nn.ModuleList(
            nn.Conv1d(a, b, 5, stride=2, padding=2) for a, b in pairwise(widths)
        )
        self.out = nn.Linear(token, token)

    @override
    def missing(self, count: int) -> Tensor:
        return torch.zeros(count, 2**_HALVINGS, MELS)

    @override
    def forward(self, values: Tensor) -> Tokens:
        """Encode spectrograms [B, frames, MELS]; frames are a multiple of 8, 0 is silence."""
        x = _standardised(values)
        for stage in self.stages:
            x = F.gelu(stage(x.transpose(1, 2)), approximate="tanh").transpose(1, 2)
            x = F.layer_norm(x, x.shape[2:])
        x = self.out(x + place_embedding(x.shape[1], x.shape[2], x))
        heard = (values > 0).any(dim=2).unflatten(1, (-1, 2**_HALVINGS)).any(dim=2)
        return Tokens(x, heard)


def _standardised(values: Tensor) -> Tensor:
    """Bring each sound [B, frames, MELS] to mean 0 and variance 1; silence stays 0.

    What all sounds share, such as loudness, otherwise outweighs what tells them apart.
    """
    heard = (values > 0).to(values.dtype)
    count = heard.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    mean = values.sum(dim=(1, 2), keepdim=True) / count
    centred = (values - mean) * heard
    variance = centred.square().sum(dim=(1, 2), keepdim=True) / count
    return centred * (variance + _LEAST_VARIANCE).rsqrt()

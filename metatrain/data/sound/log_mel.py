"""Log-mel spectrograms, as librosa 0.11 computes them with `pad_mode="constant"`.

McFee et al. 2015, "librosa: Audio and Music Signal Analysis in Python"; the mel scale and the
filters of equal area are those of Slaney 1998, "Auditory Toolbox".
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from metatrain.data.sound.wave import RATE

# A window of 25 ms every 10 ms.
WINDOW, HOP = 400, 160
MELS = 64
FRAMES_PER_SECOND = RATE // HOP
# The least power that is told from silence.
_LEAST = 1e-10

# The mel scale is linear up to here, and logarithmic above.
_KNEE_HZ, _HZ_PER_MEL = 1000.0, 200.0 / 3
_KNEE_MEL, _LOG_STEP = _KNEE_HZ / _HZ_PER_MEL, np.log(6.4) / 27


@cache
def mel_filters() -> Tensor:
    """Compute the triangular filters [MELS, WINDOW / 2 + 1], in float64."""
    edges = _hz(np.linspace(0, _mel(RATE / 2), MELS + 2))
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - low) / (centre - low)
    falling = (high - frequencies) / (high - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return torch.from_numpy(2 / (high - low) * triangles)


def log_mel(waves: Tensor) -> Tensor:
    """Compute log10 of the power in each mel filter.

    Args:
        waves: [B, N] of `RATE` samples a second, in float64.

    Returns:
        [B, 1 + N // HOP, MELS], at least -10, the value of silence.
    """
    window = torch.hann_window(WINDOW, dtype=waves.dtype)
    spectrum = torch.stft(
        waves, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True
    )
    power = spectrum.abs().square()
    return (mel_filters() @ power).clamp(min=_LEAST).log10().transpose(1, 2)


def scaled_log_mel(waves: Tensor) -> Tensor:
    """Compute `log_mel` on a scale on which silence is 0 and a loud sound about 2."""
    return (log_mel(waves) + 10) / 5


def _mel(hz: float) -> float:
    return _KNEE_MEL + np.log(hz / _KNEE_HZ) / _LOG_STEP if hz >= _KNEE_HZ else hz / _HZ_PER_MEL


def _hz(mel: np.ndarray) -> np.ndarray:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return np.where(mel >= _KNEE_MEL, above, _HZ_PER_MEL * mel)

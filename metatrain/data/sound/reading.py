"""Reading sounds of any origin: bounded, mixed to one channel, and resampled."""

import importlib
import io
import math
from typing import Any

import numpy as np

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.data.decoding.bad import BadValue
from metatrain.data.sound.wave import MOST_SECONDS, RATE

# Half a minute of anything fits: 30 s of 8 channels at 192 kHz in floats take 184 MB.
MOST_FILE_BYTES = 200_000_000
_RATES, _CHANNELS = range(4_000, 192_001), 8
# Below 16 bits' least step but one, nothing is heard.
_SILENCE = 2 / 32_768
# Silence around a sound while it is resampled, in seconds: its ends must not meet.
_MARGIN = 0.05


def read_sound(data: bytes) -> np.ndarray:
    """Read a sound file, WAV, FLAC, OGG, MP3 or another of libsndfile's, as samples [N].

    Channels are averaged, and the rate becomes `RATE`. Memory is bounded whatever the file claims.

    Raises:
        BadValue: when it is no sound, damaged, silent, or longer than `MOST_SECONDS`.
        UserError: when soundfile is not installed.
    """
    samples, rate = _decoded(data)
    if not np.isfinite(samples).all():
        raise BadValue("a sound whose samples are not finite")
    mono = samples.mean(axis=1, dtype=np.float64)
    # Before it is resampled, for that smears what little there is.
    if np.abs(mono).max(initial=0) < _SILENCE:
        raise BadValue("a silent sound")
    return resampled(mono, rate)


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """Bring samples [N] from `rate` to `RATE` by cutting or extending their Fourier transform."""
    if rate == RATE:
        return samples
    shared = math.gcd(rate, RATE)
    step_in, step_out = rate // shared, RATE // shared
    margin = math.ceil(_MARGIN * rate / step_in)
    blocks = math.ceil(len(samples) / step_in) + 2 * margin
    padded = np.zeros(blocks * step_in)
    padded[margin * step_in :][: len(samples)] = samples
    spectrum = np.fft.rfft(padded)
    result = np.fft.irfft(spectrum, blocks * step_out) * (step_out / step_in)
    return result[margin * step_out :][: math.ceil(len(samples) * RATE / rate)]


def _decoded(data: bytes) -> tuple[np.ndarray, int]:
    """Return samples [N, channels] of float32, and their rate."""
    soundfile = _soundfile()
    if len(data) > MOST_FILE_BYTES:
        raise BadValue(f"a sound file of more than {MOST_FILE_BYTES // 10**6} MB")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = file.samplerate, file.channels
            if rate not in _RATES or not 1 <= channels <= _CHANNELS:
                raise BadValue("a sound of an unusual kind", f"{rate} Hz, {channels} channels")
            most = MOST_SECONDS * rate
            samples = file.read(most + 1, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError, TypeError) as error:
        # In the place of a message that has the address of the bytes.
        reason = getattr(error, "error_string", "").rstrip(".") or reason_of(error)
        # So libsndfile calls bytes that its reader of MP3 refuses.
        reason = "" if reason.startswith("File does not exist") else reason
        raise BadValue("not a sound, or damaged", reason) from error
    if len(samples) > most:
        raise BadValue(f"a sound longer than {MOST_SECONDS} s")
    return samples, rate


def _soundfile() -> Any:
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError) as error:  # OSError: where libsndfile is missing
        raise UserError(
            "sounds need a package that is not installed; pip install 'metatrain[audio]'."
        ) from error

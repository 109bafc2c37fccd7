"""The packed form of a sound: a WAV of one channel, 16 kHz and 16 bits, which browsers play."""

import struct

import numpy as np

from metatrain.data.decoding.bad import BadValue

RATE = 16_000
MOST_SECONDS = 30

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_FULL_SCALE = 32_767


def to_wave(samples: np.ndarray) -> bytes:
    """Return samples [N] in [-1, 1] as a WAV file."""
    data = np.round(samples.clip(-1, 1) * _FULL_SCALE).astype("<i2").tobytes()
    return _header(len(data)) + data


def from_wave(data: bytes) -> np.ndarray:
    """Return the samples [N] of a file that `to_wave` made, in float64.

    Raises:
        BadValue: when it is another file.
    """
    header, samples = data[: _HEADER.size], data[_HEADER.size :]
    if header != _header(len(samples)) or not samples or len(samples) % 2:
        raise BadValue("not a packed sound")
    if len(samples) > 2 * RATE * MOST_SECONDS:
        raise BadValue(f"longer than {MOST_SECONDS} s")
    return np.frombuffer(samples, "<i2") / _FULL_SCALE


def _header(size: int) -> bytes:
    described = (b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return _HEADER.pack(b"RIFF", size + _HEADER.size - 8, b"WAVE", *described, b"data", size)

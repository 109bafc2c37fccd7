"""Sounds: read from any file, packed, and seen as a log-mel spectrogram."""

import io
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metatrain.data.conditions import CONDITIONS
from metatrain.data.decoding.bad import BadValue
from metatrain.data.sound.log_mel import HOP, MELS, WINDOW, log_mel
from metatrain.data.sound.reading import read_sound
from metatrain.data.sound.wave import RATE, from_wave, to_wave

AUDIO = CONDITIONS["audio"]


def chirp(seconds: float, rate: int = RATE) -> np.ndarray:
    """A tone that rises from 200 Hz, and another of 1234 Hz."""
    t = np.arange(round(seconds * rate)) / rate
    rising = 0.5 * np.sin(2 * np.pi * (200 * t + 3000 * t * t))
    return rising + 0.1 * np.sin(2 * np.pi * 1234 * t)


def file_of(samples: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


# librosa 0.11.0: log10 of melspectrogram(y=chirp(0.5), sr=16000, n_fft=400, hop_length=160,
# pad_mode="constant", n_mels=64); every 9th mel of every 10th frame.
LIBROSA = [
    [0.10713215, -7.505649828, -10.0, -9.966556185, -10.0, -2.134298135],
    [-1.411310707, -4.88584524, -9.208882213, -9.137836535, -9.057949448, -2.070181631],
    [-3.781446891, 0.530436067, -6.961628128, -6.93600997, -6.88713157, -1.770037076],
    [-1.350594362, -3.640032642, 1.401305127, -3.639077602, -3.648064896, -1.81119857],
    [-3.12115481, -9.008658684, -7.445131803, 0.67563274, -6.312343266, -2.167428965],
    [-3.937317641, -10.0, -10.0, -9.448526704, -7.021836901, 0.860288964],
    [-4.565057084, -10.0, -10.0, -10.0, -10.0, -2.462685627],
    [-4.90528157, -10.0, -10.0, -10.0, -10.0, -3.019129507],
]


def reference_log_mel(samples: np.ndarray) -> np.ndarray:
    """The definition in float64, with sums in place of transforms: frames of a Hann window."""
    padded = np.pad(samples, WINDOW // 2)
    count = 1 + len(samples) // HOP
    frames = np.stack([padded[i * HOP :][:WINDOW] for i in range(count)])
    n = np.arange(WINDOW)
    frames = frames * (0.5 - 0.5 * np.cos(2 * np.pi * n / WINDOW))
    waves = np.exp(-2j * np.pi * np.outer(n, np.arange(WINDOW // 2 + 1)) / WINDOW)
    power = np.abs(frames @ waves) ** 2

    def to_mel(hz: float) -> float:
        return hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)

    def to_hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    corners = [to_hz(to_mel(RATE / 2) * i / (MELS + 1)) for i in range(MELS + 2)]
    filters = np.zeros((MELS, WINDOW // 2 + 1))
    for i, (low, peak, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        for bin_number in range(WINDOW // 2 + 1):
            hz = bin_number * RATE / WINDOW
            if low < hz <= peak:
                filters[i, bin_number] = (hz - low) / (peak - low)
            elif peak < hz < high:
                filters[i, bin_number] = (high - hz) / (high - peak)
        filters[i] *= 2 / (high - low)
    return np.log10(np.maximum(power @ filters.T, 1e-10))


def test_a_log_mel_spectrogram_is_that_of_its_definition():
    samples = chirp(0.5)
    ours = log_mel(torch.from_numpy(samples)[None])[0]
    torch.testing.assert_close(
        ours, torch.from_numpy(reference_log_mel(samples)), rtol=0, atol=1e-9
    )


def test_a_log_mel_spectrogram_is_librosa_s():
    expected = torch.tensor(LIBROSA, dtype=torch.float64)
    ours = log_mel(torch.from_numpy(chirp(0.5))[None])[0, ::10, ::9].T
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_channels_are_the_same_sound(rate, channels):
    samples = np.repeat(chirp(0.5, rate)[:, None], channels, axis=1)
    samples *= np.hanning(len(samples))[:, None]
    ours, expected = read_sound(file_of(samples, rate, subtype="FLOAT")), chirp(0.5)
    expected = expected * np.hanning(len(expected))
    assert len(ours) == RATE // 2
    # 8 kHz hold the rising tone up to its end, which is 3.2 kHz.
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_what_16_khz_cannot_hold_is_gone_and_not_folded_back():
    t = np.arange(48_000) / 48_000
    ours = read_sound(file_of(np.sin(2 * np.pi * 10_000 * t) * np.hanning(48_000), 48_000))
    assert np.abs(ours).max() < 1e-3


@pytest.mark.parametrize(("kind", "error"), [("FLAC", 1e-4), ("OGG", 0.1), ("MP3", 0.1)])
def test_compressed_sounds_are_heard(kind, error):
    samples = chirp(1.0)
    ours = read_sound(file_of(samples, RATE, kind))
    count = min(len(ours), len(samples))
    assert np.sqrt(np.mean((ours[:count] - samples[:count]) ** 2)) < error


@settings(max_examples=20)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_a_packed_wave_comes_back_and_any_program_reads_it(values):
    data = to_wave(np.array(values))
    np.testing.assert_allclose(from_wave(data), values, atol=1 / 65_534)
    theirs, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == RATE
    assert np.array_equal(theirs, np.round(from_wave(data) * 32_767))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a sound, or damaged"),
        (b"RIFF" + bytes(80), r"not a sound, or damaged \(Format not recognised\)"),
        (file_of(np.zeros(RATE), RATE), "a silent sound"),
        (file_of(np.zeros(0), RATE), "a silent sound"),
        (file_of(np.stack([chirp(0.1), -chirp(0.1)], 1), RATE), "a silent sound"),
        (file_of(np.array([0.1, np.nan]), RATE, subtype="FLOAT"), "samples are not finite"),
        (file_of(np.ones(100), 1_000), "of an unusual kind .1000 Hz, 1 channels"),
        (file_of(np.ones((9, 9)), RATE), "of an unusual kind .16000 Hz, 9 channels"),
        (file_of(chirp(30.1), RATE), "longer than 30 s"),
    ],
    # A file of floats has the time of its making in it, and so has its name for a test.
    ids=range(9),
)
def test_what_is_no_sound_of_use_is_refused(data, sentence):
    with pytest.raises(BadValue, match=sentence):
        AUDIO.encode(data, None, False)


def test_three_hours_take_no_more_memory_than_half_a_minute():
    samples = np.zeros(3 * 3600 * 4_000, np.int16)
    samples[:] = 1000
    data = file_of(samples, 4_000, "FLAC")
    tracemalloc.start()
    with pytest.raises(BadValue, match="longer than 30 s"):
        AUDIO.encode(data, None, False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(data) + 10_000_000


@settings(max_examples=50)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_bytes_of_strangers_are_a_sound_or_refused(garbage, cut):
    whole = file_of(chirp(0.01), RATE)
    for data in (garbage, whole[:cut], whole[:cut] + garbage):
        with suppress(BadValue):
            assert np.isfinite(read_sound(data)).all()
        with suppress(BadValue):
            from_wave(data)


def test_a_decoded_sound_has_the_configured_length_and_silence_is_0():
    kind = AUDIO(AUDIO.Config(seconds=1.0), 28, 1)
    short, long = (AUDIO.encode(file_of(chirp(s), RATE), None, False) for s in (0.3, 1.7))
    spectrograms = kind.decode([short, b"", long])
    assert spectrograms.shape == (3, *kind.shape) == (3, 104, MELS)
    assert not spectrograms[1].any()
    assert not spectrograms[0, 35:].any()
    assert spectrograms[0, :30].amax(dim=1).min() > 1
    assert spectrograms[2].amax(dim=1).min() > 1
    assert kind.unread(short) is None
    assert kind.unread(long) == "a sound of 1.7 s, of which the first 1.04 are heard"
    with pytest.raises(BadValue, match="not a packed sound"):
        kind.decode([short[:-1]])

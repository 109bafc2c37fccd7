"""The benchmark of sounds beside images, at the smallest size."""

import io
import shutil
import wave
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fontTools.ttLib import TTFont
from PIL import Image

from benchmarks.conditions.sound import data, systems, voices
from benchmarks.conditions.sound.__main__ import agreement, main
from benchmarks.conditions.sound.recordings import DIGITS, read_recordings
from benchmarks.conditions.sound.specimens import (
    SEEN,
    UNSEEN,
    digit_reader,
    specimen,
)
from benchmarks.conditions.sound.systems import RIGHT, WRONG, Heard, systems_of
from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.sound.reading import read_sound
from metatrain.data.sound.wave import to_wave
from metatrain.model.build import build_theta
from metatrain.model.model import Model

FACES = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SMALL = ["DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10", "cmtt10"]
SMALL += ["DejaVuSans-Oblique", "DejaVuSansMono-Bold", "STIXGeneralItalic", "cmb10"]


def tone(hertz):
    """A fifth of a second of a tone, as a WAV file of 8 kHz."""
    samples = (9000 * np.sin(2 * np.pi * hertz * np.arange(1600) / 8000)).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Four takes of each digit by three speakers, no two alike."""
    folder = tmp_path_factory.mktemp("spoken")
    for speaker, name in enumerate(["ada", "ben", "cyd"]):
        for digit in DIGITS:
            for take in range(4):
                hertz = 200 + 100 * int(digit) + 20 * speaker + 5 * take
                (folder / f"{digit}_{name}_{take}.wav").write_bytes(tone(hertz))
    return folder


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    """Eleven typefaces of as many families, a bold one of the first, and a file that is none."""
    folder = tmp_path_factory.mktemp("fonts")
    for name in SMALL:
        named(FACES / f"{name}.ttf", f"Family of {name}", folder / f"{name}.ttf")
    named(FACES / "DejaVuSans-Bold.ttf", "Family of DejaVuSans", folder / "DejaVuSans-Bold.ttf")
    (folder / "copy.ttf").write_bytes((folder / "cmr10.ttf").read_bytes())
    (folder / "broken.otf").write_bytes(b"OTTO" + bytes(50))
    return folder


def named(path, family, to):
    with TTFont(path) as font:
        for record in font["name"].names:
            if record.nameID in (1, 16):
                record.string = family
        font.save(to)


@pytest.fixture(scope="module")
def packed(spoken, fonts, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("packed") / "data")
    assert data.main([str(spoken), str(fonts), folder]) == 0
    return folder


def test_takes_and_a_speaker_are_held_out(spoken):
    training, seen, unseen = read_recordings(spoken)
    for digit in DIGITS:
        assert {(r.speaker, r.take) for r in training[digit]} == {
            (speaker, take) for speaker in ("ada", "ben") for take in range(3)
        }
        assert {(r.speaker, r.take) for r in seen[digit]} == {("ada", 3), ("ben", 3)}
        assert {(r.speaker, r.take) for r in unseen[digit]} == {("cyd", 3)}
        assert {r.digit for part in (training, seen, unseen) for r in part[digit]} == {digit}


def test_recordings_that_are_too_few_are_refused(spoken, tmp_path):
    with pytest.raises(UserError, match="of 0 speakers; give those of two or more"):
        read_recordings(tmp_path)
    for path in spoken.glob("*_[ab]*.wav"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "7_ben_2.wav").unlink()
    with pytest.raises(UserError, match="fewer than 4 recordings of '7' by ben"):
        read_recordings(tmp_path)


def test_a_recording_that_is_no_wave_is_refused(tmp_path):
    path = tmp_path / "3_ada_0.wav"
    path.write_bytes(b"ID3 and no wave")
    with pytest.raises(UserError, match=r"3_ada_0\.wav is no WAV file of plain samples"):
        data.played(data.Recording(path, "3", "ada", 0), 1.0)


def test_a_faster_recording_is_shorter_and_higher(spoken):
    [recording] = [r for r in read_recordings(spoken).training["5"] if r[2:] == ("ada", 0)]
    slow, fast = (read_sound(data.played(recording, speed)) for speed in (1.0, 1.25))
    assert abs(len(slow) / len(fast) - 1.25) < 0.01
    peaks = [np.abs(np.fft.rfft(s)).argmax() * 16_000 / len(s) for s in (slow, fast)]
    np.testing.assert_allclose(peaks, [700, 875], atol=10)


def test_every_digit_comes_with_its_sound_and_families_are_in_one_split(spoken, packed):
    rows = pq.read_table(f"{packed}/data-00000.parquet").to_pylist()
    sounds = {part: {} for part in ("training", "seen")}
    for part, by_digit in read_recordings(spoken)._asdict().items():
        for digit, recordings in by_digit.items():
            waves = {to_wave(read_sound(r.path.read_bytes())) for r in recordings}
            sounds.setdefault(part, {})[digit] = waves
    tasks, splits = defaultdict(list), {}
    store = EpisodeStore(packed)
    for split in ("train", "val", "test"):
        splits |= {task.name: split for task in store.tasks(split)}
    assert {row["speaker"] for row in rows} == {"ada", "ben"}
    families = {(row["family"], splits[row["task"]]) for row in rows}
    assert len(families) == len({family for family, _ in families}) == len(SMALL)
    for row in rows:
        tasks[row["task"]].append(row["digit"])
        if splits[row["task"]] != "train":
            assert row["audio"] in sounds["seen"][row["digit"]]
        assert row["audio"] not in sounds["seen"][str((int(row["digit"]) + 1) % 10)]
    assert all(sorted(digits) == sorted(data.VARIANTS * DIGITS) for digits in tasks.values())


def test_too_few_families_are_refused(spoken, fonts, tmp_path, capsys):
    (tmp_path / "one.ttf").write_bytes((fonts / "cmr10.ttf").read_bytes())
    assert data.main([str(spoken), str(tmp_path), str(tmp_path / "data")]) == 1
    assert "digits of fewer than 10 families; give more fonts" in capsys.readouterr().err


def test_the_wrong_sound_is_of_another_digit_that_is_asked_for(spoken, packed):
    store = EpisodeStore(packed)
    one = specimen(digit_reader(store, 28), store.tasks("test")[0], 3, read_recordings(spoken))
    assert len({*one.asked}) == 5
    for speaker in (SEEN, UNSEEN):
        assert Heard(1, RIGHT, speaker).spoken(one) == one.asked
        wrong = Heard(1, WRONG, speaker).spoken(one)
        assert {*wrong} == {*one.asked}
        assert all(a != b for a, b in zip(wrong, one.asked, strict=True))
    assert not {r.digit for r in one.given_sounds} & {*one.asked}
    assert not Heard(1).sounds(one)


def test_a_share_agrees_where_digits_do():
    read = torch.tensor([[1, 2, 3, 4, 5], [0, 0, 0, 0, 9]])
    assert agreement(read, ["12345", "00001"]).value == 0.9
    assert agreement(read, ["54321", "99990"]).value == 0.1


def test_every_system_is_sampled_once_and_stands_in_the_table(
    spoken, packed, tmp_path, capsys, monkeypatch
):
    small = ["generator.width=8", "objective.sampler.steps=2", "generator.conditions=[audio]"]
    config = load_config(None, [*small, f"data.path={packed}"])
    Model(config, build_theta(config).copy(), step=1).save(tmp_path / "model.safetensors")
    command = [str(tmp_path / "model.safetensors"), "--recordings", str(spoken)]
    command += ["--out", str(tmp_path / "out"), "--shots", "1", "--steps", "1"]
    command += ["--classifier-steps", "2"]
    assert main(command) == 0
    text = capsys.readouterr().out
    for system in systems_of([1]):
        assert f"\n| {system.name} | " in text
    assert "\n| 1 image, its sound, known speakers, less 1 image, no sound | " in text
    assert text.split() == (tmp_path / "out" / "table.md").read_text().split()
    assert Image.open(tmp_path / "out" / "samples.png").width > 500
    monkeypatch.setattr(systems.Sampler, "_sampled", None)
    assert main(command) == 0
    assert capsys.readouterr().out == text


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed")
def test_voices_of_espeak_are_recordings(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(voices, "PITCHES", (50,))
    assert voices.main([str(tmp_path), "--voices", "en-us+f2", "en-gb+m3"]) == 0
    parts = read_recordings(tmp_path)
    assert {r.speaker for r in parts.training["4"]} == {"en-gb+m3"}
    assert {r.speaker for r in parts.unseen["4"]} == {"en-us+f2"}
    said = {len(read_sound(r.path.read_bytes())) for r in parts.training["7"]}
    assert len(said) > 1
    assert voices.main([str(tmp_path), "--voices", "nosuchvoice"]) == 1
    assert "espeak-ng cannot speak as 'nosuchvoice'" in capsys.readouterr().err


def test_voices_need_espeak(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert voices.main([str(tmp_path / "spoken")]) == 1
    assert "espeak-ng is not installed; apt install espeak-ng." in capsys.readouterr().err

"""Names spoken by espeak-ng: their data set, and the benchmark at the smallest size."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_frozen_texts import table  # noqa: F401

from benchmarks.conditions import bench
from benchmarks.conditions.sound.name_data import CAPTION, KNOWN, NEW, speak_names
from benchmarks.conditions.sound.names import main, spoken_names
from benchmarks.conditions.sound.voices import VOICES
from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.data.sound.reading import read_sound
from metatrain.model.build import build_theta
from metatrain.model.model import Model

needs_espeak = pytest.mark.skipif(
    not shutil.which("espeak-ng"), reason="espeak-ng is not installed; apt install espeak-ng"
)
NAMES = ["red", "fox", "hen", "a"]
TASKS, IMAGES = 30, 8


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """Tasks of noise, each with a caption that begins with its name."""
    folder, stream = tmp_path_factory.mktemp("drawings"), np.random.default_rng(0)
    (folder / "images").mkdir()
    rows = ["file_name,task,caption"]
    for task in range(TASKS):
        name = f"{NAMES[task % 4]} {task}"
        for image in range(IMAGES):
            pixels = stream.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{task}-{image}.png")
            rows.append(f'{task}-{image}.png,{name},"{name}, animal"')
    (folder / "images" / "metadata.csv").write_text("\n".join(rows))
    pack(folder / "images", folder / "plain", conditions={CAPTION: "text"})
    return folder


@pytest.fixture(scope="module")
def spoken(drawings):
    """The same with their names spoken."""
    speak_names(f"{drawings}/plain", f"{drawings}/spoken")
    return str(drawings / "spoken")


@needs_espeak
def test_every_drawing_has_its_name_by_a_known_voice_and_its_split_stays(drawings, spoken):
    plain, ours = (EpisodeStore(url) for url in (f"{drawings}/plain", spoken))
    for split in ("train", "val", "test"):
        names = [task.name for task in plain.tasks(split)]
        assert [task.name for task in ours.tasks(split)] == names
    rows = pq.read_table(f"{spoken}/data-00000.parquet").to_pylist()
    assert len(rows) == TASKS * IMAGES
    for task in ours.tasks("train"):
        of_task = [row for row in rows if row["task"] == task.name]
        voices = {row["voice"] for row in of_task}
        assert len(voices) == IMAGES
        assert voices <= {*KNOWN}
        assert len({row["audio"] for row in of_task}) == IMAGES
        assert {row[CAPTION] for row in of_task} == {f"{task.name}, animal"}
        assert all(0.2 < len(read_sound(row["audio"])) / 16_000 < 3 for row in of_task)


def test_new_voices_share_neither_accent_nor_speaker_with_the_known_ones():
    known, new = ([voice.split("+") for voice in voices] for voices in (KNOWN, NEW))
    for part in (0, 1):
        assert not {voice[part] for voice in known} & {voice[part] for voice in new}


@needs_espeak
def test_every_system_is_sampled_once_and_stands_in_the_table(
    spoken,
    table,  # noqa: F811
    tmp_path,
    capsys,
    monkeypatch,
):
    small = ["generator.width=8", "objective.sampler.steps=2", "data.image_size=16"]
    small += ["data.channels=3", f"data.path={spoken}", "generator.conditions=[support, audio]"]
    config = load_config(None, small)
    Model(config, build_theta(config).copy(), step=1).save(tmp_path / "model.safetensors")
    command = [str(tmp_path / "model.safetensors"), "--out", str(tmp_path / "out"), "--shots", "1"]
    command += ["--words", str(tmp_path / "table.safetensors"), "--samples", "2", "--steps", "1"]
    assert main(command) == 0
    text = capsys.readouterr().out
    for given in ("0 images", "1 image"):
        for whose in ("its name", "another's name"):
            for voices in ("known voices", "new voices"):
                assert f"\n| {given}, {whose} by {voices} | " in text
    assert "\n| 1 image, no words | " in text
    assert "\n| 0 images, its name by new voices, less its name by known voices | " in text
    assert Image.open(tmp_path / "out" / "samples.png").width > 500
    monkeypatch.setattr(bench.Sampler, "_sampled", None)
    assert main(command) == 0
    assert capsys.readouterr().out == text


@needs_espeak
def test_no_two_voices_sound_alike(tmp_path):
    """A speaker that an accent does not have would be passed over in silence."""
    for number, voices in enumerate(([*KNOWN, *NEW], VOICES)):
        paths = spoken_names(["hen"] * len(voices), voices, tmp_path / str(number))
        assert len({Path(path).read_bytes() for path in paths}) == len(voices)


@needs_espeak
def test_a_sound_is_never_that_of_another_name(tmp_path):
    """With other --tasks, the same folder has other names in the same places."""
    [fox], [hen] = (spoken_names([name], NEW, tmp_path) for name in ("fox", "hen/chick"))
    assert Path(fox).read_bytes() != Path(hen).read_bytes()


@needs_espeak
def test_a_name_of_dashes_is_no_option_of_espeak(tmp_path):
    [path] = spoken_names(["--version"], ["en-029+m2"], tmp_path)
    assert len(read_sound(Path(path).read_bytes())) > 8_000


@needs_espeak
def test_names_need_captions(drawings, tmp_path):
    pack(drawings / "images", tmp_path / "silent")
    with pytest.raises(UserError, match="silent has no captions; give what metatrain pack emoji"):
        speak_names(f"{tmp_path}/silent", f"{tmp_path}/spoken")


def test_names_need_espeak(drawings, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"espeak-ng is not installed; apt install espeak-ng\."):
        speak_names(f"{drawings}/plain", f"{tmp_path}/spoken")

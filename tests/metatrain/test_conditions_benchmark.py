"""The benchmark of words beside images, at the smallest size."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_frozen_texts import table  # noqa: F401

from benchmarks.conditions import bench
from benchmarks.conditions.__main__ import main
from benchmarks.conditions.bench import caption_found
from benchmarks.conditions.judge import Judge
from benchmarks.conditions.systems import NO_WORDS, RIGHT, WRONG, Sampler, Told, systems_of
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.generators.conditions.words import WordsConfig
from metatrain.model.build import build_theta
from metatrain.model.model import Model


@pytest.fixture
def told(tmp_path, table):  # noqa: F811
    """A model with random weights, on tasks of noise whose words are in the table."""
    stream = np.random.default_rng(0)
    for task in range(30):
        folder = tmp_path / "images" / f"{task}"
        folder.mkdir(parents=True)
        words = ["red", "fox", "hen", "a"][task % 4]
        (tmp_path / "images" / f"{task}.txt").write_text(f"{words} a")
        for image in range(8):
            pixels = stream.integers(0, 20, (16, 16), dtype=np.uint8) + 30 + 50 * (task % 4)
            Image.fromarray(pixels).save(folder / f"{image}.png")
    pack(tmp_path / "images", tmp_path / "data", conditions={"text": "text"})
    small = ["generator.width=8", "objective.sampler.steps=2", "data.image_size=16"]
    config = load_config(
        None, [*small, f"data.path={tmp_path}/data", "generator.conditions=[support, text]"]
    )
    model = Model(config, build_theta(config).copy(), step=1)
    model.save(tmp_path / "model.safetensors")
    return tmp_path


def test_every_system_is_sampled_once_and_stands_in_the_table(told, capsys, monkeypatch):
    out = told / "out"
    command = [str(told / "model.safetensors"), "--out", str(out), "--words"]
    command += [str(told / "table.safetensors"), "--shots", "1", "--samples", "2", "--steps", "1"]
    assert main(command) == 0
    text = capsys.readouterr().out
    for system in systems_of([1], [RIGHT, WRONG]):
        assert f"| {system.name} |" in text
    assert "| 1 image, wrong words, less no words | " in text
    assert "| held-out real images |" in text
    assert text.split() == (out / "table.md").read_text().split()
    assert Image.open(out / "samples.png").width > 500
    monkeypatch.setattr(bench.Sampler, "_sampled", None)
    assert main(command) == 0
    assert capsys.readouterr().out == text


def test_samples_are_never_those_of_another_task(tmp_path):
    """With other --tasks, the same folder has another task at the same number."""
    config = load_config(None, ["generator.width=8", "objective.sampler.steps=1"])
    model, shape = Model(config, build_theta(config).copy(), step=1), (1, 28, 28)
    samples = []
    for task in range(2):
        images = torch.full((3, *shape), 2.0 * task - 1)
        episode = Episode(f"task {task}", Examples(images), Examples(images), seed=0)
        sampler = Sampler(model, "text", [episode], {}, count=1, steps=1, folder=tmp_path)
        samples.append(sampler.sample(Told(1, NO_WORDS), 0))
    assert not samples[0].equal(samples[1])


def test_a_model_without_words_is_refused(told, capsys):
    config = load_config(None, [f"data.path={told}/data", "data.image_size=16"])
    Model(config, build_theta(config).copy(), step=1).save(told / "plain.safetensors")
    assert main([str(told / "plain.safetensors"), "--out", str(told / "out")]) == 1
    assert "no condition of the kind text" in capsys.readouterr().err


def test_the_judge_finds_captions_that_colours_tell(told):
    """Each word has a grey of its own."""
    store = EpisodeStore(str(told / "data"))
    config = load_config(None, ["data.conditions={text: text}"])
    reader = ClassReader(store, 16, 1, config.data.conditions)
    words = WordsConfig(path=str(told / "table.safetensors"))
    judge = Judge(store, reader, "text", words, [])
    captions, images = ["red a", "fox a", "hen a"], torch.empty(3, 1, 1, 16, 16)
    for i in range(3):
        images[i] = (40 + 50 * i) / 127.5 - 1
    fits = judge.fit(images, captions)
    assert fits.shape == (3, 1, 3)
    assert fits[:, 0].argmax(dim=1).tolist() == [0, 1, 2]


def test_a_caption_is_found_where_it_fits_best():
    fits = torch.tensor(
        [[[0.9, 0.1, 0.2, 0.3, 0.4, 0.5]] * 2, [[0.6, 0.5, 0.4, 0.3, 0.2, 0.1]] * 2]
    )
    fits[1, 0, 5] = 0.7
    first, fifth, worse = caption_found(fits, [0, 5])
    assert (first.value, fifth.value) == (0.75, 0.75)
    assert worse.value == 0.75


def test_nothing_is_sampled_without_images_and_words():
    assert systems_of([2], [RIGHT, WRONG, "de"]) == [
        *(Told(0, words) for words in (RIGHT, WRONG, "de")),
        *(Told(2, words) for words in (NO_WORDS, RIGHT, WRONG, "de")),
    ]

"""Texts and sounds in files beside images: packed, counted, told and learned from."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from evaluated_run import make_run
from parsed_page import Page
from PIL import Image

from metatrain.api import train
from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.config import load_config
from metatrain.data.check import check
from metatrain.data.packed.manifest import MANIFEST, MISSING_KEY
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.data.sound.wave import from_wave
from metatrain.evaluation.episodes.benchmark import read_benchmark
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.given_files import keep_given, read_given
from metatrain.generators.networks.unet import UNetConfig
from metatrain.plan.trace import trace
from metatrain.report import write_report
from metatrain.report.given_values import wave_path

SPLIT = (1.0, 0.0, 0.0)


def write_folder(folder, tasks: int = 4, count: int = 6):
    """Folders with a text for all but one image each, and a sound for each folder but the first."""
    for task in range(tasks):
        (folder / f"t{task}").mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng([task, i]).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / f"t{task}" / f"{i}.png")
            if i:
                (folder / f"t{task}" / f"{i}.txt").write_text(f"image {i} of {task} 🦊\n")
        if task:
            soundfile.write(folder / f"t{task}.wav", np.sin(np.arange(4000) * task / 30), 8_000)
    return folder


def forge(folder, missing: bytes) -> None:
    """Replace the counts of missing conditions in a manifest."""
    table = pq.read_table(folder / MANIFEST)
    metadata = {**table.schema.metadata, MISSING_KEY: missing}
    pq.write_table(table.replace_schema_metadata(metadata), folder / MANIFEST)


@pytest.fixture(scope="module")
def packed_both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beside")
    kinds = {"text": "text", "audio": "audio"}
    summary = pack(write_folder(folder / "images"), folder / "set", conditions=kinds, split=SPLIT)
    return folder, summary


def test_texts_and_sounds_beside_images_are_packed_and_what_lacks_one_is_counted(packed_both):
    folder, summary = packed_both
    assert summary.images == 24
    assert summary.notes == {"without 'audio'": 6, "without 'text'": 4}
    assert not summary.refused
    card = check(f"{folder}/set")
    assert not card.faults
    assert card.missing == {"audio": 6, "text": 4}
    assert "  condition text: text; 4 images without\n" in str(card)
    store = EpisodeStore(f"{folder}/set")
    assert store.missing == {"audio": 6, "text": 4}
    values = store.read_columns(store.tasks("train")[2], ["text", "audio"])
    assert [v.decode() for v in values["text"]] == [
        "",
        *(f"image {i} of 2 🦊" for i in range(1, 6)),
    ]
    assert len(set(values["audio"])) == 1
    assert len(from_wave(values["audio"][0])) == 8_000
    assert store.read_columns(store.tasks("train")[0], ["audio"])["audio"] == [b""] * 6


def test_counts_go_on_when_tasks_are_added_and_false_ones_are_a_fault(packed_both, tmp_path):
    folder, _ = packed_both
    kinds = {"text": "text", "audio": "audio"}
    shutil.copytree(folder / "images", tmp_path / "images")
    shutil.copytree(folder / "set", tmp_path / "set")
    assert pack(tmp_path / "images", tmp_path / "set", conditions=kinds, split=SPLIT).already_packed
    (tmp_path / "images" / "t0").rename(tmp_path / "images" / "more")
    (tmp_path / "images" / "more" / "3.txt").unlink()
    pack(tmp_path / "images", tmp_path / "set", conditions=kinds, split=SPLIT)
    assert EpisodeStore(f"{tmp_path}/set").missing == {"audio": 12, "text": 6}
    assert not check(f"{tmp_path}/set").faults
    table = pq.read_table(tmp_path / "set" / MANIFEST)
    metadata = {**table.schema.metadata, MISSING_KEY: b'{"audio": 1, "text": 6}'}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "set" / MANIFEST)
    assert any(
        "other counts of missing conditions" in fault for fault in check(f"{tmp_path}/set").faults
    )


@pytest.mark.parametrize(
    "missing", [b"[]", b'{"smell": 1}', b'{"text": -1}', b'{"text": true}', b"{"]
)
def test_a_manifest_with_impossible_counts_is_refused(packed_both, tmp_path, missing):
    shutil.copytree(packed_both[0] / "set", tmp_path / "set")
    forge(tmp_path / "set", missing)
    with pytest.raises(UserError, match="malformed"):
        EpisodeStore(f"{tmp_path}/set")


def test_files_beside_images_that_cannot_be_used_are_refused_with_their_image(tmp_path):
    folder = write_folder(tmp_path / "images")
    (folder / "t1" / "1.txt").write_bytes(b"\xff\xfe\xfd")
    (folder / "t1" / "2.txt").write_text("x" * 65_537)
    (folder / "t2" / "1.wav").write_bytes(b"no sound")
    (folder / "t2" / "notes.txt").write_text("of no image")
    summary = pack(folder, tmp_path / "set", conditions={"text": "text", "audio": "audio"})
    assert summary.refused == {
        "beside it a text of more than 65,536 bytes": 1,
        "beside it a text that is not UTF-8": 1,
        "column 'audio': not a sound, or damaged": 1,
    }
    plain = pack(folder, tmp_path / "plain")
    assert plain.images == 24
    assert not plain.notes
    for file in folder.rglob("*.txt"):
        file.unlink()
    with pytest.raises(UserError, match=r"--condition text: .* has no such column"):
        pack(folder, tmp_path / "none", conditions={"text": "text"})


def test_a_table_beside_images_and_a_path_of_a_sound(tmp_path):
    folder = write_folder(tmp_path / "images")
    rows = ["file_name,text,cry", *(f"t1/{i}.png,from the table {i},t1.wav" for i in range(6))]
    (folder / "metadata.csv").write_text("\n".join(rows))
    summary = pack(
        folder, tmp_path / "set", conditions={"text": "text", "cry": "audio"}, split=SPLIT
    )
    assert summary.notes == {"without 'cry'": 18, "without 'text'": 3}
    store = EpisodeStore(f"{tmp_path}/set")
    values = store.read_columns(store.tasks("train")[1], ["text", "cry"])
    assert values["text"][5] == b"from the table 5"
    assert all(values["cry"])


def test_training_tells_the_share_and_learns_from_both(packed_both, tmp_path, caplog):
    folder, _ = packed_both
    config = load_config(
        None,
        [
            *("data.image_size=8", "generator.width=8", f"run.dir={tmp_path}"),
            *("generator.conditions=[support, text, audio]", "data.conditions.audio.seconds=0.2"),
            *(f"data.path={folder}/set", "data.shots=2", "data.queries=2", "meta.steps=2"),
            *("cluster.workers=1", "checkpoint.samples=false", "inner.steps=1"),
        ],
    )
    with caplog.at_level("INFO"):
        model = train(config, device="cpu")
    assert "83.3% of 24 images have the condition 'text'." in caplog.text
    assert "75.0% of 24 images have the condition 'audio'." in caplog.text
    assert model.sample(1, given={"text": "image 1 of 2"}).isfinite().all()
    plain = config.model_copy(update={"generator": UNetConfig(width=8)})
    assert trace(config, 2).flops > 1.1 * trace(plain, 2).flops


def test_a_page_shows_captions_and_plays_sounds(tmp_path):
    folder = write_folder(tmp_path / "images", count=8)
    for i in range(8):
        (folder / "t2" / f"{i}.txt").write_text(f"<b>bold</b> \u202e \x07 {i}")
    kinds = {"text": "text", "audio": "audio"}
    pack(folder, tmp_path / "set", conditions=kinds, split=SPLIT)
    run = make_run(f"{tmp_path}/run", ["t0", "t1", "t2", "t3"])
    store = EpisodeStore(f"{tmp_path}/set")
    episodes = list_episodes(store, "train")
    benchmark = read_benchmark(store, episodes, shots=3, image_size=8, channels=1)
    config = load_config(None, ["generator.conditions=[support, text, audio]"])
    keep_given(store, benchmark, load_config(), f"{run}/evaluation")
    assert read_given(f"{run}/evaluation", 0) == []
    keep_given(store, benchmark, config, f"{run}/evaluation")
    given = [read_given(f"{run}/evaluation", task) for task in range(4)]
    assert [[one.name for one in task] for task in given] == [["text", "audio"]] * 4
    assert sorted(len(task[1].values) for task in given) == [0, 1, 1, 1]
    page = Page(Path(write_report(run)).read_text())
    page.check_self_contained()
    texts = [text for task in given for text in task[0].values]
    assert len(texts) > 8
    assert all(printable(text) in page.text for text in texts)
    players = [attributes["src"] for tag, attributes in page.elements if tag == "audio"]
    assert all(url.startswith("data:audio/wav;base64,UklGR") for url in players)
    assert len({*players}) == 3
    Path(f"{run}/evaluation/strips/00/given.json").write_text('[{"name": 3}]')
    with pytest.raises(UserError, match="damaged; evaluate the run again"):
        write_report(run)


def test_a_drawn_wave_has_its_peaks_and_its_silence():
    path = wave_path(np.concatenate([np.zeros(600), np.full(600, -0.5), np.zeros(1)]))
    marks = [tuple(float(y) for y in mark.split(" ")[1].split("V")) for mark in path.split("M")[1:]]
    assert len(marks) == 60
    assert marks[0] == (10, 10)
    assert marks[45] == (0, 20)

"""Situations out of public reports that no other test covers, each with what is right."""

import io
import re
import tarfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.config import load_config
from metatrain.data.decoding.quiet import no_warnings
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.data.pictures import decode
from metatrain.model.support import as_support


def png(number: int, mode: str = "RGB", kind: str = "PNG") -> bytes:
    """Return an image file that is another for another number."""
    pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> str:
    """Write files below `folder`, and return it."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return str(folder)


def tasks_of(url: str) -> dict[str, int]:
    """Return the tasks of a packed data set, with how many images they have."""
    store = EpisodeStore(url)
    return {task.name: task.count for s in ("train", "val", "test") for task in store.tasks(s)}


def test_endings_in_capitals(tmp_path):
    names = ["a/1.JPG", "a/2.JPEG", "a/3.Png", "b/1.jpg", "b/2.pNg"]
    files = {n: png(i, kind="JPEG" if "j" in n.lower() else "PNG") for i, n in enumerate(names)}
    pack(write(tmp_path / "images", files), tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == {"a": 3, "b": 2}


def test_an_ending_of_another_format(tmp_path):
    files = {"a/1.jpg": png(1), "a/2.png": png(2, kind="JPEG"), "b/1.gif": png(3, kind="WEBP")}
    summary = pack(write(tmp_path / "images", files), tmp_path / "out")
    assert (summary.images, summary.refused) == (3, {})


def test_an_empty_folder_beside_tasks(tmp_path):
    source = write(tmp_path / "images", {"a/1.png": png(1), "b/1.png": png(2)})
    (tmp_path / "images" / "empty").mkdir()
    pack(source, tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == {"a": 1, "b": 1}


def test_images_of_all_modes_in_one_task(tmp_path):
    modes = ["L", "RGB", "RGBA", "P", "1", "LA"]
    files = {f"a/{mode}.png": png(i, mode) for i, mode in enumerate(modes)}
    files["a/cmyk.jpg"] = png(9, "CMYK", "JPEG")
    pack(write(tmp_path / "images", files), tmp_path / "out")
    store = EpisodeStore(f"{tmp_path}/out")
    [task] = [task for split in ("train", "val", "test") for task in store.tasks(split)]
    for channels in (1, 3, 4):
        assert decode(store.read(task), 16, channels).shape == (7, channels, 16, 16)


ODD_NAMES = [
    "a b",
    "50%",
    "#1",
    "who?",
    "[x]",
    "it's",
    'say "x"',
    "日本",
    "é",
    "🙂",
    "a\\b",
    "*",
    "~",
]


def test_names_that_a_shell_or_a_pattern_would_change(tmp_path):
    files = {f"{name}/{name}.png": png(i) for i, name in enumerate(ODD_NAMES)}
    pack(write(tmp_path / "images", files), tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == dict.fromkeys(ODD_NAMES, 1)


def test_a_folder_that_a_pattern_would_not_find(tmp_path):
    source = write(tmp_path / "[1] my *images*", {"a/1.png": png(1), "b/1.png": png(2)})
    assert pack(source, tmp_path / "[out]").images == 2
    assert len(as_support(f"{source}/a", load_config().data)) == 1


@pytest.mark.parametrize("name", ["new\nline", "\x1b[31mred", "\x9b2J", "\u202egnp"])
def test_a_name_that_would_act_on_a_terminal_or_forge_a_line(name, tmp_path):
    column = "a" + name
    table = pa.table({column: ["x"], "path": ["1.png"]})
    pq.write_table(table, tmp_path / "table.parquet")
    layout = {f"train/{name}/1.png": png(1), f"test/{name}/1.png": png(2)}
    nested = {f"{name}/{i}/{i}/1.png": png(i) for i in range(2)} | {"other/1.png": png(3)}
    for source, options in {
        f"{tmp_path}/table.parquet": {},
        write(tmp_path / "splits", layout): {},
        write(tmp_path / "nested", nested): {},
        write(tmp_path / "one", {"a/1.png": png(1)}): {"conditions": {"caption": "text"}},
    }.items():
        with pytest.raises(UserError) as error:
            pack(source, tmp_path / "out", **options)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", str(error.value))


def test_labels_that_other_readers_take_for_missing_or_for_numbers(tmp_path):
    labels = ["NA", "null", "None", "nan", "007", "0", "1.0", "true", "no"]
    rows = "".join(f"{i}.png,{label}\r\n" for i, label in enumerate(labels))
    files = {f"{i}.png": png(i) for i in range(len(labels))}
    # With the mark of byte order that Excel writes.
    files["table.csv"] = b"\xef\xbb\xbf" + f"path,task\r\n{rows}\r\n".encode()
    write(tmp_path, files)
    pack(tmp_path / "table.csv", tmp_path / "out")
    assert set(tasks_of(f"{tmp_path}/out")) == set(labels)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_a_table_in_an_encoding_of_excel(encoding, tmp_path):
    text = "path\ttask\r\n1.png\tcafé\r\n"
    text = "\ufeff" + text if encoding == "utf-16-be" else text
    write(tmp_path, {"1.png": png(1), "table.tsv": text.encode(encoding)})
    pack(tmp_path / "table.tsv", tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == {"café": 1}


def test_a_table_in_another_encoding(tmp_path):
    write(tmp_path, {"1.png": png(1), "t.csv": "path,task\n1.png,café\n".encode("latin-1")})
    with pytest.raises(UserError, match=r"t\.csv cannot be read .*its text is not UTF-8"):
        pack(tmp_path / "t.csv", tmp_path / "out")


def test_paths_in_a_table_that_windows_wrote(tmp_path):
    files = {"cat/1.png": png(1), "a\\b.png": png(2)}
    files["t.csv"] = b"path,task\r\ncat\\1.png,x\r\n.\\cat\\..\\cat\\1.png,y\r\na\\b.png,z\r\n"
    pack(Path(write(tmp_path, files)) / "t.csv", tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == {"x": 1, "y": 1, "z": 1}
    write(tmp_path, {"t.csv": b"path,task\ncat\\1.png,x\n..\\..\\secret.png,y\n"})
    assert pack(tmp_path / "t.csv", tmp_path / "other").refused == {
        "leads out of the source's folder": 1
    }


def test_urls_in_the_place_of_paths(tmp_path):
    rows = b"path,task\n1.png,a\nhttps://host.invalid/2.png,a\n"
    write(tmp_path, {"1.png": png(1), "t.csv": rows})
    summary = pack(tmp_path / "t.csv", tmp_path / "out")
    assert summary.refused == {"a URL: download it beside the table": 1}


def test_blank_lines_and_odd_line_ends_in_lines_of_json(tmp_path):
    lines = (
        '{"file_name": "1.png", "label": "a\u2028b"}\n\n{"file_name": "2.png", "label": "c"}\n\n'
    )
    files = {"1.png": png(1), "2.png": png(2), "metadata.jsonl": lines.encode()}
    pack(write(tmp_path / "images", files), tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == {"a\u2028b": 1, "c": 1}


def test_a_label_of_0_in_a_parquet_table(tmp_path):
    write(tmp_path, {f"{i}.png": png(i) for i in range(4)})
    table = pa.table({"path": [f"{i}.png" for i in range(4)], "task": [0, 0, 1, 1]})
    pq.write_table(table, tmp_path / "table.parquet")
    pack(tmp_path / "table.parquet", tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == {"0": 2, "1": 2}


def shard(path: Path, files: dict[str, bytes]) -> None:
    """Write a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def test_dots_in_the_keys_of_a_shard(tmp_path):
    files = {}
    for i in range(4):
        files |= {f"set/22.{i:02d}.png": png(i), f"set/22.{i:02d}.cls": str(i % 2).encode()}
    shard(tmp_path / "shard.tar", files)
    pack(tmp_path / "shard.tar", tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == {"0": 2, "1": 2}


def test_a_second_ending_within_a_shard(tmp_path):
    files = {}
    for i in range(4):
        files |= {f"{i}.rgb.png": png(i), f"{i}.cls": str(i % 2).encode()}
    shard(tmp_path / "shard.tar", files)
    pack(tmp_path / "shard.tar", tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == {"0": 2, "1": 2}


def test_the_same_key_in_two_shards(tmp_path):
    for i in range(2):
        shard(tmp_path / "shards" / f"{i}.tar", {"7.png": png(i), "7.cls": b"x"})
    pack(tmp_path / "shards", tmp_path / "out")
    assert tasks_of(f"{tmp_path}/out") == {"x": 2}


@pytest.mark.parametrize(
    "value",
    [
        "a/epoch=9-step=8.ckpt",
        "s3://b/year=2019/day=29",
        "a#b",
        "a_%r.bin",
        "me@x.org",
        "a:b",
        "a,b",
    ],
)
def test_a_path_of_any_characters_as_an_override(value):
    assert load_config(None, [f"data.path={value}"]).data.url == value


def test_a_rate_without_a_point(tmp_path):
    (tmp_path / "c.yaml").write_text("inner: {lr: 1e-4}\nmeta: {lr: 5E-4}\n")
    config = load_config(f"{tmp_path}/c.yaml", ["adapt.lr=2e-5"])
    assert (config.inner.lr, config.meta.lr, config.adapt.lr) == (1e-4, 5e-4, 2e-5)


def test_a_file_without_a_folder_before_it(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("metatrain", COMMANDS, ["data", "check", packed, "--sheet", "sheet.png"]) == 0
    assert Path("sheet.png").exists()


def test_relative_folders_with_slashes_and_dots(tmp_path, monkeypatch):
    write(tmp_path / "images", {"a/1.png": png(1), "b/1.png": png(2)})
    monkeypatch.chdir(tmp_path)
    assert pack("./images/", "out/").images == 2
    assert pack("images/../images", "./out").already_packed
    monkeypatch.chdir(tmp_path / "images")
    assert pack(".", "../again").images == 2


def test_images_to_adapt_to_in_the_home_folder(tmp_path, monkeypatch):
    write(tmp_path / "home" / "five", {"1.png": png(1), "2.png": png(2)})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    data = load_config(None, ["data.image_size=16"]).data
    assert len(as_support("~/five", data)) == 2
    assert len(as_support(["~/five/1.png"], data)) == 1
    assert len(as_support("~/five/1.png", data)) == 1
    assert not (tmp_path / "~").exists()


def test_warnings_of_others_after_decoding_on_several_threads():
    def decode_quietly(_: int) -> None:
        with no_warnings():
            warnings.warn("a palette with transparency", stacklevel=1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(decode_quietly, range(200)))
        assert not caught
        warnings.warn("of another", stacklevel=1)
        assert len(caught) == 1


def test_a_destination_that_a_link_or_dots_lead_into_the_source(tmp_path):
    source = write(tmp_path / "images", {"a/1.png": png(1), "b/1.png": png(2)})
    (tmp_path / "link").symlink_to(source)
    for dest in (tmp_path / "link" / "out", tmp_path / "other" / ".." / "images" / "out"):
        with pytest.raises(UserError, match="lies in SOURCE"):
            pack(source, dest)
    write(tmp_path / "tables", {"table.csv": b"path,task\n../images/a/1.png,a\n"})
    (tmp_path / "images" / "table.csv").symlink_to(tmp_path / "tables" / "table.csv")
    with pytest.raises(UserError, match="lies in SOURCE"):
        pack(tmp_path / "images" / "table.csv", source)

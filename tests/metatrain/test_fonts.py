"""Fonts: typefaces as tasks, drawings as outlines, and fonts of drawings."""

import io
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import pytest
from fontTools.pens.recordingPen import RecordingPen
from fontTools.ttLib import TTFont
from fontTools.ttLib.tables.DefaultTable import DefaultTable
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from small_models import metatrain, save

import metatrain as package
from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.data.lettering import BASELINE, EM, LETTERS, Typeface
from metatrain.data.outlines import svg_of, trace
from metatrain.data.packed.store import EpisodeStore
from metatrain.model.export.font import font_of, read_letters

FACES = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SPLITS = ("train", "val", "test")
SERIF = (FACES / "DejaVuSerif.ttf").read_bytes()


def likeness(one, other):
    """The ink that two pictures have in common, of the ink that either has."""
    one, other = (255.0 - np.asarray(picture.convert("L")) for picture in (one, other))
    return np.minimum(one, other).sum() / np.maximum(one, other).sum()


def picture_of(letter, size=64):
    return Image.open(io.BytesIO(Typeface(SERIF, size).draw(letter)))


def drawn_by(font, letter, size=64):
    """A letter of a font file as its picture would be: em, baseline, in the middle."""
    face = ImageFont.truetype(io.BytesIO(font), round(EM * size * 4))
    left, _, right, _ = face.getbbox(letter, anchor="ls")
    picture = Image.new("L", (size * 4, size * 4), 255)
    place = ((size * 4 - (right - left)) / 2 - left, round(BASELINE * size * 4))
    ImageDraw.Draw(picture).text(place, letter, fill=0, font=face, anchor="ls")
    return picture.resize((size, size), Image.Resampling.LANCZOS)


@pytest.fixture
def faces(tmp_path):
    """A folder of five typefaces of four families, a damaged one and one without letters."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for name in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral"):
        (folder / f"{name}.ttf").write_bytes((FACES / f"{name}.ttf").read_bytes())
    (folder / "broken.ttf").write_bytes(SERIF[:5000])
    (folder / "signs.ttf").write_bytes((FACES / "STIXSizOneSymReg.ttf").read_bytes())
    return folder


def test_a_folder_of_fonts_is_typefaces_with_letters_as_texts(faces, tmp_path):
    summary = package.pack(faces, tmp_path / "data", size=24)
    assert "5 tasks" in str(summary)
    assert "of too few letters" in str(summary)
    store = EpisodeStore(str(tmp_path / "data"))
    splits = {task.name: split for split in SPLITS for task in store.tasks(split)}
    assert set(splits.values()) == set(SPLITS)
    assert splits["DejaVuSans"] == splits["DejaVuSans-Bold"]
    rows = pq.read_table(str(tmp_path / "data" / "data-00000.parquet")).to_pylist()
    assert "".join(row["text"] for row in rows if row["task"] == "DejaVuSans") == LETTERS
    assert {row["family"] for row in rows if row["task"] == "DejaVuSans-Bold"} == {"DejaVu Sans"}


def test_a_folder_without_a_usable_font_is_refused(tmp_path, capsys):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.ttf").write_bytes(b"no font")
    assert metatrain("pack", tmp_path / "faces", tmp_path / "data") == 1
    assert "no font in" in capsys.readouterr().err


def _with_table(tag: str, content: bytes) -> bytes:
    font = TTFont(io.BytesIO(SERIF))
    font.tables[tag] = table = DefaultTable(tag)
    table.data = content
    buffer = io.BytesIO()
    font.save(buffer)
    return buffer.getvalue()


def _names(count: int) -> bytes:
    """A table of names whose records all have the same text."""
    records = b"".join(struct.pack(">6H", 3, 1, 0x409, i, 60_000, i % 500) for i in range(count))
    return struct.pack(">3H", 0, count, 6 + len(records)) + records + b"\0A" * 32_000


def _segments(count: int) -> bytes:
    """A table of characters in which every segment has all of them."""
    header = struct.pack(">7H", 4, 16 + 8 * count, 0, 2 * count, 0, 0, 0)
    ends, starts = b"\xff\xfe" * count, b"\0\0" * count
    deltas, offsets = b"\0\1" * count, b"\0\0" * count
    return header + ends + b"\0\0" + starts + deltas + offsets


def _groups(count: int) -> bytes:
    group = struct.pack(">3I", 0, 0x10FFFF, 1)
    return struct.pack(">HHIII", 12, 0, 16 + 12 * count, 0, count) + group * count


@pytest.mark.parametrize(
    ("tag", "content"),
    [
        ("name", _names(5000)),
        ("cmap", struct.pack(">4HI", 0, 1, 3, 1, 12) + _segments(8000)),
        ("cmap", struct.pack(">4HI", 0, 1, 3, 10, 12) + _groups(1000)),
    ],
    ids=["names", "segments", "groups"],
)
def test_a_font_whose_parts_lie_on_one_another_is_refused(tag, content):
    with pytest.raises(BadImage, match="huge"):
        Typeface(_with_table(tag, content), 64).letters()


def test_a_letter_has_the_em_and_the_baseline():
    ink = np.asarray(picture_of("H")) < 128
    rows = np.flatnonzero(ink.any(axis=1))
    assert rows[-1] + 1 == round(BASELINE * 64)
    # Capitals of DejaVu have 0.729 of the em.
    assert len(rows) == pytest.approx(0.729 * EM * 64, abs=1.5)


@pytest.mark.parametrize("letter", ["B", "g", "S", "W", "8", "i"])
def test_a_font_draws_what_was_drawn(letter):
    picture = picture_of(letter)
    assert likeness(drawn_by(font_of({letter: picture}, "Mine"), letter), picture) > 0.75


def test_a_font_has_names_metrics_and_no_more_letters_than_were_drawn():
    letters = {letter: picture_of(letter) for letter in "Aaé&"}
    font = TTFont(io.BytesIO(font_of(letters, "Mine, too")))
    assert {*font.getBestCmap()} == {ord(letter) for letter in " Aaé&"}
    assert font["name"].getDebugName(1) == "Mine, too"
    assert font["name"].getDebugName(6) == "Minetoo"
    wide, narrow = (font_of({"x": picture_of(letter)}, "M") for letter in "Wi")
    widths = [TTFont(io.BytesIO(data))["hmtx"]["uni0078"][0] for data in (wide, narrow)]
    assert widths[0] > 2 * widths[1]


def test_blank_drawings_and_nameless_fonts_are_refused():
    with pytest.raises(UserError, match="'A' is blank"):
        font_of({"A": Image.new("L", (64, 64), 255)}, "Mine")
    with pytest.raises(UserError, match="names no font"):
        font_of({"A": picture_of("A")}, "№")


# Rectangles and the rings around them, anywhere in a picture, cut by its edges too.
boxes = st.tuples(*[st.integers(-4, 28)] * 2, *[st.integers(4, 20)] * 2)


@settings(max_examples=25, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=3))
def test_outlines_are_closed_and_enclose_the_ink(shapes):
    picture = Image.new("L", (32, 32), 255)
    for left, top, width, height in shapes:
        box = (left, top, left + width, top + height)
        ImageDraw.Draw(picture).rectangle(box, outline=0, width=3)
    pen = RecordingPen()
    trace(picture, pen)
    begun = [call for call, _ in pen.value if call == "moveTo"]
    closed = [call for call, _ in pen.value if call == "closePath"]
    assert len(begun) == len(closed)
    # By the shoelace formula over the ends of all curves: holes count against what is around them.
    area, path = 0.0, []
    for call, points in pen.value:
        path += [points[-1]] if points else []
        if call == "closePath":
            x, y = np.array(path).T
            area += (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
            path = []
    ink = (255 - np.asarray(picture, float)).sum() / 255
    assert abs(area) == pytest.approx(ink, rel=0.2, abs=12)


def test_svg_is_rendered_as_the_picture():
    resvg_py = pytest.importorskip("resvg_py")
    picture = picture_of("R")
    data = bytes(resvg_py.svg_to_bytes(svg_string=svg_of(picture).decode(), width=64))
    drawn = Image.open(io.BytesIO(data)).convert("RGBA")
    white = Image.new("RGBA", drawn.size, "white")
    assert likeness(Image.alpha_composite(white, drawn), picture) > 0.75


def test_drawings_are_read_by_their_names(tmp_path):
    # The last is as macOS spells it: an e and an accent.
    for name in ("A.png", "U+0061.png", ".hidden.png", "e\u0301.png"):
        picture_of("A").save(tmp_path / name)
    assert [*read_letters(str(tmp_path))] == ["A", "a", "\u00e9"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("AB.png",), "is no letter"),
        (("U+D800.png",), "is no letter"),
        (("A.png", "U+0041.png"), "two drawings of 'A'"),
        ((), "holds no drawings"),
    ],
    ids=["word", "surrogate", "twice", "none"],
)
def test_drawings_with_other_names_are_refused(tmp_path, names, sentence):
    for name in names:
        picture_of("A").save(tmp_path / name)
    with pytest.raises(UserError, match=re.escape(sentence)):
        read_letters(str(tmp_path))


@pytest.fixture
def told(packed, tmp_path):
    """The folder of an untrained model that draws grey, and is told a letter."""
    return save(packed, tmp_path / "told", "generator.conditions=[text]", "data.channels=1")


def test_a_model_completes_a_font(told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "five").mkdir()
    for letter in "AB":
        picture_of(letter).save(f"five/{letter}.png")
    words = ["font", "five", "--out", "mine.otf", "--characters", "ABC ab"]
    assert metatrain(*words) == 1
    assert "name one by --model" in capsys.readouterr().err
    assert metatrain(*words, "--model", told, "--drawings", "all") == 0
    assert {*TTFont("mine.otf").getBestCmap()} == {ord(letter) for letter in " ABCab"}
    # The drawings are what the font is made of, and make it again.
    assert metatrain("font", "all", "--out", "again.otf", "--name", "mine") == 0
    for letter in "AB":
        assert likeness(drawn_by(Path("again.otf").read_bytes(), letter), picture_of(letter)) > 0.8


def test_each_of_many_images_has_its_own_text(told):
    adapted = package.load(told).adapt([picture_of("A")], given={"text": "A"}, steps=1)
    # More than are sampled at once.
    texts = [*LETTERS, *"éèêë"]
    one = adapted.sample(len(texts), given={"text": texts}, steps=1)
    changed = adapted.sample(len(texts), given={"text": [*texts[:-1], "Z"]}, steps=1)
    assert (one[:-1] == changed[:-1]).all()
    assert (one[-1] != changed[-1]).any()


def test_a_model_without_texts_completes_nothing(tmp_path, capsys):
    picture_of("A").save(tmp_path / "A.png")
    words = ["font", tmp_path, "--model", "emoji", "--out", tmp_path / "mine.otf"]
    assert metatrain(*words) == 1
    assert "no condition of the kind text" in capsys.readouterr().err


def test_drawings_are_generated_as_outlines(told, tmp_path):
    picture_of("A").save(tmp_path / "A.png")
    new, many = tmp_path / "new", tmp_path / "many"
    assert metatrain("adapt", told, tmp_path / "A.png", "--text", "A", "--out", new) == 0
    assert metatrain("generate", new, "-n", 2, "--format", "svg", "--out", many) == 0
    assert sorted(path.name for path in many.iterdir()) == ["0000.svg", "0001.svg"]
    drawing = ElementTree.fromstring((many / "0001.svg").read_bytes())
    assert drawing.get("viewBox") == "0 0 16 16"
    assert [element.tag.rpartition("}")[2] for element in drawing] == ["path"]


def test_outlines_are_of_grey_models_and_one_a_file(tmp_path, capsys):
    examples = Path(__file__).parents[2] / "examples" / "lighthouse"
    assert metatrain("adapt", "emoji", examples, "--out", tmp_path, "--steps", 1) == 0
    words = ["generate", tmp_path, "-n", 1, "--format", "svg", "--out"]
    assert metatrain(*words, tmp_path / "many") == 1
    assert "black on white" in capsys.readouterr().err
    assert metatrain(*words, tmp_path / "sheet.png") == 1
    assert "give a folder" in capsys.readouterr().err

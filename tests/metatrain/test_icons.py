"""The icon benchmark is fair and lawful, the same for everybody, and safe to make."""

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.images import BadImage
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing import npm
from metatrain.data.packing.icons import choice, package, source
from metatrain.data.packing.icons.choice import Variant
from metatrain.data.packing.icons.drawing import draw, fingerprint
from metatrain.data.packing.icons.names import head_word, split_of, task_of
from metatrain.data.packing.icons.package import ICONIFY
from metatrain.data.packing.icons.sets import FREE, Icon, usable_sets
from metatrain.data.packing.npm import integrity_of
from metatrain.data.packing.pack import pack

SETS, NARROW, WIDE = 6, Variant(images=6, sources=4), Variant(images=3, sources=3)
COMMON = ["home", "home-plus", "arrow", "user", "bell", "cloud", "star", "lock", "map", "key"]
RARE = ["rare", "scarce"]


def body(seed: int) -> str:
    """Random squares on a 6 x 6 board: no two such are near each other."""
    black = np.argwhere(np.random.default_rng(seed).random((6, 6)) < 0.5)
    return (
        f'<path fill="currentColor" d="{"".join(f"M{4 * x} {4 * y}h4v4h-4z" for x, y in black)}"/>'
    )


def icon_set(name: str, names: list[str], seed: int, **info) -> dict:
    icons = {icon: {"body": body(seed + i)} for i, icon in enumerate(names)}
    told = {"name": name.title(), "author": {"name": f"The | {name}"}, "license": {"spdx": "MIT"}}
    return {"prefix": name, "info": told | info, "icons": icons, "width": 24, "height": 24}


def fixture_sets() -> list[dict]:
    """Sets in two styles each; some of which may not be used."""
    styled = [f"{name}{style}" for name, style in product(COMMON, ("", "-filled"))]
    sets = []
    for i in range(SETS):
        names = styled + (RARE if i < 5 else [])
        sets.append(icon_set(f"set{chr(97 + i)}", names, 1000 * i))
    home = sets[0]["icons"]
    # A near twin of one that is there, an icon that is gone, and another name.
    home["home-2"] = home["home"] | {"body": home["home"]["body"].replace("z", "z ")}
    home["bell-3"] = {"body": body(77), "hidden": True}
    sets[0]["aliases"] = {"house": {"parent": "home"}}
    for i, licence in enumerate(("CC-BY-SA-4.0", "CC-BY-NC-4.0", "GPL-3.0", "MPL-2.0", "OFL-1.1")):
        sets.append(icon_set(f"unfree{chr(97 + i)}", styled, 10_000 * i, license={"spdx": licence}))
    sets.append(icon_set("colourful", styled, 70_000, palette=True))
    sets.append(icon_set("brands", styled, 80_000, category="Logos"))
    return sets


def write_package(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def members_of(sets: list[dict]) -> dict[str, bytes]:
    return {f"package/json/{s['prefix']}.json": json.dumps(s).encode() for s in sets}


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> dict[str, Path]:
    """The benchmark of a small package, in all its variants, and one twice."""
    root = tmp_path_factory.mktemp("icons")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, write_package(cached(root), members_of(fixture_sets())), root)
        pack("icons", str(root / "narrow"))
        pack("icons", str(root / "again"))
        pack("icons", str(root / "large"), size=64)
        pack("icons", str(root / "wide"), variant="wide")
    return {name: root / name for name in ("narrow", "again", "large", "wide")}


def cached(root: Path) -> Path:
    return root / "metatrain" / f"iconify-json-{ICONIFY.version}.tgz"


def use(patch: pytest.MonkeyPatch, archive: Path, root: Path) -> None:
    """Make the archive the one that is known, with a benchmark to its measure; without network."""
    from metatrain.data.packing import built_in

    patch.setenv("XDG_CACHE_HOME", str(root))
    patch.setenv("PATH", "")
    patch.setattr(npm, "REGISTRY", "http://127.0.0.1:9")
    patch.setattr(source, "ICONIFY", replace(ICONIFY, integrity=integrity_of(archive)))
    patch.setitem(built_in.BUILT_IN["icons"], None, lambda size: source.icon_source(NARROW, size))
    patch.setitem(built_in.BUILT_IN["icons"], "wide", lambda size: source.icon_source(WIDE, size))


def rows_of(dataset: Path) -> list[dict]:
    return pq.read_table(dataset / "data-00000.parquet").to_pylist()


def files_of(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset.iterdir()}


# What is in it


def test_packing_twice_gives_the_same_bytes(packed):
    files = files_of(packed["narrow"])
    assert set(files) == {"data-00000.parquet", "manifest.parquet", "ATTRIBUTION.md"}
    assert files == files_of(packed["again"])


def test_a_task_is_a_name_without_its_styles_in_enough_sets(packed):
    rows = rows_of(packed["narrow"])
    assert {row["task"] for row in rows} <= set(COMMON)
    assert len({row["task"] for row in rows}) >= len(COMMON) - 2
    arrows = [row for row in rows if row["task"] == "arrow"]
    assert {row["icon"].partition(":")[2] for row in arrows} == {"arrow", "arrow-filled"}
    assert len({row["source"] for row in arrows}) == SETS


def test_the_wide_variant_has_what_few_sets_draw_and_all_of_the_other_in_the_same_splits(packed):
    narrow, wide = (
        {row["task"]: row["split"] for row in rows_of(packed[v])} for v in ("narrow", "wide")
    )
    assert narrow.items() <= wide.items()
    assert set(wide) - set(narrow) >= set(RARE)


def test_another_size_has_the_same_icons_in_the_same_places(packed):
    small, large = rows_of(packed["narrow"]), rows_of(packed["large"])
    told = ("task", "index", "split", "source", "icon", "licence")
    assert [[row[k] for k in told] for row in small] == [[row[k] for k in told] for row in large]
    assert {(row["width"], row["height"]) for row in large} == {(64, 64)}


def test_only_free_sets_of_one_colour_are_used_and_all_of_them_are_named(packed):
    rows = rows_of(packed["narrow"])
    assert {row["icon"].partition(":")[0] for row in rows} == {f"set{c}" for c in "abcdef"}
    assert {row["licence"] for row in rows} == {"MIT"}
    attribution = (packed["narrow"] / "ATTRIBUTION.md").read_text()
    for letter in "abcdef":
        count = sum(row["icon"].startswith(f"set{letter}:") for row in rows)
        assert f"| Set{letter} | The \\| set{letter} | MIT | {count} |" in attribution
    assert "Unfree" not in attribution
    assert "Colourful" not in attribution


@pytest.mark.parametrize(
    "licence", ["CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "LGPL-3.0", "GPL-2.0-only", ""]
)
def test_a_licence_that_asks_for_more_than_attribution_is_not_free(licence):
    assert not FREE.fullmatch(licence)


def test_near_twins_hidden_icons_and_other_names_are_left_out(packed):
    icons = {row["icon"] for row in rows_of(packed["wide"])}
    assert len(icons & {"seta:home", "seta:home-2"}) == 1
    assert "seta:bell-3" not in icons
    assert "seta:house" not in icons


def test_no_two_of_a_task_are_near_and_no_evaluation_image_is_near_a_training_image(packed):
    rows = rows_of(packed["wide"])
    ink = [fingerprint(Image.open(io.BytesIO(row["image"]))) for row in rows]
    for (a, first), (b, second) in product(zip(rows, ink, strict=True), repeat=2):
        across = (a["split"] == "train") != (b["split"] == "train")
        if a is not b and (a["task"] == b["task"] or across):
            assert (first != second).sum() > 8


def test_an_evaluation_icon_near_a_training_icon_is_dropped(tmp_path, monkeypatch):
    sets = fixture_sets()
    train = next(name for name in reversed(COMMON) if split_of(name) == "train")
    other = next(name for name in COMMON if split_of(name) != "train")
    sets[0]["icons"][other] = sets[0]["icons"][train]
    use(monkeypatch, write_package(cached(tmp_path), members_of(sets)), tmp_path)
    pack("icons", str(tmp_path / "set"), variant="wide")
    icons = {row["icon"] for row in rows_of(tmp_path / "set")}
    assert f"seta:{train}" in icons
    assert f"seta:{other}" not in icons
    assert f"setb:{other}" in icons


def test_support_and_query_can_come_from_different_sets(packed):
    tasks = EpisodeStore(str(packed["narrow"])).tasks("train")
    rows = [row for row in rows_of(packed["narrow"]) if row["task"] == tasks[0].name]
    for (i, a), (j, b) in product(enumerate(rows), repeat=2):
        assert (tasks[0].sources[i] == tasks[0].sources[j]) == (a["source"] == b["source"])


# Names


WORDS = st.lists(st.sampled_from(["plus", "off", "left", "s", "2"]), max_size=3)


@given(st.sampled_from(COMMON), WORDS)
def test_no_head_word_is_in_two_splits(head, words):
    task = "-".join([head, *words])
    assert split_of(task) == split_of(head)
    assert head_word(task) == head_word(f"{head}s")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("arrow-left-02-filled", "arrow-left"),
        ("home-outline", "home"),
        ("baseline-home", "home"),
        ("traffic-light", "traffic-light"),
        ("number-2", "number-2"),
        ("24", None),
        ("a", None),
    ],
)
def test_what_tells_styles_apart_is_no_part_of_a_task(name, task):
    assert task_of(name, {"outline", "filled", "baseline"}) == task


# Hostile packages


def test_a_package_with_another_hash_is_not_used(tmp_path, monkeypatch):
    archive = write_package(cached(tmp_path), members_of(fixture_sets()))
    use(monkeypatch, archive, tmp_path)
    monkeypatch.setattr(source, "ICONIFY", replace(ICONIFY, integrity="sha512-other"))
    with pytest.raises(UserError, match=r"install npm or open the network .* or put the file"):
        pack("icons", str(tmp_path / "set"))
    assert not (tmp_path / "set").exists()


def test_what_a_registry_gives_is_verified_before_it_is_kept(tmp_path, monkeypatch):
    served = write_package(tmp_path / "@iconify/json/-/json-2.tgz", members_of(fixture_sets()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(npm, "REGISTRY", tmp_path.as_uri())
    known = replace(ICONIFY, version="2", integrity=integrity_of(served))
    assert known.fetched().read_bytes() == served.read_bytes()
    known.cached.write_bytes(b"damaged")
    served.write_bytes(served.read_bytes() + b"and more")
    with pytest.raises(UserError, match="its sha512 differs"):
        known.fetched()
    assert known.cached.read_bytes() == b"damaged"


def test_members_that_are_no_icon_sets_are_never_read(tmp_path, monkeypatch):
    monkeypatch.setattr(package, "SET_BYTES", 100_000)
    good = members_of(fixture_sets()[:1])
    hostile = {
        "../evil.json": b"{}",
        "/package/json/root.json": b"{}",
        "package/json/../../up.json": b"{}",
        "package/json/huge.json": b" " * (package.SET_BYTES + 1),
        "package/json/empty.json": b"",
        "package/index.js": b"boom",
    }
    archive = write_package(tmp_path / "a.tgz", hostile | good)
    assert [s["prefix"] for s in package.packaged_sets(archive)] == ["seta"]
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo("package/json/link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert list(package.packaged_sets(archive)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tgz"]


@pytest.mark.parametrize("data", [b"{", b"[" * 100_000, b"[]", b'{"info": 3}', b'"text"'])
def test_a_malformed_set_is_a_sentence(tmp_path, data):
    archive = write_package(tmp_path / "a.tgz", {"package/json/bad.json": data})
    with pytest.raises(UserError, match="pack again"):
        list(usable_sets(package.packaged_sets(archive)))


def test_a_cut_archive_is_a_sentence(tmp_path):
    archive = write_package(tmp_path / "a.tgz", members_of(fixture_sets()))
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(UserError, match="cannot be read as icon sets"):
        list(package.packaged_sets(archive))


# Hostile drawings

MASKS = "".join(
    f'<mask id="m{i}"><path mask="url(#m{i + 1})" d="M0 0h9v9z"/>'
    f'<path mask="url(#m{i + 1})" d="M0 0h9v9z"/></mask>'
    for i in range(40)
)
HOSTILE = {
    "an image by path": '<image href="/etc/passwd" width="9" height="9"/>',
    "an image by URL": '<image href="http://127.0.0.1:9/" width="9" height="9"/>',
    "an old link": '<a xmlns:x="http://www.w3.org/1999/xlink" x:href="file:///etc/passwd"/>',
    "a paint by URL": '<path fill="url(http://127.0.0.1:9/)" d="M0 0h9v9z"/>',
    "a paint by escaped URL": r'<path fill="u\72l(x)" d="M0 0h9v9z"/>',
    "a style": '<style>@import url("http://127.0.0.1:9/");</style>',
    "a style attribute": '<path style="fill:url(x)" d="M0 0h9v9z"/>',
    "a script": "<script>1</script>",
    "another namespace": '<x xmlns="urn:x"/>',
    "a use": '<path id="a" d="M0 0h9v9z"/><use href="#a"/>',
    "a filter": '<filter id="f"><feGaussianBlur stdDeviation="9999"/></filter>',
    "text": "<text>A</text>",
    "masks of masks": MASKS + '<path mask="url(#m0)" d="M0 0h9v9z"/>',
    "an entity": "<path d='&a;'/>",
    "a document type": '</svg><!DOCTYPE a [<!ENTITY a "b">]><svg>',
    "two roots": "</svg><svg>",
    "very many": "<g/>" * 300,
    "very deep": "<g>" * 2500 + "</g>" * 2500,
    "very long": "<!--" + "x" * 10_000 + "-->",
    "cut": "<path",
}


@pytest.mark.parametrize("svg", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_drawing_with_more_than_shapes_never_reaches_the_renderer(svg, monkeypatch):
    import resvg_py

    monkeypatch.setattr(resvg_py, "svg_to_bytes", None)
    with pytest.raises(BadImage):
        draw(Icon("set", "bad", svg, (0, 0, 24, 24)), 32)


@pytest.mark.parametrize(
    "box", [(0, 0, 1e9, 1e9), (0, 0, 0, 0), (0, 0, -1, 5), (0, 0, float("nan"), 24)]
)
def test_a_drawing_of_no_sane_size_is_refused(box):
    with pytest.raises(BadImage, match="no size"):
        draw(Icon("set", "bad", body(1), box), 32)


def test_a_drawing_is_black_on_white_and_clipped_shapes_are_drawn():
    clipped = (
        '<defs><clipPath id="c"><rect width="12" height="24"/></clipPath></defs>'
        '<g clip-path="url(#c)"><rect width="24" height="24" fill="currentColor"/></g>'
    )
    image = np.asarray(draw(Icon("set", "half", clipped, (0, 0, 24, 24)), 32))
    assert (image.shape, image.dtype) == ((32, 32), np.uint8)
    assert (image[:, :16] == 0).all()
    assert (image[:, 16:] == 255).all()


def test_without_the_renderer_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(UserError, match=r"pip install 'metatrain\[icons\]'"):
        draw(Icon("set", "good", body(1), (0, 0, 24, 24)), 32)


# Variants of the built-in sources


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["glyphs", "--wide"], "glyphs has no variant 'wide'; pack icons, which has it"),
        (["icons", "--task", "style"], "icons has no variant 'style'; pack glyphs, which has it"),
        (["folder", "--wide"], "folder has no variant 'wide'; pack icons, which has it"),
    ],
)
def test_a_variant_that_a_source_does_not_have_is_a_sentence(arguments, message, tmp_path):
    code = "from metatrain.cli.main import main; main()"
    command = [sys.executable, "-c", code, "pack", arguments[0], str(tmp_path / "set")]
    messages = subprocess.run([*command, *arguments[1:]], capture_output=True, text=True)
    assert messages.returncode == 1
    assert message in messages.stderr
    assert "Traceback" not in messages.stderr


def test_a_task_has_at_most_three_of_a_source_and_sixty_four():
    many = [
        icon_set(f"set{chr(97 + i)}x", [f"bell-{n}" for n in range(6)], 500 * i) for i in range(25)
    ]
    variant = Variant(images=20, sources=8)
    result = choice.chosen(choice.candidates(usable_sets(many), variant), variant)["bell"]
    assert len(result) == 64
    assert max(sum(f.source == g.source for f in result) for g in result) == 3

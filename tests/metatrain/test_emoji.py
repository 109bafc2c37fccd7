"""The emoji benchmark is fair and lawful, the same for everybody, and made of what it says."""

import io
import json
import tarfile
from collections import Counter, defaultdict
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.config import DataConfig
from metatrain.data.loader import open_tasks
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing import npm
from metatrain.data.packing.built_in import BUILT_IN
from metatrain.data.packing.emoji import source
from metatrain.data.packing.emoji.catalogue import EMOJIBASE, Catalogue, Emoji, read_catalogue
from metatrain.data.packing.emoji.drawing import colours_of
from metatrain.data.packing.emoji.hands import HANDS, read_hands
from metatrain.data.packing.emoji.protocol import BY_HAND, NEW_HAND, UNSEEN, subgroup_splits
from metatrain.data.packing.icons.package import ICONIFY, packaged_sets
from metatrain.data.packing.npm import NpmPackage, integrity_of
from metatrain.data.packing.pack import pack
from metatrain.evaluation.episodes.benchmark import read_benchmark
from metatrain.evaluation.episodes.episode_list import SHAPES, list_episodes, read_list

GROUPS = {"animals": 4, "food": 4, "tools": 4, "flags": 1}
OF_SUBGROUP = 5
CODED = ("twemoji", "noto", "fluent-emoji-flat")


def label_of(group: str, subgroup: int, number: int) -> str:
    return f"{group[:-1]} {'abcd'[subgroup]} {'vwxyz'[number]}"


LABELS = {
    label_of(group, subgroup, number): f"1F{i}{subgroup}{number}"
    for i, (group, subgroups) in enumerate(GROUPS.items(), start=10)
    for subgroup, number in product(range(subgroups), range(OF_SUBGROUP))
}


def catalogue_files() -> dict[str, object]:
    """The files of emojibase that are read, with a skin tone, and with names that mislead."""
    entries, groups, subgroups = [], {}, {}
    for g, (group, count) in enumerate(GROUPS.items()):
        groups[str(g)] = group
        for s, n in product(range(count), range(OF_SUBGROUP)):
            label = label_of(group, s, n)
            subgroups[str(10 * g + s)] = f"{group}-{s}"
            tone = {"label": f"{label}: dark", "hexcode": f"{LABELS[label]}-1F3FF", "emoji": "x"}
            entries.append(
                {"label": label, "hexcode": LABELS[label], "emoji": label.upper()}
                | {"tags": ["soft", label, "small"], "group": g, "subgroup": 10 * g + s}
                | {"skins": [tone]}
            )
    entries.append({"label": "regional indicator A", "hexcode": "1F1E6", "emoji": "A"})
    first, second, *_ = LABELS.values()
    names = {code: label.upper() for label, code in LABELS.items()}
    twice = {first: ["two_of_them", "a_nickname"], second: "two_of_them"}
    return {
        "en/data": entries,
        "meta/groups": {"groups": groups, "subgroups": subgroups},
        "meta/unicode-names": names,
        **{f"en/shortcodes/{name}": twice for name in ("cldr", "github", "iamcal", "emojibase")},
    }


def body(seed: int) -> str:
    """Random squares in random colours on a 6 x 6 board: no two such are near each other."""
    random = np.random.default_rng(seed)
    squares = np.argwhere(random.random((6, 6)) < 0.6)
    return "".join(
        f'<path fill="#{random.integers(2**23):06x}" d="M{4 * x} {4 * y}h4v4h-4z"/>'
        for x, y in squares
    )


def fixture_sets() -> list[dict]:
    """Sets of all hands, each with names of its kind, and sets that may not be used."""
    sets = [emoji_set(name, 1000 * i) for i, name in enumerate(HANDS)]
    sets.append(emoji_set("openmoji", 90_000, spdx="CC-BY-SA-4.0"))
    sets.append(emoji_set("fluent-emoji", 91_000))
    sets.append(emoji_set("set-of-logos", 92_000))
    return sets


def emoji_set(name: str, seed: int, spdx: str = "MIT") -> dict:
    spell = {
        "fxemoji": lambda label: label.replace(" ", ""),
        "streamline-emojis": lambda label: f"{label.replace(' ', '-')}-1",
    }.get(name, lambda label: label.replace(" ", "-"))
    names = {spell(label): label for label in LABELS}
    icons = {icon: {"body": body(seed + i)} for i, icon in enumerate(names)}
    info = {"name": name.title(), "author": {"name": f"The {name}"}, "license": {"spdx": spdx}}
    parsed = {"prefix": name, "info": info | {"palette": True}, "icons": icons}
    if name in CODED:
        chars = {f"{LABELS[label].lower()}-fe0f": icon for icon, label in names.items()}
        first = next(iter(LABELS.values()))
        icons["dark"] = {"body": body(seed + 500)}
        parsed["chars"] = chars | {f"{first.lower()}-1f3ff": "dark"}
    return parsed | {"width": 24, "height": 24}


def write_package(known: NpmPackage, files: dict[str, object]) -> NpmPackage:
    """Write an archive of JSON files to the cache, and return it as the package that is known."""
    known.cached.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(known.cached, "w:gz") as tar:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}.json")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return replace(known, integrity=integrity_of(known.cached))


def use(patch: pytest.MonkeyPatch, root: Path, sets: list[dict], **files: object) -> None:
    """Make packages of the sets and of the catalogue those that are known; without network."""
    patch.setenv("XDG_CACHE_HOME", str(root))
    patch.setenv("PATH", "")
    patch.setattr(npm, "REGISTRY", "http://127.0.0.1:9")
    icons = write_package(ICONIFY, {f"json/{s['prefix']}": s for s in sets})
    patch.setattr(source, "ICONIFY", icons)
    patch.setattr(source, "EMOJIBASE", write_package(EMOJIBASE, catalogue_files() | files))
    for variant, whole in (("hand", BY_HAND), ("new-hand", NEW_HAND)):
        small = partial(source.emoji_source, replace(whole, images=OF_SUBGROUP))
        patch.setitem(BUILT_IN["emoji"], variant, small)


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> dict[str, Path]:
    """The benchmark of small packages, by every protocol, and one twice."""
    root = tmp_path_factory.mktemp("emoji")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, root, fixture_sets())
        pack("emoji", str(root / "emoji"))
        pack("emoji", str(root / "again"))
        pack("emoji", str(root / "small"), size=32, background="keep")
        pack("emoji", str(root / "hand"), variant="hand")
        pack("emoji", str(root / "new-hand"), variant="new-hand")
    return {n: root / n for n in ("emoji", "again", "small", "hand", "new-hand")}


def rows_of(dataset: Path) -> list[dict]:
    return pq.read_table(dataset / "data-00000.parquet").to_pylist()


def files_of(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset.iterdir()}


# What is in it


@pytest.mark.long
def test_packing_twice_gives_the_same_bytes(packed):
    files = files_of(packed["emoji"])
    assert set(files) == {"data-00000.parquet", "manifest.parquet", "ATTRIBUTION.md"}
    assert files == files_of(packed["again"])


def test_a_task_is_an_emoji_and_no_two_of_its_drawings_are_of_one_hand(packed):
    rows = rows_of(packed["emoji"])
    assert {row["task"] for row in rows} == {name for name in LABELS if "flag" not in name}
    hands = defaultdict(list)
    for row in rows:
        hands[row["task"]].append(row["source"])
    assert all(sorted(of_task) == sorted(HANDS.values()) for of_task in hands.values())


def test_support_and_query_are_never_of_one_hand(packed):
    data = DataConfig(path=str(packed["emoji"]), shots=3, queries=2)
    sampler = open_tasks(data).sampler("train", seed=0, meta_batch=1)
    sources = {(row["task"], row["index"]): row["source"] for row in rows_of(packed["emoji"])}
    assert sampler.epoch
    for step in range(sampler.epoch):
        plan = sampler.plan(step, 0)
        support, query = (
            {sources[plan.task.name, i] for i in images} for images in (plan.support, plan.query)
        )
        assert not support & query


def test_by_hand_a_task_is_a_subgroup_and_the_unseen_hand_is_only_where_it_is_tested(packed):
    rows, new = (rows_of(packed[name]) for name in ("hand", "new-hand"))
    assert all(row["task"] == f"{row['source']}: {row['subgroup']}" for row in rows + new)
    seen = set(HANDS.values()) - {UNSEEN}
    assert {row["source"] for row in rows} == seen
    assert {row["source"] for row in new if row["split"] == "test"} == {UNSEEN}
    assert {row["source"] for row in new if row["split"] != "test"} == seen
    learned = [[r for r in of if r["split"] != "test"] for of in (rows, new)]
    assert learned[0] == learned[1]


@pytest.mark.parametrize("name", ["emoji", "hand"])
def test_no_subgroup_is_in_two_splits_and_every_group_is_in_each(packed, name):
    splits = defaultdict(set)
    for row in rows_of(packed[name]):
        splits[row["subgroup"]].add(row["split"])
    assert set(map(len, splits.values())) == {1}
    for group in set(GROUPS) - {"flags"}:
        of_group = Counter(min(s) for name, s in splits.items() if name.startswith(group))
        assert of_group == {"train": 2, "val": 1, "test": 1}


def test_another_size_and_ground_have_the_same_drawings_in_the_same_places(packed):
    large, small = rows_of(packed["emoji"]), rows_of(packed["small"])
    told = ("task", "index", "split", "source", "icon", "licence", "caption", "emoji")
    assert [[row[k] for k in told] for row in large] == [[row[k] for k in told] for row in small]
    assert {(row["width"], row["height"]) for row in large} == {(64, 64)}
    assert {(row["width"], row["height"]) for row in small} == {(32, 32)}


def test_the_ground_is_white_or_clear(packed):
    for row, clear in zip(rows_of(packed["emoji"]), rows_of(packed["small"]), strict=True):
        image, cut_out = (Image.open(io.BytesIO(r["image"])) for r in (row, clear))
        assert (image.mode, cut_out.mode) == ("RGB", "RGBA")
        pixels, alpha = np.asarray(image), np.asarray(cut_out)[..., 3]
        ground = alpha.repeat(2, axis=0).repeat(2, axis=1) == 0
        assert ground.any()
        assert (pixels[ground] > 250).mean() > 0.95


def test_names_and_tags_are_captions_that_episodes_read(packed):
    data = DataConfig(path=str(packed["emoji"]), shots=3, queries=2, conditions={"caption": "text"})
    tasks = open_tasks(data)
    episode = tasks.read(tasks.sampler("train", seed=0, meta_batch=1).plan(0, 0))
    assert episode.support.given["caption"] == (f"{episode.task}, soft, small",) * 3
    assert all(row["emoji"] == row["task"].upper() for row in rows_of(packed["emoji"]))


def test_only_free_hands_are_used_and_all_of_them_are_named(packed):
    rows = rows_of(packed["emoji"])
    assert {row["icon"].partition(":")[0] for row in rows} == set(HANDS)
    assert not {row["icon"] for row in rows} & {f"{name}:dark" for name in CODED}
    attribution = (packed["emoji"] / "ATTRIBUTION.md").read_text()
    for name in HANDS:
        count = sum(row["icon"].startswith(f"{name}:") for row in rows)
        assert f"| {name.title()} | The {name} | MIT | {count} |" in attribution
    assert "emojibase-data" in attribution
    assert "Openmoji" not in attribution


def test_no_two_of_a_task_are_near_and_no_evaluation_image_is_near_a_training_image(
    tmp_path, monkeypatch
):
    sets = fixture_sets()
    splits = subgroup_splits(
        {g: {f"{g}-{s}" for s in range(n)} for g, n in GROUPS.items() if g != "flags"}
    )
    train, test = (
        label_of("animals", next(s for s in range(4) if splits[f"animals-{s}"] == split), 0)
        for split in ("train", "test")
    )
    twemoji, noto = (next(s for s in sets if s["prefix"] == n) for n in ("twemoji", "noto"))
    names = [label.replace(" ", "-") for label in (train, test)]
    twemoji["icons"][names[0]] = noto["icons"][names[0]]
    twemoji["icons"][names[1]] = noto["icons"][names[0]]
    use(monkeypatch, tmp_path, sets)
    pack("emoji", str(tmp_path / "set"))
    icons = {row["icon"] for row in rows_of(tmp_path / "set")}
    assert len(icons & {f"twemoji:{names[0]}", f"noto:{names[0]}"}) == 1
    assert f"twemoji:{names[1]}" not in icons
    assert f"noto:{names[1]}" in icons


def test_a_list_for_small_tasks_has_three_shots(packed):
    store = EpisodeStore(str(packed["emoji"]))
    listed = list_episodes(store, "test")
    assert {episode.counts for episode in listed.episodes} == {(3, 2, 2)}
    assert listed.shape == SHAPES[1]
    path = packed["emoji"].parent / "list.json"
    path.write_bytes(listed.content())
    assert read_list(str(path), store) == listed


def test_more_shots_than_a_list_has_are_refused(packed):
    store = EpisodeStore(str(packed["emoji"]))
    listed = list_episodes(store, "test")
    assert read_benchmark(store, listed, shots=2, image_size=16, channels=3).shots == 2
    with pytest.raises(UserError, match=r"up to 3 shots, not 5.*choose 3 shots.*16 images"):
        read_benchmark(store, listed, shots=5, image_size=16, channels=3)


def test_a_protocol_of_the_emoji_is_no_variant_of_others(tmp_path):
    with pytest.raises(UserError, match="icons has no variant 'hand'; pack emoji, which has it"):
        pack("icons", str(tmp_path / "set"), variant="hand")


# Names and splits


@given(
    st.dictionaries(
        st.text("abc", min_size=1), st.sets(st.text("defg"), min_size=3, max_size=20), max_size=6
    )
)
def test_every_group_has_subgroups_in_every_split(groups):
    groups = {g: {f"{g}-{s}" for s in subgroups} for g, subgroups in groups.items()}
    splits = subgroup_splits(groups)
    for subgroups in groups.values():
        assert {splits[subgroup] for subgroup in subgroups} == {"train", "val", "test"}


def test_a_name_of_two_emoji_names_none_and_the_surest_vocabulary_counts():
    one, two = (Emoji(c, c, (), "group", "subgroup") for c in "ab")
    names = [{"1": ["cat"], "2": ["both"]}, {"1": ["both", "x", "The_Hat"], "2": ["x", "cat"]}]
    catalogue = Catalogue({"1": one, "2-FE0F": two}, names)
    assert [catalogue.with_name(n) for n in ("cat", "both", "x", "the-hat")] == [
        one,
        two,
        None,
        one,
    ]
    assert [catalogue.with_code(c) for c in ("1-fe0f", "2", "3")] == [one, two, None]


def test_flags_and_components_are_no_part_of_the_catalogue(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    catalogue = read_catalogue(write_package(EMOJIBASE, catalogue_files()).fetched())
    assert catalogue.with_name("FLAG A V") is None
    assert catalogue.with_name("regional indicator A") is None
    assert catalogue.with_name("a nickname") is not None
    assert catalogue.with_name("two of them") is None


# Hostile packages


@pytest.mark.parametrize(
    "files",
    [
        {"meta/groups": []},
        {"en/data": [{"group": 0}]},
        {"en/data": "text"},
        {"meta/unicode-names": [3]},
        {"en/shortcodes/cldr": {"1": 5}},
    ],
)
def test_a_malformed_catalogue_is_a_sentence(tmp_path, monkeypatch, files):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    archive = write_package(EMOJIBASE, catalogue_files() | files).fetched()
    with pytest.raises(UserError, match="cannot be read as a catalogue of emoji"):
        read_catalogue(archive)


def test_a_catalogue_with_another_hash_is_not_used(tmp_path, monkeypatch):
    use(monkeypatch, tmp_path, fixture_sets())
    monkeypatch.setattr(source, "EMOJIBASE", replace(EMOJIBASE, integrity="sha512-other"))
    with pytest.raises(UserError, match=r"emojibase-data .* or put the file"):
        pack("emoji", str(tmp_path / "set"))
    assert not (tmp_path / "set").exists()


# The real packages


@pytest.mark.skipif(
    not (EMOJIBASE.cached.exists() and ICONIFY.cached.exists()), reason="packages not downloaded"
)
def test_seven_hands_draw_a_baby_chick_in_yellow():
    catalogue = read_catalogue(EMOJIBASE.fetched())
    sets, drawings = read_hands(packaged_sets(ICONIFY.fetched(), HANDS), catalogue)
    assert {icons.name for icons in sets} == set(HANDS)
    chicks = [drawing for drawing in drawings if drawing.emoji.label == "baby chick"]
    assert {drawing.hand for drawing in chicks} == set(HANDS.values())
    assert all(drawing.emoji.subgroup == "animal-bird" for drawing in chicks)
    for drawing in chicks:
        red, green, blue = colours_of(source.draw_png(drawing.icon, 32)).mean(axis=0)
        assert min(red, green) > blue + 20

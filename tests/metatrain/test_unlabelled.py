"""Tasks without labels: groups that are found, views of single images, and runs on them."""

import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from local_training import train
from photographs import photos  # noqa: F401
from safetensors.torch import load_file, save_file

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.config import load_config
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import decode
from metatrain.data.tasks.augmented import Augmentation, augmented
from metatrain.data.tasks.grouping import Grouping, read_grouping
from metatrain.data.tasks.pool import Pool
from metatrain.grouping.group import GroupingOptions, group
from metatrain.grouping.summary import agreement
from metatrain.training.run_data import training_sampler

STILL = Augmentation(shift=0, scale=0, turn=0, flip=False, colour=0)


def metatrain(*arguments):
    return run("metatrain", COMMANDS, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def grouping(packed, tmp_path_factory):
    """The file of groups of the training images, by few steps."""
    torch.set_num_threads(1)
    out = str(tmp_path_factory.mktemp("groups") / "groups.safetensors")
    store = EpisodeStore(packed)
    options = GroupingOptions(clusters=16, partitions=3, steps=60, size=16)
    group(store, ["train"], options).save(out)
    return out


@pytest.fixture
def clusters(overrides, grouping):
    chosen = ["data.tasks.name=clusters", f"data.tasks.file={grouping}"]
    return load_config(None, [*overrides, *chosen, "meta.batch=3", "meta.steps=4"])


@pytest.fixture
def views(overrides):
    chosen = ["data.tasks.name=augmentations", "meta.batch=3", "meta.steps=4"]
    return load_config(None, [*overrides, *chosen])


def episodes(config, start=0, rank=0, world=1, steps=4):
    source = open_tasks(config.data)
    streamed = load_episodes(
        source, training_sampler(source, config), start=start, rank=rank, world=world
    )
    return [episode for step in islice(streamed, steps - start) for episode in step]


def same(one, other):
    return [(e.task, e.seed) for e in one] == [(e.task, e.seed) for e in other] and all(
        torch.equal(a.support.target, b.support.target)
        and torch.equal(a.query.target, b.query.target)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("source", ["clusters", "views"])
def test_episodes_are_the_same_at_any_world_size_and_after_a_restart(source, request):
    config = request.getfixturevalue(source)
    expected = episodes(config)
    for rank in range(2):
        ours = [expected[i] for step in range(4) for i in range(3 * step + rank, 3 * step + 3, 2)]
        assert same(episodes(config, rank=rank, world=2), ours)
    assert same(episodes(config, start=2), expected[6:])
    plan = training_sampler(open_tasks(config.data), config).plan(3, 1)
    assert pickle.loads(pickle.dumps(plan)) == plan


@pytest.mark.parametrize("source", ["clusters", "views"])
def test_splits_that_are_not_pooled_keep_their_classes(source, config, request):
    for split in ("val", "test"):
        ours, classes = (open_tasks(c.data) for c in (request.getfixturevalue(source), config))
        plans = [s.sampler(split, seed=1, meta_batch=1).plan(0, 0) for s in (ours, classes)]
        assert same([ours.read(plans[0])], [classes.read(plans[1])])


def test_images_of_an_episode_are_of_one_group_and_all_different(clusters, packed, grouping):
    store = EpisodeStore(packed)
    pool, groups = Pool(store, "train"), load_file(grouping)["train"]
    places = {pool[number]: number for number in range(len(pool))}
    sampler, names = training_sampler(open_tasks(clusters.data), clusters), set()
    for step in range(sampler.epoch or 0):
        plan = sampler.plan(step, 0)
        images = [places[image] for image in plan.images]
        assert len(set(images)) == 6
        partition = int(plan.name.rpartition(" ")[2])
        assert len(groups[partition, images].unique()) == 1
        names.add(plan.name)
    assert {int(name.rpartition(" ")[2]) for name in names} == {0, 1, 2}


def test_stripes_are_grouped_by_their_angle_and_the_same_each_time(packed, grouping):
    """Groups by chance agree with tasks by 0; the images of a task differ in phase alone."""
    store = EpisodeStore(packed)
    groups = read_grouping(grouping, store)[0].groups["train"]
    counts = [task.count for task in store.tasks("train")]
    chance = torch.randint(16, groups[0].shape, generator=torch.Generator().manual_seed(0))
    assert agreement(groups[0], counts) > 0.3 > 0.1 > agreement(chance, counts)
    options = GroupingOptions(clusters=16, partitions=3, steps=60, size=16)
    assert torch.equal(group(store, ["train"], options).groups["train"], groups)


def test_every_view_is_of_the_image_that_the_pool_has_there(views, packed):
    config = load_config(
        None,
        [
            *(f"{key}={value}" for key, value in {
                "data.path": packed, "data.image_size": 16, "data.shots": 3, "data.queries": 2,
                "data.tasks.name": "augmentations", "meta.batch": 3,
                **{f"data.tasks.augmentation.{k}": v for k, v in STILL.model_dump().items()},
            }.items()),
        ],
    )  # fmt: skip
    source, store = open_tasks(config.data), EpisodeStore(packed)
    sampler, pool = training_sampler(source, config), Pool(store, "train")
    plans = [sampler.plan(step, slot) for step in range(len(pool) // 3) for slot in range(3)]
    assert len({image for plan in plans for image in plan.images}) == len(plans)
    plan = plans[-1]
    episode = source.read(plan)
    [(task, index)] = plan.images
    expected = decode(store.read(task, [index]), 16, 1)
    assert torch.equal(episode.support.target, expected.expand(3, -1, -1, -1))
    assert torch.equal(episode.query.target, expected.expand(2, -1, -1, -1))
    moved = episodes(views)[0].support.target
    assert not torch.equal(moved[0], moved[1])


@given(st.integers(0, 2**32), st.sampled_from([1, 3, 4]))
def test_views_are_a_pure_function_in_range_and_alpha_is_not_coloured(seed, channels):
    images = torch.rand(3, channels, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    extents = Augmentation(shift=0.3, scale=0.5, turn=180, flip=True, colour=1)
    one, other = (augmented(images, extents, np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(one, other)
    assert one.shape == images.shape
    assert one.abs().max() <= 1
    coloured = augmented(
        images, STILL.model_copy(update={"colour": 1}), np.random.default_rng(seed)
    )
    assert torch.equal(coloured[:, 3:], images[:, 3:])
    assert torch.equal(augmented(images, STILL, np.random.default_rng(seed)), images)


def test_a_mirrored_view_is_the_mirrored_image():
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mirrored = augmented(images, STILL.model_copy(update={"flip": True}), np.random.default_rng(0))
    same_, flipped = (
        torch.isclose(mirrored, other, atol=1e-5).flatten(1).all(1)
        for other in (images, images.flip(3))
    )
    assert (same_ ^ flipped).all()
    assert 16 < same_.sum() < 48


@given(st.data())
def test_a_pool_numbers_the_images_of_all_tasks(packed, data):
    store = EpisodeStore(packed)
    pool = Pool(store, "train")
    every = [(task, i) for task in store.tasks("train") for i in range(task.count)]
    number = data.draw(st.integers(0, len(pool) - 1))
    assert len(pool) == len(every)
    assert pool[number] == every[number]
    for outside in (-1, len(pool)):
        with pytest.raises(IndexError):
            pool[outside]


@pytest.mark.parametrize("source", ["clusters", "views"])
def test_a_run_learns_from_images_without_labels(source, request):
    config = request.getfixturevalue(source)
    half = train(config.model_copy(update={"meta": config.meta.model_copy(update={"steps": 2})}))
    ended, whole = train(config, state=half), train(config)
    for name, expected in whole.parameters.items():
        assert torch.equal(ended.parameters[name], expected)


def test_from_a_folder_of_photographs_to_groups_of_all_splits(photos, tmp_path, capsys):  # noqa: F811
    out, sheet = tmp_path / "groups.safetensors", tmp_path / "groups.png"
    options = ("--clusters", 2, "--steps", 3, "--size", 16, "--partitions", 2, "--sheet", sheet)
    assert metatrain("group", photos, "--out", out, *options, "--splits", "train", "val") == 0
    assert "2 partitions" in capsys.readouterr().out
    assert sheet.read_bytes().startswith(b"\x89PNG")
    config = load_config(None, [
        *(f"data.path={photos}", "data.channels=3", "data.image_size=16", "data.shots=1"),
        *("data.queries=1", "data.tasks.name=clusters", f"data.tasks.file={out}"),
        "data.tasks.splits=[train,val]",
    ])  # fmt: skip
    source = open_tasks(config.data)
    assert source.read(source.sampler("val", seed=0, meta_batch=1).plan(0, 0)).support.target.any()
    with pytest.raises(UserError, match="no groups of split 'test'"):
        open_tasks(load_config(None, [
            *(f"data.path={photos}", "data.tasks.name=clusters", f"data.tasks.file={out}"),
            "data.tasks.splits=[test]",
        ]).data)  # fmt: skip


def test_a_grouping_that_cannot_be_used_is_refused(packed, photos, grouping, tmp_path):  # noqa: F811
    store, path = EpisodeStore(packed), str(tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match="another data set"):
        read_grouping(grouping, EpisodeStore(photos))
    (tmp_path / "text.safetensors").write_text("no grouping")
    with pytest.raises(UserError, match="is no grouping"):
        read_grouping(str(tmp_path / "text.safetensors"), store)
    save_file({"train": torch.zeros(1, 3)}, path, {"format": "another"})
    with pytest.raises(UserError, match="is no grouping"):
        read_grouping(path, store)
    for groups, words in [
        ({"train": torch.zeros(1, 3)}, "int32"),
        ({"train": torch.zeros(1, 3, dtype=torch.int32)}, "it has 3 images"),
        ({"train\x1b[2J": torch.zeros(1, 3, dtype=torch.int32)}, "int32"),
    ]:
        Grouping(store.fingerprint, groups).save(path)
        with pytest.raises(UserError, match=words) as raised:
            read_grouping(path, store)
        assert "\x1b" not in str(raised.value)
    with pytest.raises(UserError, match="too few for 9,999 groups"):
        group(store, ["train"], GroupingOptions(clusters=9999, steps=1))

"""A data set may grow by packing while runs read it: none of them sees that."""

import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch

from metatrain.base.errors import UserError
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.data.packing.pack import pack
from metatrain.training.run_data import begin_run_with, source_of_run, training_sampler


@pytest.fixture
def growing(packed, config, tmp_path):
    """A run on a data set of its own."""
    path = shutil.copytree(packed, tmp_path / "growing")
    config = config.model_copy(
        update={"data": config.data.model_copy(update={"path": str(path), "prefetch_bytes": 0})}
    )
    begin_run_with(open_tasks(config.data), config)
    return config


@pytest.fixture
def more(images, tmp_path) -> str:
    """Tasks of other names."""
    for folder in Path(images).iterdir():
        shutil.copytree(folder, tmp_path / "more" / f"new-{folder.name}")
    return str(tmp_path / "more")


def episodes_of(source, config, start=0):
    return load_episodes(source, training_sampler(source, config), start=start)


def same(one, other) -> bool:
    return all(
        a.task == b.task
        and torch.equal(a.support.target, b.support.target)
        and torch.equal(a.query.target, b.query.target)
        for step, step_of_other in zip(one, other, strict=True)
        for a, b in zip(step, step_of_other, strict=True)
    )


def test_readers_in_the_middle_of_an_epoch_are_not_disturbed(growing, more):
    expected = list(islice(episodes_of(open_tasks(growing.data), growing), 20))
    running = episodes_of(open_tasks(growing.data), growing)
    first = list(islice(running, 3))
    pack(more, growing.data.path)
    assert same([*first, *islice(running, 17)], expected)


def test_a_run_goes_on_with_the_tasks_that_it_began_with(growing, more):
    expected = list(islice(episodes_of(source_of_run(growing), growing), 20))
    pack(more, growing.data.path)
    grown, begun = (source.store for source in (open_tasks(growing.data), source_of_run(growing)))
    assert len(grown.tasks("train")) > len(begun.tasks("train"))
    resumed = episodes_of(source_of_run(growing), growing, start=5)
    assert same(islice(resumed, 15), expected[5:])


def test_a_run_goes_on_where_its_data_set_was_moved_to(growing, tmp_path):
    moved = Path(growing.data.path).rename(tmp_path / "moved")
    config = growing.model_copy(
        update={"data": growing.data.model_copy(update={"path": str(moved)})}
    )
    assert source_of_run(config).store.tasks("train")


def test_another_data_set_is_refused(growing, images):
    shutil.rmtree(growing.data.path)
    pack(images, growing.data.path, seed=1, size=8)
    with pytest.raises(UserError, match=r"began with another data set than the one at .*growing"):
        source_of_run(growing)

"""The list of episodes: it follows from the data, and no support image is scored."""

import json

import pytest

from metatrain.base.errors import UserError
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.benchmark import read_benchmark
from metatrain.evaluation.episodes.episode_list import (
    SEEDS,
    SHAPES,
    EpisodeList,
    list_episodes,
    read_list,
)


def test_the_list_follows_from_the_data_and_nothing_given_away_is_scored(packed, listed):
    assert list_episodes(EpisodeStore(packed), "train").content() == listed.content()
    assert EpisodeList.model_validate_json(listed.content()) == listed
    assert (len(listed.tasks), listed.seeds) == (16, SEEDS)
    assert [e.task for e in listed.episodes] == listed.tasks * SEEDS
    for episode in listed.episodes:
        images = [*episode.support, *episode.reference, *episode.held_out]
        assert sorted(images) == sorted(set(images))
        assert episode.counts == SHAPES[0].counts
    drawn = [e.support for e in listed.episodes if e.task == listed.tasks[0]]
    assert len(set(drawn)) == SEEDS
    assert len({e.noise for e in listed.episodes}) == len(listed.episodes)


def test_more_shots_are_further_images_of_the_same_episode(packed, listed):
    store, few = EpisodeStore(packed), listed.first(2, 1)
    one, eight = (read_benchmark(store, few, shots=k, image_size=16, channels=1) for k in (1, 8))
    assert one.support.equal(eight.support[:, :, :1])
    assert one.reference.equal(eight.reference)
    assert one.held_out.equal(eight.held_out)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v: v.update(data="0" * 64), "name the data that the list was made for"),
        (lambda v: v.update(format="other"), "has the format other"),
        (lambda v: v.pop("split"), "is not a list of episodes, or is damaged: split"),
        (lambda v: v["episodes"].pop(), "same two tasks or more in each of its seeds"),
        (lambda v: v["episodes"][5].update(reference=[0, 0, 1, 2]), "twice in one episode"),
        (lambda v: v["episodes"][5].update(task="none"), "same two tasks"),
        (
            lambda v: v["episodes"][5].update(support=list(range(99, 107))),
            "that the data set lacks",
        ),
        (lambda v: v["episodes"][5].update(held_out=[]), r"not \(8, 4, 4\)"),
    ],
)
def test_a_list_that_is_none_is_refused(packed, listed, tmp_path, change, sentence):
    values = json.loads(listed.content())
    change(values)
    (tmp_path / "list").write_text(json.dumps(values))
    with pytest.raises(UserError, match=sentence):
        read_list(f"{tmp_path}/list", EpisodeStore(packed))

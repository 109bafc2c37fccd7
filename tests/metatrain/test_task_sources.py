"""A task source of another package: it needs no data set, and everything works with it."""

import pickle
from copy import deepcopy
from itertools import islice

import pytest
import torch
from local_training import train
from metatrain_waves import Waves

from cluster.jobs.submit import training_job
from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.config import load_config, with_values
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.evaluation.validation import validation_of
from metatrain.model.build import build_theta
from metatrain.model.model import Model
from metatrain.training.observer import Observer
from metatrain.training.run_data import begin_run_with, source_of_run, training_sampler

STEPS = 6


@pytest.fixture
def waves(overrides):
    """A run on waves, at whose `data.path` there is nothing."""
    chosen = ["data.tasks.name=waves", "data.path=nowhere", "meta.steps=6", "meta.batch=3"]
    return load_config(None, [*overrides, *chosen])


def steps(config, start=0, rank=0, world=1):
    source = open_tasks(config.data)
    sampler = training_sampler(source, config)
    episodes = load_episodes(source, sampler, start=start, rank=rank, world=world)
    return list(islice(episodes, STEPS - start))


def same(one, other):
    return [e.task for e in one] == [e.task for e in other] and all(
        a.seed == b.seed
        and torch.equal(a.support.target, b.support.target)
        and torch.equal(a.query.target, b.query.target)
        for a, b in zip(one, other, strict=True)
    )


def flat(steps_):
    return [episode for step in steps_ for episode in step]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("prefetch_bytes", [0, 10**8])
def test_the_same_episodes_come_at_any_world_size_and_budget(waves, world, prefetch_bytes):
    expected = steps(waves)
    config = with_values(waves, {"data.prefetch_bytes": prefetch_bytes})
    for rank in range(world):
        streamed = flat(steps(config, rank=rank, world=world))
        assert same(streamed, flat([step[rank::world] for step in expected]))


def test_a_start_in_the_middle_gives_the_next_episode(waves):
    whole = steps(waves)
    for start in (1, 4):
        assert same(flat(steps(waves, start=start)), flat(whole[start:]))


def test_a_plan_travels_by_value(waves):
    source = open_tasks(waves.data)
    plan = training_sampler(source, waves).plan(5, 2)
    moved = pickle.loads(pickle.dumps(plan))
    assert moved == plan
    assert same([open_tasks(waves.data).read(moved)], [source.read(plan)])


def test_a_run_that_resumes_ends_as_if_uninterrupted(waves):
    class Keep(Observer):
        def on_checkpoint(self, state):
            states[state.step] = deepcopy(state)

    states = {}
    whole = train(with_values(waves, {"checkpoint.every": 3}), [Keep()])
    rest = train(waves, [], states[3])
    assert all(torch.equal(rest.parameters[n], p) for n, p in whole.parameters.items())


def test_a_run_keeps_no_data_set_and_opens_again(waves, tmp_path):
    begin_run_with(open_tasks(waves.data), waves)
    assert not list(tmp_path.iterdir())
    assert isinstance(source_of_run(waves), Waves)


def test_validation_learns_its_metric_from_tasks_of_the_source(waves):
    config = with_values(waves, {"validation.tasks": 3, "validation.images": 3})
    validation = validation_of(config, open_tasks(config.data))
    assert same(validation.episodes, validation_of(config, open_tasks(config.data)).episodes)
    assert not {e.seed for e in validation.episodes} & {e.seed for e in flat(steps(config))}
    adapter = Model(config, build_theta(config).copy(), 0).adapter()
    features = [validation.task_features(adapter, episode) for episode in validation.episodes]
    assert validation.scores(features)[-1].loss > 0
    # The network in the run's folder is of these tasks, and no others.
    longer = with_values(config, {"data.tasks.wavelength": 16.0})
    with pytest.raises(UserError, match=r"trained for 'waves' with data"):
        validation_of(longer, open_tasks(longer.data))


def test_a_section_of_the_source_is_configuration(waves):
    with pytest.raises(UserError, match=r"data.tasks.wavelength is 0.*allowed is greater than 1"):
        with_values(waves, {"data.tasks.wavelength": 0})
    with pytest.raises(UserError, match=r"did you mean 'data\.tasks\.wavelength'"):
        load_config(None, ["data.tasks={name: waves, wavelenth: 4}"])
    allowed = r'data.tasks.name is "wave"; allowed is classes, .*, preferences, waves'
    with pytest.raises(UserError, match=allowed):
        load_config(None, ["data.tasks.name=wave"])


def test_only_sources_that_read_a_data_set_are_asked_for_one(waves, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("data: {tasks: {name: waves}, path: not/absolute}\n")
    assert training_job(f"{tmp_path}/my.yaml", ["run.dir=s3://bucket/runs"]).config
    model = Model(waves, build_theta(waves).copy(), 0)
    model.save(f"{tmp_path}/model.safetensors")
    assert run("metatrain", COMMANDS, ["evaluate", f"{tmp_path}/model.safetensors"]) == 1
    assert "was trained on the task source waves, which reads no pack" in capsys.readouterr().err

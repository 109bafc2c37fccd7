"""Population-based training: a fork of a trial's run is the run of a configuration."""

import pytest
import torch
from local_training import train

from metatrain.base.errors import UserError
from metatrain.config import load_config, parse_config, to_yaml
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import (
    ValidationResult,
    ValidationScores,
    read_validations,
    write_validations,
)
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.observer import Observer
from metatrain.training.run_data import begin_run_with
from tuning.trial import fork_run


class SaveAll(Observer):
    """An observer that saves every checkpoint."""

    def __init__(self, config):
        self.config, self.store = config, CheckpointStore(config.run.url)

    def on_checkpoint(self, state):
        self.store.save(draft_of(state, self.config))


@pytest.fixture
def donor(overrides):
    config = load_config(None, [*overrides, "checkpoint.keep=9", "inner.optimizer=sgd"])
    begin_run_with(open_tasks(config.data), config)
    train(config, [SaveAll(config)])
    halves = dict.fromkeys(("loss", "own_task", "similarity", "kid", "task_kid"), 0.5)
    validations = [
        ValidationResult(step, [ValidationScores(k=1, **halves)]) for step in (5, 10, 15, 20)
    ]
    write_validations(config.run.url, validations)
    return config


def test_a_fork_has_the_weights_of_its_configuration_from_the_beginning(donor, tmp_path):
    first = fork_run(donor, 5, run="first", rate=0.01)
    train(first, [SaveAll(first)], CheckpointStore(first.run.url).latest())
    second = fork_run(first, 15, run="second", rate=0.003)
    end = train(second, [SaveAll(second)], CheckpointStore(second.run.url).latest())
    assert second.inner.lr_changes == {5: 0.01, 15: 0.003}
    # Train the schedule from a file, in a run without any copied checkpoint.
    (tmp_path / "schedule.yaml").write_text(to_yaml(second))
    replayed = load_config(str(tmp_path / "schedule.yaml"), ["run.name=replayed"])
    direct = train(replayed, [])
    for name, value in end.parameters.items():
        assert torch.equal(value, direct.parameters[name]), name
    unchanged = train(donor, [])
    assert any(not torch.equal(p, unchanged.parameters[n]) for n, p in end.parameters.items())


def test_a_fork_keeps_the_validations_until_its_step_and_no_later_ones(donor):
    fork = fork_run(donor, 10, run="fork", rate=0.01)
    assert [validation.step for validation in read_validations(fork.run.url)] == [5, 10]
    assert CheckpointStore(fork.run.url).steps() == [10]
    assert len(read_validations(donor.run.url)) == 4


def test_a_fork_at_the_same_rate_has_no_change_of_rate(donor):
    assert fork_run(donor, 10, run="fork", rate=donor.inner.lr).inner.lr_changes == {}


def test_rates_apply_from_their_outer_step_on():
    inner = load_config(None, ["inner.lr=0.1", "inner.lr_changes={3: 0.2, 7: 0.3}"]).inner
    assert [inner.lr_at(step) for step in range(9)] == [0.1] * 3 + [0.2] * 4 + [0.3] * 2
    with pytest.raises(UserError, match=r"inner\.lr_changes"):
        parse_config({"inner": {"lr_changes": {3: -1.0}}})

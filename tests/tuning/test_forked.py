"""Population-based training: what goes on from another trial's run is a run of its own file."""

import pytest
import torch
from plain_engine import train

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


class Keep(Observer):
    """Saves every checkpoint."""

    def __init__(self, config):
        self.config, self.store = config, CheckpointStore(config.run.url)

    def on_checkpoint(self, state):
        self.store.save(draft_of(state, self.config))


@pytest.fixture
def donor(overrides):
    config = load_config(None, [*overrides, "checkpoint.keep=9", "inner.optimizer=sgd"])
    begin_run_with(open_tasks(config.data), config)
    train(config, [Keep(config)])
    halves = dict.fromkeys(("loss", "own_task", "similarity", "kid", "task_kid"), 0.5)
    seen = [ValidationResult(step, [ValidationScores(k=1, **halves)]) for step in (5, 10, 15, 20)]
    write_validations(config.run.url, seen)
    return config


def test_a_fork_ends_as_its_configuration_does_from_the_beginning(donor, tmp_path):
    first = fork_run(donor, 5, run="first", rate=0.01)
    train(first, [Keep(first)], CheckpointStore(first.run.url).latest())
    second = fork_run(first, 15, run="second", rate=0.003)
    end = train(second, [Keep(second)], CheckpointStore(second.run.url).latest())
    assert second.inner.lr_changes == {5: 0.01, 15: 0.003}
    # The schedule as a file, and a run of it that nothing was copied to.
    (tmp_path / "schedule.yaml").write_text(to_yaml(second))
    replayed = load_config(str(tmp_path / "schedule.yaml"), ["run.name=replayed"])
    alone = train(replayed, [])
    for name, value in end.parameters.items():
        assert torch.equal(value, alone.parameters[name]), name
    unchanged = train(donor, [])
    assert any(not torch.equal(p, unchanged.parameters[n]) for n, p in end.parameters.items())


def test_a_fork_keeps_what_was_seen_until_then_and_nothing_of_later(donor):
    fork = fork_run(donor, 10, run="fork", rate=0.01)
    assert [found.step for found in read_validations(fork.run.url)] == [5, 10]
    assert CheckpointStore(fork.run.url).steps() == [10]
    assert len(read_validations(donor.run.url)) == 4


def test_a_fork_at_the_same_rate_has_no_change_of_it(donor):
    assert fork_run(donor, 10, run="fork", rate=donor.inner.lr).inner.lr_changes == {}


def test_rates_hold_from_their_outer_step_on():
    inner = load_config(None, ["inner.lr=0.1", "inner.lr_changes={3: 0.2, 7: 0.3}"]).inner
    assert [inner.lr_at(step) for step in range(9)] == [0.1] * 3 + [0.2] * 4 + [0.3] * 2
    with pytest.raises(UserError, match=r"inner\.lr_changes"):
        parse_config({"inner": {"lr_changes": {3: -1.0}}})

"""The reports about a run in progress."""

import itertools
from dataclasses import replace

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from cluster.run import observers
from cluster.run.messages import Message
from cluster.run.observers import DriverDisplay, ProgressLine, Validator
from metatrain.base import progress
from metatrain.base.progress import displayed
from metatrain.config import with_values
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import validation_of
from metatrain.model.build import build_theta
from metatrain.training.checkpoint.peers import ALONE
from metatrain.training.local_engine import LocalEngine
from metatrain.training.state import first_state

RECORD = {
    "loss": 0.5,
    "data_wait": 0.25,
    "bytes": 3e6,
    "requests": 2.0,
    "cache_hits": 1.0,
    "retries": 0.0,
    "seconds": 2.0,
}


class Messages(list[Message]):
    def put(self, message: Message) -> None:
        """Keep it."""
        self.append(message)


def test_the_line_and_tensorboard_report_the_cost_of_reading(config, tmp_path, monkeypatch):
    monkeypatch.setattr(observers.time, "monotonic", iter(range(100)).__next__)
    messages, board = Messages(), SummaryWriter(str(tmp_path))
    line = ProgressLine(config, 2, messages, board)
    line.on_step(1, RECORD)
    board.close()
    # The record holds the mean of two workers.
    assert "waited 25% for data | 3.0 MB/s in 4 requests, 2 from the cache | " in messages[0].text
    events = EventAccumulator(str(tmp_path)).Reload()
    for name in ("data_wait", "bytes", "requests", "cache_hits", "retries"):
        assert events.Scalars(f"train/{name}")[0].value == RECORD[name]


def test_the_driver_shows_how_far_training_the_metric_network_and_validating_are(
    config, monkeypatch
):
    config = with_values(config, {"validation.tasks": 2})
    messages, state = Messages(), replace(first_state(build_theta(config).copy()), step=5)
    engine = LocalEngine(state.parameters, config.meta, device=torch.device("cpu"))
    monkeypatch.setattr(progress.time, "monotonic", itertools.count(0, 10).__next__)
    with displayed(DriverDisplay(messages)):
        validation = validation_of(config, open_tasks(config.data))
        Validator(
            config, validation, engine, ALONE, messages=messages, board=None, decisions=None
        ).on_checkpoint(state)
    labels = {message.text.partition(":")[0] for message in messages if message.kind == "line"}
    assert {"training the metric network", "validating step 5"} <= labels
    assert messages[-1].kind == "validated"
    assert all("ETA" in message.text for message in messages if message.kind == "line")

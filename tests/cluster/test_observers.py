"""The reports about a run in progress."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from cluster.run import observers
from cluster.run.observers import ProgressLine

RECORD = {
    "loss": 0.5,
    "data_wait": 0.25,
    "bytes": 3e6,
    "requests": 2.0,
    "cache_hits": 1.0,
    "retries": 0.0,
    "seconds": 2.0,
}


class Messages(list):
    put = list.append


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

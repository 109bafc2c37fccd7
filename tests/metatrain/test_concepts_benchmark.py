"""Steps to new concepts: the ratio and its interval, and a whole small benchmark that resumes."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny_backbones import write_pipeline

from benchmarks.backbones.concepts.__main__ import main
from benchmarks.backbones.concepts.curves import speed
from benchmarks.backbones.concepts.plan import STANDARD, read_plan
from benchmarks.backbones.concepts.trainings import Trainings
from metatrain.base.errors import UserError
from metatrain.data.examples import Examples
from metatrain.evaluation.running import runner
from metatrain.model.file import load_model

STEPS = [0, 1, 2, 4, 8]
COSTS = st.lists(
    st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=len(STEPS), max_size=len(STEPS)
)


@given(COSTS, COSTS, st.sampled_from([None, *STEPS]))
def test_the_fewest_steps_to_the_same_mean_cost(standard, other, after):
    result = speed(STEPS, torch.tensor(standard), torch.tensor(other), after)
    totals, reached = [sum(costs) for costs in standard], [sum(costs) for costs in other]
    wanted = STEPS[totals.index(min(totals))] if after is None else after
    target = totals[STEPS.index(wanted)]
    fit = [k for k, total in zip(STEPS, reached, strict=True) if total <= target]
    assert (result.standard, result.other) == (wanted, fit[0] if fit else None)
    assert result.ratio.value == (max(wanted, 1) / max(fit[0], 1) if fit else 0)
    assert 0 <= result.ratio.low <= result.ratio.high <= STEPS[-1]


def test_concepts_that_agree_leave_no_doubt_and_others_do():
    falling = torch.tensor([9.0, 8, 6, 3, 1])
    four = torch.stack([falling, falling, falling, falling], dim=1)
    sooner = torch.stack([torch.tensor([9.0, 1, 1, 1, 1])] * 4, dim=1)
    sure = speed(STEPS, four, sooner, None).ratio
    assert (sure.value, sure.low, sure.high) == (8, 8, 8)
    mixed = torch.cat([four[:, :2], sooner[:, :2] - 4], dim=1)
    doubt = speed(STEPS, four, mixed, None).ratio
    assert doubt.low < doubt.high


class Workplace:
    """A folder, and a plan of the stripes in it."""

    def __init__(self, folder: Path, packed: str) -> None:
        self.folder, self.plan = folder, folder / "plan.yaml"
        write_pipeline(folder / "shape", "UNet2DModel")
        shape = {"name": "diffusers", "path": str(folder / "shape"), "subfolder": "model"}
        objective = {**shape, "subfolder": "scheduler", "sampler": {"steps": 2}}
        common = {
            "data": {"path": packed, "image_size": 16, "shots": 3, "queries": 3},
            "objective": objective,
            "checkpoint": {"every": 1, "samples": False},
        }
        self._write(
            "backbone",
            **common,
            generator={**shape, "init": "random"},
            learner={"name": "joint"},
            meta={"steps": 3, "batch": 2},
        )
        scope = {"name": "lora", "rank": 2, "target_modules": ["to_q", "to_v"]}
        self._write(
            "lora",
            **common,
            generator={"name": "diffusers", "path": "not yet"},
            inner={"steps": 2, "scope": scope},
            meta={"batch": 2},
        )
        self._write(
            "plan",
            backbone=str(folder / "backbone.yaml"),
            lora=str(folder / "lora.yaml"),
            tflop=0.001,
            starts={"joint": {"learner.name": "joint"}, "fomaml": {"learner.name": "fomaml"}},
            concepts=2,
            validation_concepts=2,
            rates=[0.001, 0.01],
            inner_steps=[0, 1, 3],
        )

    def _write(self, name: str, **values: object) -> None:
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(values))

    def run(self) -> int:
        return main([str(self.folder), "--plan", str(self.plan)])

    @property
    def starts(self) -> Trainings:
        return Trainings(read_plan(str(self.plan)), str(self.folder))


@pytest.fixture
def place(packed, tmp_path):
    before = signal.getsignal(signal.SIGTERM)  # which the command takes for itself
    yield Workplace(tmp_path, packed)
    signal.signal(signal.SIGTERM, before)


def _end_once_there_is(pattern: str, folder: Path) -> None:
    """Send this process what ends a command, once a file is there."""

    def wait() -> None:
        while not list(folder.glob(pattern)):
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.long
def test_the_whole_benchmark_resumes_and_adapts_nothing_twice(place, capsys, monkeypatch):
    for pattern in ("trainings/fomaml/checkpoints/*", "adapted/work/*.safetensors"):
        _end_once_there_is(pattern, place.folder)
        assert place.run() == 130
    assert place.run() == 0
    tables = capsys.readouterr().out
    assert "| flow loss, best | fomaml |" in tables
    assert "| own task, best | joint |" in tables
    assert (place.folder / "concepts.png").read_bytes().startswith(b"\x89PNG")
    standard, trained = place.starts.start(STANDARD), place.starts.start("fomaml")
    assert all(not p.any() for name, p in standard.parameters.items() if name.endswith("lora.up"))
    assert any(p.any() for name, p in trained.parameters.items() if name.endswith("lora.up"))
    assert standard.config.generator.sha256 == trained.config.generator.sha256
    # The frozen backbone is what was trained from nothing, so 0 steps from up = 0 are its own.
    pretrained = load_model(str(place.folder / "trainings" / "backbone"), trust=True)
    support = Examples(torch.zeros(1, 1, 16, 16))
    images = [m.generator().sample(support, 2, 3) for m in (standard, pretrained)]
    assert torch.equal(*images)
    monkeypatch.setattr(runner, "perform", lambda *_: pytest.fail("it is adapted again"))
    assert place.run() == 0
    assert capsys.readouterr().out == tables


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"inner_steps": [1, 2]}, "list them from 0, rising"),
        ({"starts": {STANDARD: {}}}, "name it otherwise"),
        ({"rates": []}, "cannot be used"),
    ],
    ids=["steps", "standard", "rates"],
)
def test_a_plan_that_cannot_be_used_is_refused(place, changes, message):
    values = yaml.safe_load(place.plan.read_text()) | changes
    place.plan.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=message):
        read_plan(str(place.plan))

"""Outer steps of large configurations: speed, memory and waits, beside what the plan predicts."""

import gc
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from typing_extensions import override

from benchmarks.backbones.models import sizes_of
from benchmarks.cluster.worker import EnoughError
from benchmarks.gpu.made_data import made_set
from benchmarks.gradients.memory import peak_reset, resident
from metatrain.config import Config, load_config, load_values, parse_config
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.generators.diffusers_import import diffusers_class
from metatrain.plan.hardware import Hardware
from metatrain.plan.plan import Plan, plan_of
from metatrain.training.observer import Observer
from metatrain.training.run_data import training_sampler
from metatrain.training.state import Record
from metatrain.training.trainer import Trainer

_SDXL = Path("configs/backbones/sdxl/unet/config.json")
# Latents of images of 512 pixels; the small form's of 64.
_LATENTS = {"full": 64, "small": 8}
_SMALL = ["data.image_size=16", "generator.width=32", "generator.depth=1", "generator.heads=2"]


class _Clock(Observer):
    """The records of steps after two to warm up, until the time is over."""

    def __init__(self, seconds: float) -> None:
        self.records: list[Record] = []
        self._seconds, self._end, self._steps = seconds, 0.0, 0

    @override
    def on_step(self, step: int, record: Record) -> None:
        self._steps += 1
        if self._steps == 2:
            self._end = time.monotonic() + self._seconds
        if self._steps > 2:
            self.records.append(record)
            if time.monotonic() >= self._end:
                raise EnoughError


def large_100m(size: str, folder: Path) -> Config:
    """Return configs/large-100m.yaml for one worker, on a data set that is made for it."""
    small = _SMALL if size == "small" else []
    config = load_config("configs/large-100m.yaml", [*small, "meta.batch=8", "cluster.workers=1"])
    data = config.data
    images = data.shots + data.queries
    place = made_set(folder, size=data.image_size, channels=3, tasks=64, images=images)
    return _at(config, place)


def sdxl_lora(size: str, folder: Path, device: torch.device) -> Config:
    """Return a LoRA of configs/sd-lora.yaml on latents, over a backbone of random weights."""
    side = _LATENTS[size]
    _write_backbone(size, folder, device)
    values = load_values(
        "configs/sd-lora.yaml",
        [
            *(f"data.image_size={side}", "data.channels=4"),
            *("meta.batch=2", "cluster.workers=1", "inner.steps=2"),
            *(f"generator.path={folder}/sdxl", f"objective.path={folder}/sdxl"),
        ],
    )
    # Four channels are those of RGBA, in the place of a codec's latents.
    del values["codec"]
    config = parse_config(values)
    return _at(config, made_set(folder, size=side, channels=4, tasks=16, images=8))


def _at(config: Config, data: str) -> Config:
    parts = {"data": config.data.model_copy(update={"path": data})}
    return config.model_copy(update=parts)


def _write_backbone(size: str, folder: Path, device: torch.device) -> None:
    name = "UNet2DConditionModel"
    values: dict[str, Any] = json.loads(_SDXL.read_text())
    if size == "small":
        values = sizes_of(32)[name] | {"sample_size": _LATENTS[size]}
    before = torch.get_default_dtype()
    # Made where it is fast, in the precision in which it is held.
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = diffusers_class(name).from_config(values)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder / "sdxl" / "unet")
    diffusers_class("DDPMScheduler")().save_pretrained(folder / "sdxl" / "scheduler")


def row(name: str, config: Config, device: torch.device, seconds: float) -> list[str]:
    """Train `config` for so many seconds and return its row. The process group must exist."""
    from cluster.engine.build import build_engine_and_learner

    plan = _plan(config)
    source = open_tasks(config.data)
    clock = _Clock(seconds)
    with _peak(device) as peak:
        engine, learner = build_engine_and_learner(config, device)
        state = engine.begin()
        episodes = load_episodes(source, training_sampler(source, config), start=0)
        try:
            Trainer(config, engine, learner, episodes, state, [clock]).run()
        except EnoughError:
            episodes.close()
    step = median(record["seconds"] for record in clock.records)
    inner = median(record["seconds_inner"] for record in clock.records)
    flops = plan.cost.flops * plan.layout.episodes
    return [
        name,
        str(len(clock.records)),
        f"{1 / step:.3g}",
        f"{flops / inner / 1e12:.3g}",
        f"{peak[0] / 1e9:.3g}",
        f"{plan.memory.peak / 1e9:.3g}",
        f"{median(record['data_wait'] for record in clock.records):.1%}",
    ]


HEADS = ["run", "steps", "steps/s", "TFLOP/s", "peak GB", "planned GB", "data wait"]


def _plan(config: Config) -> Plan:
    return plan_of(config, Hardware.h100(bf16=True))


@contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """Yield a list that has the rise of the peak of memory after the context, in bytes."""
    peak: list[int] = []
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        peak_reset()
        before = 1024 * resident("VmRSS")
    yield peak
    cuda = device.type == "cuda"
    after = torch.cuda.max_memory_allocated(device) if cuda else 1024 * resident("VmHWM")
    peak.append(after - before)

"""The files of a finished cell: what was measured as JSON, and its scores with their resamples."""

import json
from contextlib import suppress
from dataclasses import dataclass

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from metatrain.base.errors import UserError
from metatrain.evaluation.scores.statistics import Score
from metatrain.storage.files import MissingError, read_file, write_file

# Scores by inner steps, then by `SPACE/METRIC`; those that need no features by `METRIC` alone.
CurveScores = dict[int, dict[str, Score]]

_NUMBERS, _SCORES = "result.json", "scores.safetensors"
_PARTS = ("value", "resampled", "influence")


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """The measurements of a cell beside its scores.

    Attributes:
        key: hash of what the plan says of the cell.
        outer_steps: outer steps of each stage of its training.
        tflop: operations of all outer gradients, in units of 10^12.
        rate: rate of adapting; None where the model learned its own.
        validation: KID on the split val by rate.
        seconds: the least time of a task by inner steps, on one core.
        tasks: names of the test tasks.
        metric: sha256 of the metric network.
        commit: sha of the commit that measured it.
        hardware: the machine.
    """

    key: str
    outer_steps: list[int]
    tflop: float
    rate: float | None
    validation: dict[str, float]
    seconds: dict[int, float]
    tasks: list[str]
    metric: str
    commit: str
    hardware: str


_ADAPTER = TypeAdapter(CellResult)


def write_cell(folder: str, result: CellResult, scores: CurveScores) -> None:
    """Write the files of a cell under `folder`; `result.json` last, since it marks the end."""
    write_scores(f"{folder}/{_SCORES}", scores)
    values = json.dumps(_ADAPTER.dump_python(result), indent=1)
    write_file(f"{folder}/{_NUMBERS}", values.encode())


def read_cell(folder: str, key: str) -> CellResult | None:
    """Read what was measured of a cell; None where nothing was, or by another plan."""
    with suppress(MissingError, ValidationError):
        result = _ADAPTER.validate_json(read_file(f"{folder}/{_NUMBERS}"))
        return result if result.key == key else None
    return None


def read_cell_scores(folder: str) -> CurveScores:
    """Read the scores of a finished cell."""
    return read_scores(f"{folder}/{_SCORES}")


def write_scores(file: str, scores: CurveScores) -> None:
    """Write scores with their resamples and influences to `file`."""
    tensors = {}
    for steps, named in scores.items():
        for name, score in named.items():
            value = torch.tensor([score.value]).double()
            parts = (value, score.resampled, score.influence)
            for part, tensor in zip(_PARTS, parts, strict=True):
                # safetensors shares no memory.
                tensors[f"{part}:{steps}:{name}"] = tensor.clone()
    write_file(file, save(tensors))


def read_scores(file: str) -> CurveScores:
    """Read scores that `write_scores` wrote.

    Raises:
        UserError: when there are none, or they are damaged.
    """
    try:
        tensors = load(read_file(file))
        scores: CurveScores = {}
        for key in sorted(tensors):
            part, steps, name = key.split(":", 2)
            if part == _PARTS[0]:
                value, *rest = (tensors[f"{p}:{steps}:{name}"] for p in _PARTS)
                scores.setdefault(int(steps), {})[name] = Score(value.item(), *rest)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{file} is damaged; remove its folder's {_NUMBERS}.") from error
    return dict(sorted(scores.items()))

"""Values in the place of `auto`: chosen at a run's first start, and kept for the next ones.

Another choice would change the last bits of the results, and a resumed run must end exactly as an
uninterrupted one.
"""

import json
from collections.abc import Callable
from contextlib import suppress

import torch
from pydantic import TypeAdapter, ValidationError

from metatrain.config import Config, with_values
from metatrain.data.slots import slots_of
from metatrain.data.tasks import TaskSource
from metatrain.learning.gradient_choice import GradientMethod
from metatrain.model.build import build_theta, choose_method
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.training.checkpoint import CheckpointStore
from metatrain.training.run_data import training_sampler

# Chosen values by dotted key.
Values = dict[str, str | int]
_VALUES: TypeAdapter[Values] = TypeAdapter(Values)


def resolve_auto_locally(
    config: Config,
    checkpoints: CheckpointStore,
    source: TaskSource,
    device: torch.device,
    say: Callable[[str], None],
) -> Config:
    """Replace every `auto` in the configuration of a run in one process by a value.

    Args:
        config: the run's configuration.
        checkpoints: the run's checkpoints.
        source: the run's task source.
        device: where the run trains.
        say: told what was chosen, and why.
    """
    keys, values = method_keys(config), kept_values(config, checkpoints)
    if any(key not in values for key in keys):
        alone = config.model_copy(
            update={"cluster": config.cluster.model_copy(update={"workers": 1})}
        )
        values |= measured_method(alone, source, device, say)
        keep_values(config, values)
    return with_values(config, {key: values[key] for key in keys}) if keys else config


def method_keys(config: Config) -> list[str]:
    """List the keys of the method of outer gradients whose value is `auto`."""
    return [f"meta.{k}" for k in GradientMethod._fields if getattr(config.meta, k) == "auto"]


def kept_values(config: Config, checkpoints: CheckpointStore) -> Values:
    """Read the choices of earlier starts; empty where no step depends on them yet."""
    if any(step > 0 for step in checkpoints.steps()):
        with suppress(MissingError, ValidationError):
            return _VALUES.validate_json(read_file(_url(config)))
    return {}


def keep_values(config: Config, values: Values) -> None:
    """Keep choices with the run."""
    write_file(_url(config), json.dumps(values).encode())


def measured_method(
    config: Config, source: TaskSource, device: torch.device, say: Callable[[str], None]
) -> Values:
    """Time the methods of outer gradients on the first worker's first episodes.

    Args:
        config: the run's configuration, with its number of workers.
        source: the run's task source.
        device: where to compute.
        say: told what was chosen, and why.
    """
    sampler = training_sampler(source, config)
    slots = slots_of(0, config.cluster.workers, config.meta.batch)
    episodes = [source.read(sampler.plan(0, slot)).to(device) for slot in slots]
    choice = choose_method(config, build_theta(config).to(device).copy(), episodes)
    say(f"auto selects {choice.method}: {choice.reason}.")
    return {f"meta.{key}": value for key, value in choice.method._asdict().items()}


def _url(config: Config) -> str:
    return f"{config.run.url}/settled.json"

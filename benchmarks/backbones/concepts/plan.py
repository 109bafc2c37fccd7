"""The file of the benchmark: the backbone, the starts, the concepts."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.config import StableName

# Random down, up = 0: the start that every other one is compared with.
STANDARD = "standard"


class Plan(Section):
    """The file of the benchmark."""

    backbone: str = Field(description="Configuration that trains the backbone from nothing.")
    lora: str = Field(description="Configuration of the LoRA over it.")
    tflop: float = Field(gt=0, description="Budget of each training of a start.")
    starts: dict[StableName, dict[str, Any]] = Field(
        min_length=1, description="Changes to the configuration of the LoRA, by trained start."
    )
    concepts: int = Field(ge=2, description="Maximum number of tasks of the split test.")
    validation_concepts: int = Field(ge=2, description="Tasks of the split val to choose on.")
    rates: list[float] = Field(min_length=1, description="Rates of adapting to choose from.")
    inner_steps: list[int] = Field(min_length=2, description="Inner steps to measure after.")


def read_plan(path: str) -> Plan:
    """Read the file of the benchmark.

    Raises:
        UserError: when it cannot be used.
    """
    try:
        plan = Plan.model_validate(yaml.safe_load(Path(path).read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise UserError(f"{path} cannot be used: {error}") from error
    if sorted({0, *plan.inner_steps}) != plan.inner_steps:
        raise UserError(f"{path} has inner_steps {plan.inner_steps}; list them from 0, rising.")
    if STANDARD in plan.starts:
        raise UserError(f"{path} trains '{STANDARD}', which has no training; name it otherwise.")
    return plan

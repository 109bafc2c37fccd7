"""Sections of the samplers, read without torch."""

from typing import Annotated, Literal

from pydantic import Field

from metatrain.base.section import Section
from metatrain.generators.conditions.config import SUPPORT

Weight = Annotated[float, Field(ge=0)]


class FlowSamplerConfig(Section):
    """The integration of a flow from noise to examples."""

    method: Literal["euler", "heun"] = Field(
        default="heun",
        description="euler: one network call per step; heun: two, and needs far fewer steps.",
    )
    steps: int = Field(default=6, ge=1, le=1000, description="Steps from noise to image.")
    guidance: Weight | dict[str, Weight] = Field(
        default=1.0,
        description="Classifier-free guidance towards the support; 1 is none. Or by condition, as "
        "{support: 1, text: 3}.",
    )

    def weight(self, condition: str) -> float:
        """Return the guidance towards a condition."""
        if isinstance(self.guidance, dict):
            return self.guidance.get(condition, 1.0)
        return self.guidance if condition == SUPPORT else 1.0


class IntervalSamplerConfig(FlowSamplerConfig):
    """The steps of a flow whose network predicts the mean velocity over each."""

    method: Literal["euler"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="euler", description="One network call per step: its mean velocity."
    )
    steps: int = Field(default=4, ge=1, le=1000, description="Steps from noise to image.")


class LatentSamplerConfig(Section):
    """Latents of a generator of one pass."""

    truncation: float | None = Field(
        default=None,
        gt=0,
        le=10,
        description="Largest size of a latent; less is more alike and better; null: any.",
    )

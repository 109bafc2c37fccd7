"""The section of the inner loop."""

from typing import Annotated, Literal

from pydantic import Field

from metatrain.base.section import Rate, Section, section_of
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.sections import AllScopeConfig

Precision = Literal["fp32", "bf16"]


class InnerConfig(Section):
    """The inner loop of meta-training."""

    steps: int = Field(default=4, ge=1, le=10_000, description="Inner steps (k) of an episode.")
    lr: Rate = Field(default=1e-3, description="Inner learning rate (alpha).")
    lr_changes: dict[Annotated[int, Field(ge=1, le=10**9)], Rate] = Field(
        default={}, description="Inner rates from given outer steps on, as {300: 0.002}."
    )
    optimizer: Literal["sgd", "momentum", "adam"] = Field(
        default="adam", description="Inner optimiser; its state is reset for every task."
    )
    momentum: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Of the inner optimiser, beta_1 of adam; null: 0 where players move, or 0.9.",
    )
    precision: Precision = Field(
        default="fp32",
        description="Precision of layers in training; adaptation uses fp32.",
    )
    compile: bool = Field(
        default=False,
        description="Compile first-order gradients (reptile, fomaml, ...); takes minutes to start.",
    )
    scope: section_of(SCOPES.sections) = AllScopeConfig()  # pyright: ignore[reportInvalidTypeForm]

    def lr_at(self, step: int) -> float:
        """Return the inner rate of outer step `step`, counted from 0."""
        begun = [first for first in self.lr_changes if first <= step]
        return self.lr_changes[max(begun)] if begun else self.lr

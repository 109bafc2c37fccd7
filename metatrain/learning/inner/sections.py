"""Sections of the inner loop and of its scopes, read without torch."""

from typing import Annotated, Literal

from pydantic import Field

from metatrain.base.section import Section


class AllScopeConfig(Section):
    """No settings."""

    name: Literal["all"] = "all"


class FilmScopeConfig(Section):
    """No settings."""

    name: Literal["film"] = "film"


class NormsScopeConfig(Section):
    """No settings."""

    name: Literal["norms"] = "norms"


class AttentionScopeConfig(Section):
    """No settings."""

    name: Literal["attention"] = "attention"


_TARGETS = Field(
    default=(), description="Layers with a term, by the end of their names, as to_q; none is all."
)


class LoRAScopeConfig(Section):
    """The size of the terms and the layers that have one."""

    name: Literal["lora"] = "lora"
    rank: int = Field(default=4, ge=1, le=4096, description="Rank of the term added to each layer.")
    rslora: bool = Field(
        default=False,
        description="Scale terms by the root of the rank (rsLoRA with alpha = rank).",
    )
    target_modules: tuple[str, ...] = _TARGETS


class LoRAMixtureScopeConfig(Section):
    """The ranks of the members, and the layers that have terms."""

    name: Literal["lora_mixture"] = "lora_mixture"
    ranks: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        default=(4, 4), min_length=1, max_length=64, description="Rank of each member's terms."
    )
    target_modules: tuple[str, ...] = _TARGETS


class HeadScopeConfig(Section):
    """No settings."""

    name: Literal["head"] = "head"


class BodyScopeConfig(Section):
    """No settings."""

    name: Literal["body"] = "body"


class ContextScopeConfig(Section):
    """The size of the vector."""

    name: Literal["context"] = "context"
    size: int = Field(default=64, ge=1, le=65536, description="Length of the context vector.")

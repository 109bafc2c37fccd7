"""Sections of the kinds of conditions, read without torch."""

from typing import Literal

from pydantic import Field

from metatrain.base.section import Section
from metatrain.data.sound.wave import MOST_SECONDS


class TextConfig(Section):
    """A string for each example."""

    name: Literal["text"] = "text"


class VectorConfig(Section):
    """Numbers: a tensor [B, size]."""

    name: Literal["vector"] = "vector"
    size: int = Field(default=1, ge=1, le=2**20, description="Numbers of each example.")


class ImageConfig(Section):
    """A second image of the targets' size and channels: a tensor [B, C, H, W] in [-1, 1]."""

    name: Literal["image"] = "image"


_SECONDS = 2.0


class AudioConfig(Section):
    """A sound for each example: its log-mel spectrogram [B, frames, 64], 100 frames a second."""

    name: Literal["audio"] = "audio"
    # Nothing of the packed column: training may hear more or less of what is there.
    seconds: float = Field(
        default=_SECONDS,
        gt=0,
        le=MOST_SECONDS,
        exclude_if=lambda seconds: seconds == _SECONDS,
        description="Length that is heard; a longer sound is cut, a shorter one ends in silence.",
    )

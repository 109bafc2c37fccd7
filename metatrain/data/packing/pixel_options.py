"""The options of packing that decide about pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

from metatrain.base.errors import UserError
from metatrain.data.images import (
    Background,
    BadImage,
    Bits,
    NormalisedImage,
    normalise,
    normalised_tiles,
)
from metatrain.data.packing.raw_images import RawImage
from metatrain.data.task_levels import ValueRange, levels_of


@dataclass(frozen=True)
class PixelOptions:
    """The options of `metatrain.data.packing.pack.pack` that decide about pixels.

    `tile` is the longest side of a photograph, in pixels, that is not cut; None cuts no image.

    Raises:
        UserError: when one has no such value.
    """

    size: int | None
    raw: bool
    background: Background
    value_range: ValueRange
    tile: int | None = None
    bits: Bits = 8

    def __post_init__(self) -> None:
        if self.background not in get_args(Background):
            names = ", ".join(get_args(Background))
            raise UserError(f"background is '{self.background}'; it must be one of {names}.")
        if self.bits not in get_args(Bits):
            raise UserError(f"bits is {self.bits}; it must be 8 or 16.")
        if self.bits == 16 and (self.raw or self.tile or self.background == "keep"):
            raise UserError(
                "16 bits are kept of grey images as PNG; leave --bits out, or leave out --raw, "
                "--photos and --background keep."
            )
        if self.value_range in ("per-task", "per-image"):
            return
        if isinstance(self.value_range, str) or not self.value_range[0] < self.value_range[1]:
            raise UserError(
                f"value_range is {self.value_range!r}; it must be 'per-task', 'per-image', or two "
                f"numbers, the lower first."
            )

    def normaliser(self, task: Sequence[RawImage]) -> Callable[[bytes], list[NormalisedImage]]:
        """Return the function that normalises an image of a task, to one or several tiles."""
        levels = levels_of([raw.read for raw in task], self.value_range)
        options = {"background": self.background, "levels": levels}
        if self.tile:
            return partial(normalised_tiles, side=self.tile, **options)
        options["bits"] = self.bits
        return lambda data: [
            self._of_bits(normalise(data, size=self.size, raw=self.raw, **options))
        ]

    def _of_bits(self, image: NormalisedImage) -> NormalisedImage:
        if image.bits != self.bits:
            raise BadImage("colours or transparency", "16 bits are kept of grey alone")
        return image

"""The keys of section `data` that every task source is given."""

from typing import Literal

from pydantic import Field

from metatrain.base.section import Location, Section
from metatrain.data.decoding.grey_16 import Bits

# Images of a support: a network attends to all of them at once.
MOST_SUPPORT = 1024

TooFew = Literal["refuse", "skip", "repeat"]


class EpisodeConfig(Section):
    """The location of the data, and the size of an image and of an episode."""

    path: Location = Field(
        default="data", description="A packed data set: a path or any fsspec URL."
    )
    image_size: int = Field(default=28, ge=8, le=1024, description="Height and width in pixels.")
    channels: Literal[1, 3, 4] = Field(
        default=1, description="1 for grey, 3 for colour, 4 for colour and transparency."
    )
    # Left out of what is stored where it is the default, as the hashes of models cover it.
    bits: Bits = Field(
        default=8,
        exclude_if=lambda bits: bits == 8,
        description="Bits of a channel, those of the data: 16 is for grey packed with --bits 16.",
    )
    # `DataConfig` says of which kinds; here, packages that register some could not be loaded yet.
    conditions: dict[str, Section] = Field(default={})
    shots: int = Field(
        default=5, ge=1, le=MOST_SUPPORT, description="Support images of an episode (K)."
    )
    queries: int = Field(default=5, ge=1, le=1024, description="Query images of an episode.")
    too_few: TooFew = Field(
        default="refuse", description="Tasks with fewer examples: refuse, skip, or repeat some."
    )
    prefetch_bytes: int = Field(
        default=64_000_000,
        ge=0,
        le=2**48,
        description="Memory of a worker for episodes it reads ahead.",
    )
    cache_dir: Location | None = Field(
        default=None, description="Folder on each node that keeps what was read; null: none."
    )
    cache_bytes: int = Field(
        default=10_000_000_000,
        ge=1,
        le=2**62,
        description="The most bytes that cache_dir may hold.",
    )

"""A package of somebody else's: a task source that makes waves from the seed, and a condition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from typing_extensions import override

from metatrain.base.section import Section
from metatrain.data.conditions import ConditionKind
from metatrain.data.episode_config import TooFew
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.images import BadValue
from metatrain.data.tasks import TaskSource
from metatrain.data.tasks.random_streams import IMAGES, random_stream, stream_key


class WavesConfig(Section):
    """Waves of one direction and wavelength; an example is a phase."""

    name: Literal["waves"] = "waves"
    wavelength: float = Field(default=8.0, gt=1, description="The longest, in pixels.")


@dataclass(frozen=True)
class WavePlan:
    """The place of an episode in its random stream."""

    key: int
    step: int
    slot: int
    examples: int


@dataclass(frozen=True)
class WaveSampler:
    """An endless supply of tasks, none of which comes twice."""

    key: int
    meta_batch: int
    examples: int
    epoch: None = None

    def plan(self, step: int, slot: int) -> WavePlan:
        """Return the plan of an episode."""
        return WavePlan(self.key, step, slot, self.examples)


class Waves(TaskSource[WavesConfig, WavePlan]):
    """Tasks without a data set."""

    Config = WavesConfig

    @override
    def sampler(
        self,
        split: str,
        *,
        seed: int,
        meta_batch: int,
        queries: int | None = None,
        too_few: TooFew | None = None,
    ) -> WaveSampler:
        queries = self.data.queries if queries is None else queries
        return WaveSampler(stream_key(seed, split), meta_batch, self.data.shots + queries)

    @override
    def read(self, plan: WavePlan) -> Episode:
        stream, size = random_stream(plan.key, IMAGES, plan.step, plan.slot), self.data.image_size
        angle, length = stream.uniform(0, np.pi), stream.uniform(2, self.config.wavelength)
        y, x = np.mgrid[:size, :size] / length
        phases = stream.uniform(0, 1, (plan.examples, 1, 1, 1))
        waves = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle) + phases))
        target = torch.from_numpy(waves).float().repeat(1, self.data.channels, 1, 1)
        support, query = Examples(target).split(self.data.shots)
        return Episode(f"{plan.step}/{plan.slot}", support, query, int(stream.integers(2**62)))

    @override
    def bytes_of(self, plan: WavePlan) -> int:
        return 4 * plan.examples * self.data.channels * self.data.image_size**2


class BitsConfig(Section):
    """The bits of a file: a tensor [B, size]."""

    name: Literal["bits"] = "bits"
    size: int = Field(default=8, ge=8, le=4096, multiple_of=8, description="Bits of each file.")


class Bits(ConditionKind[BitsConfig]):
    """The bits of a file, as zeros and ones."""

    Config = BitsConfig
    is_file = True

    @override
    @classmethod
    def encode(cls, data: bytes, size: int | None, raw: bool) -> bytes:
        if not data:
            raise BadValue("empty")
        return data

    @override
    @classmethod
    def config_of(cls, value: bytes) -> BitsConfig:
        return BitsConfig(size=8 * len(value))

    @override
    def decode(self, values: Sequence[bytes]) -> torch.Tensor:
        bits = np.unpackbits(np.frombuffer(b"".join(values), np.uint8))
        return torch.from_numpy(bits.astype(np.float32)).view(len(values), self.config.size)

"""The task source of degradations: a task is a photograph, degraded in a way of its own."""

import hashlib

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.degradations.degradation import LOW, Degradation
from metatrain.data.degradations.kernel_files import read_kernels
from metatrain.data.degradations.kernels import gaussian, motion
from metatrain.data.degradations.view import View
from metatrain.data.episode_config import EpisodeConfig, TooFew
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.images import BadImage, open_packed
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.packed_source import PackedSource
from metatrain.data.tasks.photo_sampler import PhotoPlan, PhotoSampler
from metatrain.data.tasks.random_streams import stream_key
from metatrain.data.tasks.sections import DegradationsConfig

_MODES = {1: "L", 3: "RGB"}


class Degradations(PackedSource[DegradationsConfig, PhotoPlan]):
    """Degradations of packed photographs.

    An example's target has the size `data.image_size`, in support and query alike, and its
    condition `low` that size divided by the scale.

    Args:
        config: the source's section of the configuration.
        data: the rest of section `data`.
        store: the data set; by default the one at `data.path`, with its cache on this node.

    Raises:
        UserError: when the data set or the kernels cannot be used, or sizes do not fit.
    """

    Config = DegradationsConfig

    def __init__(
        self, config: DegradationsConfig, data: EpisodeConfig, store: EpisodeStore | None = None
    ) -> None:
        super().__init__(config, data, store)
        if data.image_size % config.scale:
            raise UserError(
                f"data.image_size is {data.image_size}, which data.tasks.scale of {config.scale} "
                f"does not divide; choose a multiple."
            )
        if data.bits != 8:
            raise UserError(
                f"data.bits is {data.bits}, and photographs are packed with 8; leave it out."
            )
        if data.channels not in _MODES:
            raise UserError(
                f"data.channels is {data.channels}, and photographs have 1 or 3; choose one of "
                f"these."
            )
        self._measured = read_kernels(config.measured) if config.measured else []

    @override
    @classmethod
    def conditions(
        cls, config: DegradationsConfig, data: EpisodeConfig
    ) -> dict[str, tuple[int, ...]]:
        side = data.image_size // config.scale
        return {LOW: (data.channels, side, side)}

    @override
    def sampler(
        self,
        split: str,
        *,
        seed: int,
        meta_batch: int,
        queries: int | None = None,
        too_few: TooFew | None = None,
    ) -> PhotoSampler:
        tasks = self.store.tasks(split)
        if not tasks:
            raise UserError(f"split '{split}' of {self.url} has no photograph; pack more of them.")
        queries = self.data.queries if queries is None else queries
        return PhotoSampler(tasks, stream_key(seed, split), meta_batch, queries)

    @override
    def read(self, plan: PhotoPlan) -> Episode:
        photo = self._photo(plan)
        stream = np.random.Generator(np.random.Philox(key=plan.seed))
        degradation = self.degradation(stream)
        size, shots = self.data.image_size, self.data.shots
        views = [View(photo, degradation, size, stream) for _ in range(shots)]
        support = [view.support for view in views]
        query = [views[i % shots].query(stream) for i in range(plan.queries)]
        return Episode(plan.task.name, _examples(support), _examples(query), plan.seed)

    def degradation(self, stream: np.random.Generator) -> Degradation:
        """Return a random degradation of the configured kinds."""
        config = self.config
        kind = config.kernels[stream.integers(len(config.kernels))]
        subsampling = config.subsampling[stream.integers(len(config.subsampling))]
        return Degradation(
            config.scale,
            kernel=self._kernel(kind, stream),
            subsampling="bicubic" if kind == "bicubic" else subsampling,
            noise=stream.uniform(0, config.noise) if config.noise else 0.0,
            jpeg=None if config.jpeg is None else int(stream.integers(config.jpeg, 101)),
        )

    @override
    def bytes_of(self, plan: PhotoPlan) -> int:
        count, size = self.data.shots + plan.queries, self.data.image_size
        decoded = count * 8 * self.data.channels * size**2
        # A row group holds the photograph encoded; decoded it is larger by far.
        return decoded + 16 * self.store.bytes_of(plan.task, [plan.image])

    @property
    @override
    def fingerprint(self) -> str:
        kernels = [kernel.tobytes().hex() for kernel in self._measured]
        decides = [super().fingerprint, self.store.fingerprint, *kernels]
        return hashlib.sha256("/".join(decides).encode()).hexdigest()

    @override
    def refuse_enlarging(self, size: int) -> None:
        self.store.refuse_enlarging(size * self.config.scale)

    def _photo(self, plan: PhotoPlan) -> np.ndarray:
        """Read a photograph [C, H, W] in [-1, 1], by one request."""
        [data] = self.store.read(plan.task, [plan.image])
        name, least = printable(plan.task.name), self.data.image_size * self.config.scale
        try:
            pixels = np.asarray(open_packed(data).convert(_MODES[self.data.channels]), np.float64)
        except BadImage as error:
            raise UserError(
                f"photograph '{name}' in {self.url} cannot be used ({error}); pack it again."
            ) from error
        if min(pixels.shape[:2]) < least:
            raise UserError(
                f"photograph '{name}' in {self.url} is {pixels.shape[1]} x {pixels.shape[0]}, and "
                f"data.image_size of {self.data.image_size} at scale {self.config.scale} needs "
                f"{least} pixels a side; lower data.image_size, or pack larger photographs."
            )
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return pixels / 127.5 - 1

    def _kernel(self, kind: str, stream: np.random.Generator) -> np.ndarray | None:
        size, (low, high) = self.config.kernel_size, self.config.sigma
        if kind == "bicubic":
            return None
        if kind == "measured":
            return self._measured[stream.integers(len(self._measured))]
        if kind == "motion":
            return motion(size, stream.uniform(1, size - 2), stream.uniform(0, np.pi))
        (one, other), angle = stream.uniform(low, high, 2).tolist(), stream.uniform(0, np.pi)
        return gaussian(size, (one, one) if kind == "isotropic" else (one, other), angle)


def _examples(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Examples:
    lows, targets = (_tensor(np.stack(parts)) for parts in zip(*pairs, strict=True))
    return Examples(targets, {LOW: lows})


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))

"""The deployments that compute: one adapts, and the other draws with adapted models."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from ray import serve

from metatrain.model.model import Model
from serving.computing import (
    AdaptRequest,
    LocalComputing,
    Picture,
    PreferRequest,
    ResultPart,
    Wish,
    drawn,
    teachable_sha256,
)
from serving.limits import Limits, RequestError
from serving.models import Models, ModelSource
from serving.on_ray.failures import REFUSALS, Failure, failure_of
from serving.on_ray.settings import ServiceSettings

# The name of the deployment of the API, which knows who wants to stop.
FRONT = "Front"
# Seconds between two questions whether a client wants to stop.
_STOP_SECONDS = 0.5
_BATCH = 16

_log = logging.getLogger("ray.serve")


class AdaptingReplica:
    """A replica that adapts models, and lets them learn from choices.

    Args:
        settings: the settings.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        models = Models(settings.models, settings.device, trust=settings.trust, loaded=1)
        self._computing = LocalComputing(models, Limits().seconds)
        # The device computes one part at a time, of each request in turn.
        self._device = asyncio.Lock()

    async def adapt(self, request: AdaptRequest, key: str) -> AsyncIterator[ResultPart | Failure]:
        """Yield the parts of an adaptation; `key` is its name at the front."""
        async for part in self._streamed(self._computing.adapt(request, _Stop(key))):
            yield part

    async def prefer(self, request: PreferRequest, key: str) -> AsyncIterator[ResultPart | Failure]:
        """Yield the parts of what choices teach; `key` is its name at the front."""
        async for part in self._streamed(self._computing.prefer(request, _Stop(key))):
            yield part

    async def _streamed(self, parts: Iterator[ResultPart]) -> AsyncIterator[ResultPart | Failure]:
        while True:
            async with self._device:
                part = await asyncio.to_thread(_refused, lambda: next(parts, None))
            if part is None:
                return
            yield part
            if isinstance(part, Failure):
                return


class _Stop:
    """The question whether the client of a request wants no further steps.

    Args:
        key: the name of the request at the front.
    """

    def __init__(self, key: str) -> None:
        self._key, self._asked = key, time.monotonic()
        self._front = serve.get_deployment_handle(FRONT, serve.get_replica_context().app_name)

    def __call__(self) -> bool:
        """Ask the front, but not too often.

        Raises:
            RequestError: when nobody waits for the result any more.
        """
        if time.monotonic() - self._asked < _STOP_SECONDS:
            return False
        self._asked = time.monotonic()
        stopped = self._front.stopped.remote(self._key).result()
        if stopped is None:
            raise RequestError(404, "nobody waits for this any more.")
        return stopped


class DrawingReplica:
    """A replica that draws with adapted models, the last used of which it has in memory.

    Args:
        settings: the settings.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._models = Models(settings.models, settings.device, trust=settings.trust, loaded=0)

        async def read(url: str) -> Model:
            return await asyncio.to_thread(self._models.read, url)

        self._adapted: Any = serve.multiplexed(max_num_models_per_replica=settings.loaded)(read)

    async def draw(self, source: ModelSource, wish: Wish) -> Picture | Failure:
        """Draw an image."""
        return await self._draw_batch((source, wish))

    @serve.batch(max_batch_size=_BATCH, batch_wait_timeout_s=0.0)
    async def _draw_batch(self, wishes: list[tuple[ModelSource, Wish]]) -> list[Picture | Failure]:
        """Draw images of a batch, each alone, so that it is the same to the bit.

        Serve makes batches of requests for one adapted model.
        """
        return [await self._drawn(source, wish) for source, wish in wishes]

    async def _drawn(self, source: ModelSource, wish: Wish) -> Picture | Failure:
        model = await self._read(source)
        if isinstance(model, Failure):
            return model
        return await asyncio.to_thread(_refused, lambda: drawn(model, wish))

    async def sha256_of(self, source: ModelSource) -> str | Failure:
        """Return the hash of an adapted model, for choices between its drawings."""
        model = await self._read(source)
        if isinstance(model, Failure):
            return model
        return await asyncio.to_thread(_refused, lambda: teachable_sha256(model))

    async def _read(self, source: ModelSource) -> Model | Failure:
        try:
            if source.url is None:
                return self._models[source.model]
            return await self._adapted(source.url)
        except REFUSALS as error:
            return failure_of(error)


def _refused(compute: Callable[[], Any]) -> Any:
    """Return what is computed, or a refusal as a value, so that others of a batch succeed."""
    try:
        return compute()
    except REFUSALS as error:
        return failure_of(error)
    except Exception:
        _log.exception("a computation failed")
        return Failure(status=500, sentence="the server has failed; its log has the reason.")

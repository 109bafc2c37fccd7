"""Computing by the replicas of a cluster; what a lost one has begun, another begins anew."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle
from typing_extensions import override

from metatrain.base.errors import UserError
from serving.computing import (
    AdaptRequest,
    Computing,
    Picture,
    PreferRequest,
    ResultPart,
    Wish,
    too_long,
)
from serving.models import ModelSource
from serving.on_ray.failures import checked

# A request that ends each process which computes it, such as by its memory, may end so many.
_TRIES = 3


class RemoteComputing(Computing):
    """Computing by replicas; may be used by many threads.

    All that they compute is decided by the request and its seed, so a lost replica changes nothing.

    Args:
        adapter: the deployment that adapts.
        sampler: the deployment that draws.
        seconds: time that a request may take to compute.
    """

    def __init__(
        self, *, adapter: DeploymentHandle, sampler: DeploymentHandle, seconds: float
    ) -> None:
        self._adapter, self._sampler, self._seconds = adapter, sampler, seconds
        self._stops: dict[str, Callable[[], bool]] = {}

    def stopped(self, key: str) -> bool | None:
        """Tell whether the client of a request wants no further steps; None where nobody waits."""
        stopped = self._stops.get(key)
        return None if stopped is None else stopped()

    @override
    def adapt(self, request: AdaptRequest, stopped: Callable[[], bool]) -> Iterator[ResultPart]:
        return self._streamed("adapt", request, stopped)

    @override
    def prefer(self, request: PreferRequest, stopped: Callable[[], bool]) -> Iterator[ResultPart]:
        return self._streamed("prefer", request, stopped)

    def _streamed(
        self, method: str, request: AdaptRequest | PreferRequest, stopped: Callable[[], bool]
    ) -> Iterator[ResultPart]:
        for _ in range(_TRIES):
            key = secrets.token_hex(16)
            self._stops[key] = stopped
            stream = getattr(self._adapter.options(stream=True), method).remote(request, key)
            try:
                for part in stream:
                    yield checked(part)
                return
            except RayActorError:  # another replica begins anew
                pass
            finally:
                del self._stops[key]
                stream.cancel()
        raise _lost()

    @override
    def draw(self, source: ModelSource, wishes: Sequence[Wish]) -> Iterator[Picture]:
        sampler, computed = self._of(source), 0.0
        responses = [sampler.draw.remote(source, wish) for wish in wishes]
        try:
            for wish, response in zip(wishes, responses, strict=True):
                picture = checked(_result(response, lambda: sampler.draw.remote(source, wish)))  # noqa: B023
                computed += picture.seconds
                if computed > self._seconds:
                    raise too_long(self._seconds)
                yield picture
        finally:
            for response in responses:
                response.cancel()

    @override
    def sha256_of(self, source: ModelSource) -> str:
        sampler = self._of(source)
        return checked(
            _result(sampler.sha256_of.remote(source), lambda: sampler.sha256_of.remote(source))
        )

    def _of(self, source: ModelSource) -> DeploymentHandle:
        """Return the handle of requests for one model."""
        return self._sampler.options(multiplexed_model_id=source.url or source.model)

    @override
    def forget(self, url: str) -> None:
        """Do nothing: replicas drop what is unused, and nobody asks them for this again."""


def _result(response: Any, repeat: Callable[[], Any]) -> Any:
    """Wait for a response, from another replica where one is lost."""
    for _ in range(_TRIES - 1):
        try:
            return response.result()
        except RayActorError:
            response = repeat()
    try:
        return response.result()
    except RayActorError as error:
        raise _lost() from error


def _lost() -> UserError:
    return UserError(
        f"{_TRIES} processes ended while they computed this; ask for less, or see their logs."
    )

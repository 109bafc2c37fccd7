"""Counts of what a server does, for Prometheus."""

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.accounts import Account
from serving.worker import Worker

_SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300)


class Metrics:
    """Counts of one server.

    Args:
        worker: tells its jobs.
        accounts: tell their adaptations, together.

    Attributes:
        adaptations: adaptations that ended, by state.
        images: drawings that were answered.
    """

    def __init__(self, worker: Worker, accounts: Sequence[Account]) -> None:
        self._registry = registry = CollectorRegistry()
        labels = ("method", "path", "status")
        self._requests = Histogram(
            "metatrain_request_seconds", "Requests by their time", labels, buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.adaptations = Counter(
            "metatrain_adaptations", "Adaptations that ended", ("state",), registry=registry
        )
        self.images = Counter("metatrain_images", "Images drawn for requests", registry=registry)
        gauges = {
            "jobs": ("Jobs that are not done", lambda: worker.count),
            "stored_adaptations": (
                "Adaptations on disk",
                lambda: sum(len(account.adaptations) for account in accounts),
            ),
            "stored_bytes": (
                "Bytes of their files",
                lambda: sum(account.adaptations.disk.used for account in accounts),
            ),
        }
        for name, (text, value) in gauges.items():
            Gauge(f"metatrain_{name}", text, registry=registry).set_function(value)

    def text(self) -> bytes:
        """Return all of them in the text format of Prometheus."""
        return generate_latest(self._registry)

    def measured(self, app: ASGIApp) -> ASGIApp:
        """Return an application whose requests are counted."""

        async def measure(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            started, status = time.monotonic(), 500

            async def observe(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, observe)
            finally:
                seconds = time.monotonic() - started
                self._requests.labels(*_route_of(scope), status).observe(seconds)

        return measure


def _route_of(scope: Scope) -> tuple[str, str]:
    """Return the method and the route of a request.

    Of paths and of methods that are none there are as many as clients think of.
    """
    route = scope.get("route")
    if not isinstance(route, Route) or scope["method"] not in (route.methods or ()):
        return "any", "none"
    return scope["method"], route.path

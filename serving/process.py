"""One process on this machine that serves an application."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from metatrain.base.device import device_of
from serving.connection import PATIENCE, Connection
from serving.limits import Limits
from serving.models import Models
from serving.worker import Worker

# Seconds that open streams of events have when the server ends.
_LAST_SECONDS = 1


@contextmanager
def computing(
    urls: Sequence[str], *, device: str, trust: bool, limits: Limits
) -> Iterator[tuple[Models, Worker]]:
    """Load the models that adapt, and start their worker.

    Args:
        urls: the models.
        device: where the models compute.
        trust: whether to read the places that the models' files name.
        limits: the bounds of memory and of the queue.

    Raises:
        UserError: when a model cannot be loaded.
    """
    models = Models(urls, str(device_of(device)), trust=trust, loaded=limits.loaded)
    worker = Worker(limits.waiting)
    try:
        yield models, worker
    finally:
        worker.close()


def run(app: ASGIApp, bound: socket.socket, limits: Limits) -> None:
    """Serve an application until the process is interrupted."""
    uvicorn.Server(server_config(app, limits)).run(sockets=[bound])


def server_config(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """Return the configuration of the server of an application."""
    return uvicorn.Config(
        app,
        http=Connection,
        loop="asyncio",  # whatever else is installed
        log_level="critical",  # it would log every request, with the token in the first
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        # The application refuses what is beyond its own bound, in a sentence.
        limit_concurrency=2 * limits.requests,
        # A connection's own patience ends first.
        timeout_keep_alive=round(2 * PATIENCE),
        timeout_graceful_shutdown=_LAST_SECONDS,
    )

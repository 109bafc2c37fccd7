"""One process on this machine that serves an application."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from metatrain.base.device import device_of
from metatrain.base.errors import UserError
from metatrain.model.listing import run_models
from metatrain.model.named import named_models
from metatrain.storage.lease import lease
from serving.connection import PATIENCE, Connection
from serving.disk import make_private
from serving.limits import Limits
from serving.models import Models
from serving.worker import Worker

# Seconds that open streams of events have when the server ends.
_LAST_SECONDS = 1


def trained_models() -> list[str]:
    """List the models of the finished runs in `runs` and those with names, where none is given.

    Raises:
        UserError: when there is none.
    """
    urls = [*map(str, run_models()), *(model.file for model in named_models().values())]
    if not urls:
        raise UserError(
            "there is no model in ./runs; name a model file or the folder of a finished run."
        )
    return urls


@contextmanager
def computing(
    urls: Sequence[str], *, folder: Path, device: str, trust: bool, limits: Limits
) -> Iterator[tuple[Models, Worker]]:
    """Hold a folder of adaptations, and start the worker of the models that adapt.

    Args:
        urls: the models.
        folder: holds the adaptations; no other server may have it.
        device: where the models compute.
        trust: whether to read the places that the models' files name.
        limits: the bounds of memory and of the queue.

    Raises:
        UserError: when a model cannot be loaded, or the folder is none or in use.
    """
    make_private(folder)
    models = Models(urls, str(device_of(device)), trust=trust, loaded=limits.loaded)
    with lease(str(folder), "serves"):
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


@contextmanager
def listening(address: str, port: int) -> Iterator[socket.socket]:
    """Open a socket that listens; 0 is any free port.

    Raises:
        UserError: when it cannot be had.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Only where it knows the protocol does asyncio send small answers at once (TCP_NODELAY), which
    # wait 40 ms for the client's acknowledgement else.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address, port))
            bound.listen()  # whoever comes before the server runs waits for it
        except (OSError, TypeError) as error:  # the second for what is no name of a host
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"port {port} of {address} cannot be used ({reason}); choose another."
            ) from error
        yield bound

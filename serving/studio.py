"""The studio: one process on this machine that serves its page and the API to its own user."""

import os
import secrets
import socket
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import uvicorn
from starlette.types import ASGIApp

from metatrain.base.errors import UserError
from metatrain.base.machine import device_of
from metatrain.base.progress import say
from metatrain.model.listing import run_models
from metatrain.model.named import named_models
from metatrain.storage.lease import lease
from serving.adaptations import Adaptations
from serving.api import Api
from serving.connection import Connection
from serving.guard import HOSTS, Guard
from serving.limits import Limits
from serving.models import Models
from serving.worker import Worker

# Seconds that open streams of events have when the server ends.
_LAST_SECONDS = 1


def state_folder() -> Path:
    """Return the folder of adaptations where none is named."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "metatrain" / "studio"


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


def run_studio(
    urls: Sequence[str],
    *,
    folder: Path,
    port: int,
    device: str,
    trust: bool,
    browser: bool,
    limits: Limits | None = None,
) -> None:
    """Serve the studio at 127.0.0.1 until the process is interrupted.

    Args:
        urls: the models.
        folder: holds the adaptations.
        port: 0 for any free one.
        device: where the models compute.
        trust: whether to read the places that the models' files name.
        browser: whether to open the page.
        limits: the bounds of requests.

    Raises:
        UserError: when a model cannot be loaded, the folder is in use, or the port is taken.
    """
    limits = limits or Limits()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    models = Models(urls, str(device_of(device)), trust=trust, loaded=limits.loaded)
    with lease(str(folder), "serves"), _bound(port) as bound:
        worker = Worker(limits.waiting)
        api = Api(
            models=models,
            adaptations=Adaptations(folder, limits),
            worker=worker,
            limits=limits,
        )
        token, port = secrets.token_urlsafe(24), bound.getsockname()[1]
        app = Guard(api.app(), token=token, cookie=f"metatrain-{port}")
        url = f"http://{HOSTS[0]}:{port}/?token={token}"
        say(f"The studio is at {url}\nCtrl-C ends it; adaptations stay in {folder}.")
        try:
            with _opened(url) if browser else nullcontext():
                uvicorn.Server(server_config(app, limits)).run(sockets=[bound])
        finally:
            worker.close()


@contextmanager
def _opened(url: str) -> Iterator[None]:
    """Open `url` in the browser by a page that leads there.

    Other users of the machine see the arguments of the browser's process, and only this user can
    read the page.
    """
    with TemporaryDirectory(prefix="metatrain-") as folder:
        page = Path(folder) / "studio.html"
        page.write_text(entry_page(url))
        Thread(target=webbrowser.open, args=[page.as_uri()], daemon=True).start()
        yield


def entry_page(url: str) -> str:
    """Return a page that leads to `url`."""
    return f'<meta http-equiv="refresh" content="0; url={url}">'


def server_config(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """Return the configuration of the server of an application."""
    return uvicorn.Config(
        app,
        http=Connection,
        log_level="critical",  # it would log every request, with the token in the first
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=2 * limits.listeners,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )


def _bound(port: int) -> socket.socket:
    """Return a socket bound to `port` of this machine alone."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOSTS[0], port))
    except OSError as error:
        bound.close()
        raise UserError(
            f"port {port} of this machine cannot be used ({error.strerror}); choose another."
        ) from error
    return bound

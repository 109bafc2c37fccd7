"""The studio: one process on this machine that serves its page and the API to its own user."""

import secrets
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from metatrain.base.progress import say
from serving.accounts import Account
from serving.api import Api
from serving.guard import HOSTS
from serving.limits import Limits, Quota
from serving.page_guard import PageGuard
from serving.process import computing, listening, run

_PAGE = Path(__file__).parent / "page"


def run_studio(
    urls: Sequence[str],
    *,
    folder: Path,
    port: int,
    device: str,
    trust: bool,
    browser: bool,
) -> None:
    """Serve the studio at 127.0.0.1 until the process is interrupted.

    Args:
        urls: the models.
        folder: holds the adaptations.
        port: 0 for any free one.
        device: where the models compute.
        trust: whether to read the places that the models' files name.
        browser: whether to open the page.

    Raises:
        UserError: when a model cannot be loaded, the folder is in use, or the port is taken.
    """
    limits = Limits()
    with (
        computing(urls, folder=folder, device=device, trust=trust, limits=limits) as parts,
        listening(HOSTS[0], port) as bound,
    ):
        models, worker = parts
        account = Account(folder, Quota())
        api = Api(models=models, accounts=[account], worker=worker, limits=limits)
        token, port = secrets.token_urlsafe(24), bound.getsockname()[1]
        app = PageGuard(
            api.app(page_routes()),
            accounts={token: account},
            cookie=f"metatrain-{port}",
            requests=limits.requests,
        )
        url = f"http://{HOSTS[0]}:{port}/?token={token}"
        say(f"The studio is at {url}\nCtrl-C ends it; adaptations stay in {folder}.")
        with _opened(url) if browser else nullcontext():
            run(app, bound, limits)


def page_routes() -> list[BaseRoute]:
    """Return the routes of the page."""

    async def page(request: Request) -> Response:
        return FileResponse(_PAGE / "index.html")

    return [Route("/", page), Mount("/page", StaticFiles(directory=_PAGE))]


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

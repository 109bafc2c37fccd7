"""The application of the studio: its page, on the API."""

import socket
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from serving.accounts import Account
from serving.api import Api
from serving.limits import Limits, Quota
from serving.page_guard import PageGuard
from serving.process import computing, run

_PAGE = Path(__file__).parent / "page"


def serve_studio(
    urls: Sequence[str],
    *,
    folder: Path,
    bound: socket.socket,
    token: str,
    device: str,
    trust: bool,
) -> None:
    """Serve the studio until the process is interrupted.

    Args:
        urls: the models.
        folder: holds the adaptations.
        bound: where it listens.
        token: the token of its user.
        device: where the models compute.
        trust: whether to read the places that the models' files name.

    Raises:
        UserError: when a model or an adaptation cannot be loaded.
    """
    limits = Limits()
    with computing(urls, device=device, trust=trust, limits=limits) as (models, worker):
        account = Account(folder, Quota())
        api = Api(models=models, accounts=[account], worker=worker, limits=limits)
        app = PageGuard(
            api.app(page_routes()),
            accounts={token: account},
            cookie=f"metatrain-{bound.getsockname()[1]}",
            requests=limits.requests,
        )
        run(app, bound, limits)


def page_routes() -> list[BaseRoute]:
    """Return the routes of the page."""

    async def page(request: Request) -> Response:
        return FileResponse(_PAGE / "index.html")

    return [Route("/", page), Mount("/page", StaticFiles(directory=_PAGE))]

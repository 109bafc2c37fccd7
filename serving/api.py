"""The HTTP API: its operations, its document, and answers to errors."""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from metatrain.base.errors import UserError
from metatrain.model.model import Model
from serving import reference
from serving.accounts import Account
from serving.adapting import Adapting
from serving.choosing import Choosing
from serving.computing import Computing, LocalComputing
from serving.drawing import Drawings
from serving.limits import Limits, RequestError
from serving.metrics import Metrics
from serving.models import Models
from serving.operations import JSON, TEXT, Operation, document
from serving.service import Service
from serving.telling import told_kinds
from serving.worker import Worker

# Seconds between two looks for adaptations whose time is over.
_EXPIRY_SECONDS = 30.0

# Errors that no operation has told.
_SENTENCES = {
    404: "there is nothing at this path; /docs describes those that there are.",
    405: "this path has no such method; /docs describes those that it has.",
}

# Nobody sees it but the counts; as nginx has it.
_LEFT = 499

_log = logging.getLogger("metatrain")


class ModelDescription(BaseModel):
    """A model that clients may adapt; `conditions` are those of text and audio that it takes."""

    name: str
    image_size: int
    channels: int
    shots: int
    steps: int
    calibrated: bool
    conditions: list[str]
    sha256: str


class Health(BaseModel):
    """The state of the server."""

    status: Literal["ok"]
    jobs: int


class Api:
    """The HTTP API over models, their adaptations and one worker.

    Args:
        models: the models to adapt.
        accounts: the clients; each sees its own adaptations alone.
        worker: advances jobs.
        limits: the bounds of a request.
        computing: what computes; by default this process.
    """

    def __init__(
        self,
        *,
        models: Models,
        accounts: Sequence[Account],
        worker: Worker,
        limits: Limits,
        computing: Computing | None = None,
    ) -> None:
        self._accounts = accounts
        self._service = Service(
            models=models,
            computing=computing or LocalComputing(models, limits.seconds),
            worker=worker,
            limits=limits,
            metrics=Metrics(worker, accounts),
        )
        self._adapting, self._drawings = Adapting(self._service), Drawings(self._service)

    def app(self, page: Sequence[BaseRoute] = ()) -> ASGIApp:
        """Make the application, without its locks.

        Args:
            page: routes of a page that stands on the API.
        """
        app = Starlette(
            routes=[*_described(self._operations()), *page],
            exception_handlers={
                RequestError: _refused,
                UserError: _mistaken,
                HTTPException: _http_error,
                ClientDisconnect: _left,
                Exception: _failed,
            },
            lifespan=self._lifespan,
        )
        app.router.redirect_slashes = False
        return self._service.metrics.measured(app)

    def _operations(self) -> list[Operation]:
        return [
            Operation(
                "GET", "/healthz", self._health, "Tell whether the server works.",
                answers={JSON: Health}, public=True,
            ),
            Operation(
                "GET", "/metrics", self._measure, "Tell what was done, for Prometheus.",
                answers={TEXT: None},
            ),
            Operation(
                "GET", "/v1/models", self._list_models, "List the models.",
                answers={JSON: [ModelDescription]},
            ),
            *self._adapting.operations(),
            *self._drawings.operations(),
            *Choosing(self._service, self._adapting.begin).operations(),
        ]  # fmt: skip

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        for account in self._accounts:
            self._adapting.resume(account)
        sweep = asyncio.create_task(self._remove_expired())
        yield
        sweep.cancel()

    async def _remove_expired(self) -> None:
        while True:
            for account in self._accounts:
                await self._adapting.remove_expired(account)
            await asyncio.sleep(_EXPIRY_SECONDS)

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "jobs": self._service.worker.count})

    async def _measure(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), media_type=f"{TEXT}; version=0.0.4")

    async def _list_models(self, request: Request) -> Response:
        models = self._service.models.by_name.items()
        return JSONResponse([_description(name, model).model_dump() for name, model in models])


def _described(operations: Sequence[Operation]) -> list[BaseRoute]:
    """Return the operations with the document that describes them, for programs and people."""
    description = document(operations)
    page = reference.page(description)

    async def openapi(request: Request) -> Response:
        return JSONResponse(description)

    async def docs(request: Request) -> Response:
        return HTMLResponse(page)

    return [*operations, Route("/openapi.json", openapi), Route("/docs", docs)]


def _description(name: str, model: Model) -> ModelDescription:
    data = model.config.data
    return ModelDescription(
        name=name,
        image_size=data.image_size,
        channels=data.channels,
        shots=data.shots,
        steps=model.config.adapt.steps,
        calibrated=model.calibration is not None,
        conditions=told_kinds(model.config),
        sha256=model.sha256,
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    content: dict[str, Any] = {"error": error.sentence}
    if error.images:
        content["images"] = [asdict(image) for image in error.images]
    retry = {"retry-after": str(error.retry_after)} if error.retry_after else {}
    return JSONResponse(content, error.status, retry)


async def _mistaken(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = _SENTENCES.get(error.status_code, f"the request cannot be used: {error.detail}")
    return JSONResponse({"error": f"{detail.rstrip('.')}."}, error.status_code, error.headers)


async def _left(request: Request, error: Exception) -> Response:
    """Answer a client that has gone before its request had arrived, which is no failure to log."""
    return Response(status_code=_LEFT)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer after a failure of the server itself."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return JSONResponse({"error": "the disk of the server is full; try again later."}, 507)
    _log.error("a request failed", exc_info=error)
    return JSONResponse({"error": "the server has failed; its log has the reason."}, 500)

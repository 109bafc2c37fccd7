"""The routes of the HTTP API and of the page."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from metatrain import Model
from metatrain.base.errors import UserError
from metatrain.data.pictures import png
from serving import jobs
from serving.adaptations import Adaptation, Adaptations, Drawing, Record
from serving.answers import (
    ADAPTATION,
    ADAPTATIONS,
    begun,
    http_error,
    mistaken,
    refused,
    unchanging,
    zip_file,
)
from serving.choice_routes import ChoiceRoutes
from serving.downloads import archive, sheet
from serving.limits import Limits, Places, RequestError
from serving.models import Models
from serving.uploads import (
    AdaptationSettings,
    KeepSettings,
    SampleSettings,
    Uploads,
    parsed,
    read_json,
)
from serving.worker import Worker

_PAGE = Path(__file__).parent / "page"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Api:
    """The HTTP API over models, their adaptations and one worker.

    Args:
        models: the models to adapt.
        adaptations: the adaptations, which it adds to and deletes from.
        worker: what computes.
        limits: the bounds of a request.
    """

    def __init__(
        self, *, models: Models, adaptations: Adaptations, worker: Worker, limits: Limits
    ) -> None:
        self._models, self._adaptations, self._worker = models, adaptations, worker
        self._limits, self._uploads = limits, Uploads(limits)
        self._listeners = Places(limits.listeners, "streams of events")

    def app(self) -> Starlette:
        """Make the application, without its locks."""
        choices = ChoiceRoutes(
            models=self._models,
            adaptations=self._adaptations,
            worker=self._worker,
            limits=self._limits,
        )
        return Starlette(
            routes=[
                Route("/", _page),
                Route("/healthz", self._health),
                Route("/v1/models", self._list_models),
                Route("/v1/pictures", self._picture, methods=["POST"]),
                Route(ADAPTATIONS, self._list),
                Route(ADAPTATIONS, self._create, methods=["POST"]),
                Route(ADAPTATION, self._get),
                Route(ADAPTATION, self._delete, methods=["DELETE"]),
                Route(f"{ADAPTATION}/events", self._events),
                Route(f"{ADAPTATION}/stop", self._stop, methods=["POST"]),
                Route(f"{ADAPTATION}/given/{{index:int}}.png", self._given),
                Route(f"{ADAPTATION}/previews/{{step:int}}-{{index:int}}.png", self._preview),
                Route(f"{ADAPTATION}/adapted.safetensors", self._adapted),
                Route(f"{ADAPTATION}/sheet.png", self._sheet),
                Route(f"{ADAPTATION}/drawings.zip", self._archive),
                Route(f"{ADAPTATION}/samples", self._sample, methods=["POST"]),
                Route(f"{ADAPTATION}/samples/{{name}}", self._keep, methods=["PATCH"]),
                Route(f"{ADAPTATION}/samples/{{name}}.png", self._drawing),
                *choices.routes,
                Mount("/page", StaticFiles(directory=_PAGE)),
            ],
            exception_handlers={
                RequestError: refused,
                UserError: mistaken,
                HTTPException: http_error,
            },
        )

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "jobs": self._worker.count})

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse([_description(n, m) for n, m in self._models.by_name.items()])

    async def _picture(self, request: Request) -> Response:
        """Show one image as the model sees it, or refuse it."""
        fields, images = await self._uploads.read(request)
        config = self._models[fields.get("model", "")].config.data
        support = await self._uploads.decode(images[:1], config)
        return Response(png(support.target[0]), media_type="image/png")

    async def _list(self, request: Request) -> Response:
        return JSONResponse([a.record.model_dump(exclude={"drawings"}) for a in self._adaptations])

    async def _create(self, request: Request) -> Response:
        fields, images = await self._uploads.read(request)
        settings = parsed(fields, AdaptationSettings)
        model = self._models[settings.model]
        steps = settings.steps or model.config.adapt.steps
        if steps > self._limits.steps:
            raise RequestError(422, f"steps is {steps:,}; take at most {self._limits.steps:,}.")
        support = await self._uploads.decode(images, model.config.data)
        self._worker.refuse_more()
        adaptation = await asyncio.to_thread(
            self._adaptations.create,
            model=settings.model,
            names=[name for name, _ in images],
            pictures=[png(image) for image in support.target],
            seed=settings.seed,
            steps=steps,
        )
        job = jobs.adapt(adaptation, support, self._models)
        jobs.submit(self._worker, adaptation, jobs.reported(adaptation, job))
        return begun(adaptation.record)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._adaptation(request).record.model_dump())

    async def _delete(self, request: Request) -> Response:
        adaptation = self._adaptations.forget(request.path_params["id"])
        job = jobs.remove(adaptation, self._models)
        await asyncio.wrap_future(self._worker.submit(job, bounded=False))
        return Response(status_code=204)

    async def _events(self, request: Request) -> Response:
        self._listeners.refuse_when_full()  # the stream itself begins after the status
        return StreamingResponse(
            self._stream(self._adaptation(request)), media_type="text/event-stream"
        )

    async def _stream(self, adaptation: Adaptation) -> AsyncIterator[str]:
        with self._listeners:
            async for record in adaptation.watch():
                yield f"event: state\ndata: {record.model_dump_json()}\n\n"
        yield "event: deleted\ndata: {}\n\n"

    async def _stop(self, request: Request) -> Response:
        adaptation = self._adaptation(request)
        adaptation.stopped = True
        return JSONResponse(adaptation.record.model_dump(), 202)

    async def _given(self, request: Request) -> Response:
        adaptation, index = self._adaptation(request), request.path_params["index"]
        if index >= len(adaptation.record.given):
            raise RequestError(404, f"there are {len(adaptation.record.given)} given images.")
        return unchanging(adaptation.given_file(index))

    async def _preview(self, request: Request) -> Response:
        adaptation = self._adaptation(request)
        step, index = request.path_params["step"], request.path_params["index"]
        if not any(p.step == step and index < p.images for p in adaptation.record.previews):
            raise RequestError(404, "there is no such preview.")
        return unchanging(adaptation.preview_file(step, index))

    async def _adapted(self, request: Request) -> Response:
        adaptation = self._adaptations.done(request.path_params["id"])
        name = f"{adaptation.record.model}-adapted.safetensors"
        return FileResponse(adaptation.model_file, filename=name)

    async def _sheet(self, request: Request) -> Response:
        adaptation = self._adaptations.done(request.path_params["id"])
        return await _sheet_of(adaptation, _chosen(adaptation))

    async def _archive(self, request: Request) -> Response:
        adaptation = self._adaptations.done(request.path_params["id"])
        return await _archive_of(adaptation, _chosen(adaptation))

    async def _sample(self, request: Request) -> Response:
        adaptation = self._adaptations.done(request.path_params["id"])
        settings = await read_json(request, SampleSettings, self._limits)
        if settings.count > self._limits.samples:
            raise RequestError(422, f"count is {settings.count:,}; ask for {self._limits.samples}.")
        if settings.steps is not None and settings.steps > self._limits.steps:
            raise RequestError(422, f"steps is {settings.steps:,}; take {self._limits.steps:,}.")
        job = jobs.draw(
            adaptation,
            self._models,
            seeds=range(settings.seed, settings.seed + settings.count),
            steps=settings.steps,
            guidance=settings.guidance,
            most=self._limits.drawings,
        )
        drawings = await asyncio.wrap_future(jobs.submit(self._worker, adaptation, job))
        kind = request.headers.get("accept", "")
        if "application/zip" in kind:
            return await _archive_of(adaptation, drawings)
        if "image/png" in kind and len(drawings) == 1:
            return unchanging(adaptation.drawing_file(drawings[0].name))
        if "image/png" in kind:
            return await _sheet_of(adaptation, drawings)
        return JSONResponse([drawing.model_dump() for drawing in drawings])

    async def _drawing(self, request: Request) -> Response:
        adaptation = self._adaptation(request)
        drawing = _drawing_of(adaptation.record, request.path_params["name"])
        return unchanging(adaptation.drawing_file(drawing.name))

    async def _keep(self, request: Request) -> Response:
        adaptation, name = self._adaptation(request), request.path_params["name"]
        kept = (await read_json(request, KeepSettings, self._limits)).kept
        _drawing_of(adaptation.record, name)

        def marked(record: Record) -> dict[str, tuple[Drawing, ...]]:
            changed = {name: {"kept": kept}}
            return {
                "drawings": tuple(
                    d.model_copy(update=changed.get(d.name, {})) for d in record.drawings
                )
            }

        adaptation.change(marked)
        return JSONResponse(_drawing_of(adaptation.record, name).model_dump())

    def _adaptation(self, request: Request) -> Adaptation:
        return self._adaptations[request.path_params["id"]]


async def _page(request: Request) -> Response:
    return FileResponse(_PAGE / "index.html")


def _description(name: str, model: Model) -> dict[str, Any]:
    """Describe a model to clients."""
    data = model.config.data
    return {
        "name": name,
        "image_size": data.image_size,
        "channels": data.channels,
        "shots": data.shots,
        "steps": model.config.adapt.steps,
        "calibrated": model.calibration is not None,
        "sha256": model.sha256,
    }


def _chosen(adaptation: Adaptation) -> list[Drawing]:
    """Return the drawings that are kept, or all of them where none is."""
    drawings = [*adaptation.record.drawings]
    chosen = [d for d in drawings if d.kept] or drawings
    if not chosen:
        raise RequestError(409, "there are no drawings yet; draw some first.")
    return chosen


def _drawing_of(record: Record, name: str) -> Drawing:
    for drawing in record.drawings:
        if drawing.name == name:
            return drawing
    raise RequestError(404, "there is no such drawing; it may have given way to newer ones.")


async def _sheet_of(adaptation: Adaptation, drawings: Sequence[Drawing]) -> Response:
    data = await asyncio.to_thread(sheet, adaptation, drawings)
    return Response(data, media_type="image/png")


async def _archive_of(adaptation: Adaptation, drawings: Sequence[Drawing]) -> Response:
    data = await asyncio.to_thread(archive, adaptation, drawings)
    return zip_file(data)

"""Operations on drawings: to draw, to keep and to take them away."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from serving import jobs
from serving.accounts import account_of, adaptation_of, adapted_of
from serving.adaptations import Adaptation
from serving.downloads import archive, sheet
from serving.file_answers import picture_answer
from serving.limits import RequestError
from serving.operations import ADAPTATION, JSON, PNG, ZIP, Operation
from serving.records import Drawing, Record
from serving.service import Service
from serving.settings import KeepSettings, SampleSettings
from serving.uploads import read_json

_SETTINGS = (408, 413, 422)


class Drawings:
    """The operations on drawings.

    Args:
        service: what computes, and its bounds.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def operations(self) -> list[Operation]:
        """List the operations."""
        return [
            Operation(
                "POST", f"{ADAPTATION}/samples", self._sample,
                "Draw images. Image i has the seed of the request + i, and is drawn alone.",
                body=SampleSettings, answers={JSON: [Drawing], PNG: None, ZIP: None},
                refusals=(409, *_SETTINGS, 507),
            ),
            Operation(
                "PATCH", f"{ADAPTATION}/samples/{{name}}", self._keep, "Keep a drawing, or not.",
                body=KeepSettings, answers={JSON: Drawing}, refusals=_SETTINGS,
            ),
            Operation(
                "GET", f"{ADAPTATION}/samples/{{name}}.png", self._drawing, "Get a drawing.",
                answers={PNG: None},
            ),
            Operation(
                "GET", f"{ADAPTATION}/sheet.png", self._sheet,
                "Get a sheet of the drawings that are kept, or of all.",
                answers={PNG: None}, refusals=(409,),
            ),
            Operation(
                "GET", f"{ADAPTATION}/drawings.zip", self._archive,
                "Get an archive of the drawings that are kept, or of all.",
                answers={ZIP: None}, refusals=(409,),
            ),
        ]  # fmt: skip

    async def _sample(self, request: Request) -> Response:
        adaptation, service = adapted_of(request), self._service
        limits = service.limits
        settings = await read_json(request, SampleSettings, limits)
        if settings.count > limits.samples:
            raise RequestError(422, f"count is {settings.count:,}; ask for {limits.samples}.")
        service.refuse_steps(settings.steps or 1)
        seeds = range(settings.seed, settings.seed + settings.count)
        options = settings.model_dump(include={"steps", "guidance", "text"})
        names = {jobs.drawing_name(seed, **options) for seed in seeds}
        with ExitStack() as held:
            held.enter_context(_awaiting(adaptation, names, limits.drawings))
            job = jobs.draw(
                adaptation,
                service.models,
                service.computing,
                seeds=seeds,
                most=limits.drawings,
                **options,
            )
            job = jobs.until_deleted(adaptation, job)
            future = account_of(request).submit(service.worker, job)
            drawings = await asyncio.wrap_future(future)
            service.metrics.images.inc(len(drawings))
            return await self._drawn(request, adaptation, drawings, held)

    async def _drawn(
        self, request: Request, adaptation: Adaptation, drawings: list[Drawing], held: ExitStack
    ) -> Response:
        """Answer with drawings in the kind that the client accepts."""
        kind, service = request.headers.get("accept", ""), self._service
        if ZIP in kind:
            return service.made(lambda: archive(adaptation, drawings), ZIP, held.pop_all())
        if PNG in kind and len(drawings) == 1:
            return await picture_answer(adaptation.disk, adaptation.drawing_file(drawings[0].name))
        if PNG in kind:
            return service.made(lambda: sheet(adaptation, drawings), PNG, held.pop_all())
        return JSONResponse([drawing.model_dump() for drawing in drawings])

    async def _sheet(self, request: Request) -> Response:
        adaptation = adapted_of(request)
        drawings = _chosen(adaptation)
        return self._service.made(lambda: sheet(adaptation, drawings), PNG)

    async def _archive(self, request: Request) -> Response:
        adaptation = adapted_of(request)
        drawings = _chosen(adaptation)
        return self._service.made(lambda: archive(adaptation, drawings), ZIP)

    async def _drawing(self, request: Request) -> Response:
        adaptation = adaptation_of(request)
        drawing = adaptation.drawing(request.path_params["name"])
        return await picture_answer(adaptation.disk, adaptation.drawing_file(drawing.name))

    async def _keep(self, request: Request) -> Response:
        adaptation, name = adaptation_of(request), request.path_params["name"]
        kept = (await read_json(request, KeepSettings, self._service.limits)).kept
        adaptation.drawing(name)
        if kept:
            _refuse_beyond(adaptation, {name}, self._service.limits.drawings)

        def marked(record: Record) -> dict[str, tuple[Drawing, ...]]:
            changed = {name: {"kept": kept}}
            return {
                "drawings": tuple(
                    d.model_copy(update=changed.get(d.name, {})) for d in record.drawings
                )
            }

        await asyncio.to_thread(adaptation.change, marked)
        return JSONResponse(adaptation.drawing(name).model_dump())


@contextmanager
def _awaiting(adaptation: Adaptation, names: Set[str], most: int) -> Iterator[None]:
    """Hold drawings, so that none of other requests takes their place before they are answered.

    For the thread of the event loop alone.

    Raises:
        RequestError: when there are too many of these, those that others hold and those kept.
    """
    _refuse_beyond(adaptation, names, most)
    adaptation.awaited.update(names)
    try:
        yield
    finally:
        adaptation.awaited -= Counter(names)


def _refuse_beyond(adaptation: Adaptation, names: Set[str], most: int) -> None:
    kept = {d.name for d in adaptation.record.drawings if d.kept}
    held = set(adaptation.awaited)
    if len(kept | held | names) > most:
        raise RequestError(
            429,
            f"{len(kept)} drawings are kept, other requests draw {len(held - kept)}, and there "
            f"may be {most:,} with these; try again later, or keep fewer.",
            retry_after=5,
        )


def _chosen(adaptation: Adaptation) -> list[Drawing]:
    """Return the drawings that are kept, or all of them where none is."""
    drawings = [*adaptation.record.drawings]
    chosen = [d for d in drawings if d.kept] or drawings
    if not chosen:
        raise RequestError(409, "there are no drawings yet; draw some first.")
    return chosen

"""Operations on adaptations: to create, to watch, to stop and to delete them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from metatrain.data.pictures import png
from serving import jobs
from serving.accounts import Account, account_of, adaptation_of, adapted_of
from serving.adaptations import Adaptation
from serving.decoding import Decoder
from serving.fetching import Fetcher
from serving.file_answers import file_answer, picture_answer
from serving.limits import Places, RequestError
from serving.operations import ADAPTATION, BYTES, EVENTS, JSON, PNG, WAV, Operation
from serving.records import Record, Summary
from serving.service import Service
from serving.settings import AdaptationForm, AdaptationSettings, PictureForm, PictureSettings
from serving.telling import told
from serving.uploads import Uploads, parsed
from serving.worker import Job

_IMAGES = (404, 408, 413, 422, 507)


class Adapting:
    """The operations on adaptations.

    Args:
        service: what computes, and its bounds.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._uploads, self._decoder = service, Uploads(service.limits), Decoder()
        self._fetcher = Fetcher(service.limits)
        self._listeners = Places(service.limits.listeners, "streams of events")

    def operations(self) -> list[Operation]:
        """List the operations."""
        state = {JSON: Record}
        return [
            Operation(
                "POST", "/v1/pictures", self._picture, "Show one image as a model sees it.",
                form=PictureForm, answers={PNG: None}, refusals=_IMAGES,
            ),
            Operation(
                "GET", "/v1/adaptations", self._list, "List your adaptations, the newest first.",
                answers={JSON: [Summary]},
            ),
            Operation(
                "POST", "/v1/adaptations", self._create, "Adapt a model to images.",
                form=AdaptationForm, status=202, answers=state, refusals=_IMAGES,
            ),
            Operation(
                "GET", ADAPTATION, self._get, "Tell the state of an adaptation.", answers=state,
            ),
            Operation(
                "DELETE", ADAPTATION, self._delete, "Delete an adaptation and all of its files.",
                status=204, answers={},
            ),
            Operation(
                "GET", f"{ADAPTATION}/events", self._events, "Watch by server-sent events.",
                answers={EVENTS: None},
            ),
            Operation(
                "POST", f"{ADAPTATION}/stop", self._stop, "Adapt no further.",
                status=202, answers=state,
            ),
            Operation(
                "GET", f"{ADAPTATION}/given/{{index:int}}.png", self._given, "Get a given image.",
                answers={PNG: None},
            ),
            Operation(
                "GET", f"{ADAPTATION}/given.wav", self._sound, "Get the given sound.",
                answers={WAV: None},
            ),
            Operation(
                "GET", f"{ADAPTATION}/previews/{{step:int}}-{{index:int}}.png", self._preview,
                "Get an image that was drawn on the way.", answers={PNG: None},
            ),
            Operation(
                "GET", f"{ADAPTATION}/adapted.safetensors", self._adapted, "Get the adapted model.",
                answers={BYTES: None}, refusals=(409,),
            ),
            Operation(
                "GET", f"{ADAPTATION}/lora", self._lora,
                "Get the LoRA: a file with names of kohya, or an archive of both files of PEFT.",
                answers={BYTES: None}, refusals=(409,),
            ),
        ]  # fmt: skip

    async def remove_expired(self, account: Account) -> None:
        """Delete the adaptations of an account whose time is over."""
        for identifier in account.adaptations.expired():
            with suppress(RequestError):  # its client was sooner
                await self._remove(account, identifier)

    async def _remove(self, account: Account, identifier: str) -> None:
        # In a thread, since another may write to a store meanwhile.
        adaptation = await asyncio.to_thread(account.adaptations.forget, identifier)
        job = jobs.remove(adaptation, self._service.computing)
        await asyncio.wrap_future(self._service.worker.submit(job, bounded=False))

    async def _picture(self, request: Request) -> Response:
        """Show one image as the model sees it, or refuse it."""
        async with self._uploads.received(request, account_of(request).uploads) as upload:
            settings = parsed(upload.fields, PictureSettings)
            config = self._service.models[settings.model].config.data
            picture = await self._decoder.picture(upload.images, config, whole=settings.whole)
        return Response(picture, media_type=PNG)

    async def _list(self, request: Request) -> Response:
        records = [adaptation.record for adaptation in account_of(request).adaptations]
        return JSONResponse(
            [record.model_dump(exclude={"drawings", "marks"}) for record in records]
        )

    async def _create(self, request: Request) -> Response:
        account, service = account_of(request), self._service
        account.refuse_more(service.worker)  # before images are read that go nowhere
        async with self._uploads.received(request, account.uploads) as upload:
            settings = parsed(upload.fields, AdaptationSettings)
            model = service.models[settings.model]
            steps = settings.steps or model.config.adapt.steps
            service.refuse_steps(steps)
            wave = await self._decoder.wave(upload.sound)
            given = told(model.config, settings.text, wave)
            fetched = await self._fetcher.images(settings.urls, upload.images)
            images = [*upload.images, *fetched]
            crops = settings.crops
            support = await self._decoder.support(images, model.config, crops, given)
        adaptation = await asyncio.to_thread(
            account.adaptations.create,
            model=settings.model,
            names=[name for name, _ in images],
            pictures=[png(image) for image in support.target],
            seed=settings.seed,
            steps=steps if images else 0,
            shows=settings.previews,
            text=settings.text,
            sound=(upload.sound[0], wave) if upload.sound and wave else None,
        )
        if images:
            job = jobs.adapt(adaptation, support, service.computing)
        else:
            job = jobs.imagine(adaptation, service.models, service.computing)
        return await self.begin(account, adaptation, job)

    async def begin(self, account: Account, adaptation: Adaptation, job: Job[None]) -> Response:
        """Let a job of a new adaptation compute, and answer with that.

        Raises:
            RequestError: when there are too many jobs; the adaptation is removed again.
        """
        record = adaptation.record
        try:
            self._submit(account, adaptation, job)
        except RequestError:  # others took the last place meanwhile
            await self._remove(account, record.id)
            raise
        location = f"/v1/adaptations/{record.id}"
        return JSONResponse(record.model_dump(), 202, {"location": location})

    def resume(self, account: Account) -> None:
        """Let the adaptations of an account compute that the end of a server interrupted."""
        models, computing = self._service.models, self._service.computing
        for adaptation in account.adaptations:
            if adaptation.record.state == "waiting":
                job = jobs.resume(adaptation, account.adaptations, models, computing)
                self._submit(account, adaptation, job, bounded=False)

    def _submit(
        self, account: Account, adaptation: Adaptation, job: Job[None], *, bounded: bool = True
    ) -> None:
        """Submit a job whose end is counted, and its error told as the state of its adaptation."""
        job = jobs.until_deleted(adaptation, jobs.reported(adaptation, job))
        future = account.submit(self._service.worker, job, bounded=bounded)

        def count(_: object) -> None:
            state = "deleted" if adaptation.deleted else adaptation.record.state
            self._service.metrics.adaptations.labels(state).inc()

        future.add_done_callback(count)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(adaptation_of(request).record.model_dump())

    async def _delete(self, request: Request) -> Response:
        await self._remove(account_of(request), request.path_params["id"])
        return Response(status_code=204)

    async def _events(self, request: Request) -> Response:
        adaptation, ours = adaptation_of(request), account_of(request).listeners
        for places in (ours, self._listeners):
            places.refuse_when_full()  # the stream itself begins after the status
        return StreamingResponse(self._stream(adaptation, ours), media_type=EVENTS)

    async def _stream(self, adaptation: Adaptation, places: Places) -> AsyncIterator[str]:
        with places, self._listeners:
            async for record in adaptation.watch():
                yield f"event: state\ndata: {record.model_dump_json()}\n\n"
        yield "event: deleted\ndata: {}\n\n"

    async def _stop(self, request: Request) -> Response:
        adaptation = adaptation_of(request)
        adaptation.stopped = True
        return JSONResponse(adaptation.record.model_dump(), 202)

    async def _given(self, request: Request) -> Response:
        adaptation, index = adaptation_of(request), request.path_params["index"]
        if index >= len(adaptation.record.given):
            raise RequestError(404, f"there are {len(adaptation.record.given)} given images.")
        return await picture_answer(adaptation.disk, adaptation.given_file(index))

    async def _sound(self, request: Request) -> Response:
        adaptation = adaptation_of(request)
        if adaptation.record.sound is None:
            raise RequestError(404, "no sound is given.")
        return await file_answer(adaptation.disk, adaptation.sound_file, WAV)

    async def _preview(self, request: Request) -> Response:
        adaptation = adaptation_of(request)
        step, index = request.path_params["step"], request.path_params["index"]
        if not any(p.step == step and index < p.images for p in adaptation.record.previews):
            raise RequestError(404, "there is no such preview.")
        return await picture_answer(adaptation.disk, adaptation.preview_file(step, index))

    async def _adapted(self, request: Request) -> Response:
        adaptation = adapted_of(request)
        if not adaptation.record.given:
            raise RequestError(409, "no images are given, so no model was adapted.")
        return await _download(adaptation, adaptation.model_file)

    async def _lora(self, request: Request) -> Response:
        adaptation = adapted_of(request)
        if adaptation.record.lora is None:
            raise RequestError(
                409, "this adaptation has no LoRA; only backbones adapted in the scope lora have."
            )
        return await _download(adaptation, adaptation.folder / adaptation.record.lora)


async def _download(adaptation: Adaptation, file: Path) -> Response:
    """Answer with a file that is named after the model too."""
    disposition = f"attachment; filename*=utf-8''{quote(f'{adaptation.record.model}-{file.name}')}"
    return await file_answer(adaptation.disk, file, BYTES, {"content-disposition": disposition})

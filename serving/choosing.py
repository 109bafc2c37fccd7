"""The routes of comparing drawings, and of learning from the choices."""

import asyncio
import re
from collections.abc import Awaitable, Callable

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from metatrain.preferences.choices import Mark, read_lines
from metatrain.preferences.pairs import LEAST
from serving import jobs
from serving.accounts import Account, account_of, adaptation_of, adapted_of
from serving.adaptations import Adaptation
from serving.comparisons import choose, mark, show_pair
from serving.downloads import choices_archive
from serving.file_answers import deleted_meanwhile, picture_answer
from serving.limits import RequestError
from serving.operations import ADAPTATION, JSON, PNG, ZIP, Operation
from serving.records import Record
from serving.service import Service
from serving.settings import ChoiceSettings, MarkSettings
from serving.uploads import read_json
from serving.worker import Job, Result

Begin = Callable[[Account, Adaptation, Job[None]], Awaitable[Response]]

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ShownSides(BaseModel):
    """A pair: the hashes of its drawings."""

    number: int
    left: str
    right: str


class ChoiceCount(BaseModel):
    """The numbers of the choices of an adaptation, and of its pairs that have a winner by them."""

    choices: int
    decided: int


class Marks(BaseModel):
    """The marks of the drawings of an adaptation, and its pairs that have a winner by them too."""

    marks: dict[str, str]
    decided: int


class Choosing:
    """The operations on choices: pairs, answers, and preferences.

    Args:
        service: what computes, and its bounds.
        begin: begins to compute a new adaptation.
    """

    def __init__(self, service: Service, begin: Begin) -> None:
        self._service, self._begin = service, begin

    def operations(self) -> list[Operation]:
        """List the operations."""
        return [
            Operation(
                "GET", f"{ADAPTATION}/pairs/{{number:int}}", self._pair,
                "Get two drawings to compare.", answers={JSON: ShownSides},
                refusals=(409, 422, 507),
            ),
            Operation(
                "GET", f"{ADAPTATION}/images/{{sha256}}.png", self._compared,
                "Get a drawing of a pair.", answers={PNG: None},
            ),
            Operation(
                "POST", f"{ADAPTATION}/choices", self._choose, "Answer which is better.",
                body=ChoiceSettings, status=201, answers={JSON: ChoiceCount},
                refusals=(408, 409, 413, 422, 507),
            ),
            Operation(
                "POST", f"{ADAPTATION}/marks", self._mark, "Mark a drawing good or bad.",
                body=MarkSettings, status=201, answers={JSON: Marks},
                refusals=(408, 409, 413, 422, 507),
            ),
            Operation(
                "GET", f"{ADAPTATION}/choices.zip", self._choices,
                "Get the choices, the marks and their images.",
                answers={ZIP: None}, refusals=(409,),
            ),
            Operation(
                "POST", f"{ADAPTATION}/preferences", self._prefer,
                "Learn from the choices, as an adaptation of its own.",
                status=202, answers={JSON: Record}, refusals=(409, 507),
            ),
        ]  # fmt: skip

    async def _pair(self, request: Request) -> Response:
        adaptation, number = adapted_of(request), request.path_params["number"]
        # A page asks for the next one beforehand.
        self._refuse_later(number, adaptation.record.choices + 1)
        job = show_pair(adaptation, self._service.computing, number)
        pair = await self._computed(request, adaptation, job)
        # Not whether it is repeated, which the rater must not know.
        sides = {"left": pair.left.sha256, "right": pair.right.sha256}
        return JSONResponse({"number": number, **sides})

    async def _compared(self, request: Request) -> Response:
        adaptation = adaptation_of(request)
        sha256 = request.path_params["sha256"]
        file = adaptation.compared_file(sha256)
        if not _SHA256.fullmatch(sha256) or not await asyncio.to_thread(adaptation.disk.has, file):
            raise RequestError(404, "there is no drawing of a pair of this hash.")
        return await picture_answer(adaptation.disk, file)

    async def _choose(self, request: Request) -> Response:
        adaptation = adapted_of(request)
        settings = await read_json(request, ChoiceSettings, self._service.limits)
        self._refuse_later(settings.number, adaptation.record.choices)
        job = choose(adaptation, self._service.computing, **settings.model_dump())
        record = await self._computed(request, adaptation, job)
        return JSONResponse({"choices": record.choices, "decided": record.decided}, 201)

    async def _mark(self, request: Request) -> Response:
        adaptation, limits = adapted_of(request), self._service.limits
        settings = await read_json(request, MarkSettings, limits)
        if await asyncio.to_thread(_marks_in, adaptation) >= limits.marks:
            raise RequestError(
                409, f"there are {limits.marks:,} marks, and these are enough; learn."
            )
        drawing = adaptation.drawing(settings.drawing)
        if drawing.text is not None:
            raise RequestError(
                409, "it was drawn from other words than the adaptation's; mark one from these."
            )
        job = mark(
            adaptation,
            self._service.models,
            self._service.computing,
            drawing=drawing,
            marking=settings.mark,
        )
        with deleted_meanwhile():
            record = await self._computed(request, adaptation, job)
        return JSONResponse({"marks": record.marks, "decided": record.decided}, 201)

    async def _choices(self, request: Request) -> Response:
        adaptation = adapted_of(request)
        if not (adaptation.record.choices or adaptation.record.marks):
            raise RequestError(
                409, "there are no choices yet; answer some pairs, or mark drawings, first."
            )
        return self._service.made(lambda: choices_archive(adaptation), ZIP)

    async def _prefer(self, request: Request) -> Response:
        origin = adapted_of(request)
        if origin.record.decided < LEAST:
            raise RequestError(
                409,
                f"pairs that have a winner, by answers or by marks: {origin.record.decided}, and "
                f"fewer than {LEAST} teach nothing; choose between more.",
            )
        account = account_of(request)
        account.refuse_more(self._service.worker)
        with deleted_meanwhile():
            given = await asyncio.to_thread(origin.given)
            sound = await asyncio.to_thread(origin.sound)
        adaptation = await asyncio.to_thread(
            account.adaptations.create,
            model=origin.record.model,
            names=origin.record.given,
            pictures=given,
            seed=origin.record.seed,
            steps=1,
            text=origin.record.text,
            sound=sound,
            origin=origin.record.id,
        )
        job = jobs.prefer(adaptation, origin, self._service.computing)
        return await self._begin(account, adaptation, job)

    async def _computed(self, request: Request, adaptation: Adaptation, job: Job[Result]) -> Result:
        service = self._service
        job = jobs.until_deleted(adaptation, job)
        return await asyncio.wrap_future(account_of(request).submit(service.worker, job))

    def _refuse_later(self, number: int, last: int) -> None:
        """Refuse a pair after the last one that may be asked for, or beyond the limit."""
        if number > last:
            raise RequestError(409, f"pair {number} comes after others; go on with pair {last}.")
        if number >= self._service.limits.choices:
            raise RequestError(
                409,
                f"there are {self._service.limits.choices:,} choices, and these are enough; learn.",
            )


def _marks_in(adaptation: Adaptation) -> int:
    """Count the marks in the file of choices, with those that others have replaced."""
    disk, file = adaptation.disk, adaptation.choices_file
    return (
        sum(isinstance(line, Mark) for line in read_lines(disk.url(file))) if disk.has(file) else 0
    )

"""The routes of comparing drawings, and of learning from the choices."""

import asyncio
import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metatrain.preferences.pairs import LEAST
from serving import jobs
from serving.adaptations import Adaptation, Adaptations
from serving.answers import ADAPTATION, begun, unchanging, zip_file
from serving.comparisons import choose, show_pair
from serving.downloads import choices_archive
from serving.limits import Limits, RequestError
from serving.models import Models
from serving.uploads import ChoiceSettings, read_json
from serving.worker import Worker

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ChoiceRoutes:
    """Routes below an adaptation: pairs, choices, and preferences.

    Args:
        models: the models.
        adaptations: the adaptations, to which it adds those that prefer.
        worker: what computes.
        limits: the bounds of a request.
    """

    def __init__(
        self, *, models: Models, adaptations: Adaptations, worker: Worker, limits: Limits
    ) -> None:
        self._models, self._adaptations, self._worker = models, adaptations, worker
        self._limits = limits

    @property
    def routes(self) -> Sequence[Route]:
        """The routes."""
        return (
            Route(f"{ADAPTATION}/pairs/{{number:int}}", self._pair),
            Route(f"{ADAPTATION}/images/{{sha256}}.png", self._compared),
            Route(f"{ADAPTATION}/choices", self._choose, methods=["POST"]),
            Route(f"{ADAPTATION}/choices.zip", self._choices),
            Route(f"{ADAPTATION}/preferences", self._prefer, methods=["POST"]),
        )

    async def _pair(self, request: Request) -> Response:
        adaptation, number = self._done(request), request.path_params["number"]
        # A page asks for the next one beforehand.
        self._refuse_later(number, adaptation.record.choices + 1)
        job = show_pair(adaptation, self._models, number)
        pair = await asyncio.wrap_future(jobs.submit(self._worker, adaptation, job))
        # Not whether it is repeated, which the rater must not know.
        sides = {"left": pair.left.sha256, "right": pair.right.sha256}
        return JSONResponse({"number": number, **sides})

    async def _compared(self, request: Request) -> Response:
        adaptation = self._adaptations[request.path_params["id"]]
        sha256 = request.path_params["sha256"]
        file = adaptation.compared_file(sha256)
        if not _SHA256.fullmatch(sha256) or not file.is_file():
            raise RequestError(404, "there is no drawing of a pair of this hash.")
        return unchanging(file)

    async def _choose(self, request: Request) -> Response:
        adaptation = self._done(request)
        settings = await read_json(request, ChoiceSettings, self._limits)
        self._refuse_later(settings.number, adaptation.record.choices)
        job = choose(adaptation, self._models, **settings.model_dump())
        count = await asyncio.wrap_future(jobs.submit(self._worker, adaptation, job))
        return JSONResponse({"choices": count}, 201)

    async def _choices(self, request: Request) -> Response:
        adaptation = self._done(request)
        if not adaptation.record.choices:
            raise RequestError(409, "there are no choices yet; answer some pairs first.")
        data = await asyncio.to_thread(choices_archive, adaptation)
        return zip_file(data)

    async def _prefer(self, request: Request) -> Response:
        origin = self._done(request)
        if origin.record.choices < LEAST:
            raise RequestError(
                409, f"there are {origin.record.choices} choices; answer at least {LEAST} pairs."
            )
        self._worker.refuse_more()
        given = [origin.given_file(i).read_bytes() for i in range(len(origin.record.given))]
        adaptation = await asyncio.to_thread(
            self._adaptations.create,
            model=origin.record.model,
            names=origin.record.given,
            pictures=given,
            seed=origin.record.seed,
            steps=1,
            origin=origin.record.id,
        )
        job = jobs.prefer(adaptation, origin, self._models)
        jobs.submit(self._worker, adaptation, jobs.reported(adaptation, job))
        return begun(adaptation.record)

    def _refuse_later(self, number: int, last: int) -> None:
        """Refuse a pair after the last one that may be asked for, or beyond the limit."""
        if number > last:
            raise RequestError(409, f"pair {number} comes after others; go on with pair {last}.")
        if number >= self._limits.choices:
            raise RequestError(
                409, f"there are {self._limits.choices:,} choices, and these are enough; learn."
            )

    def _done(self, request: Request) -> Adaptation:
        return self._adaptations.done(request.path_params["id"])

"""Answers that several routes give, and those to errors."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from serving.adaptations import Record
from serving.limits import RequestError

ADAPTATIONS = "/v1/adaptations"
ADAPTATION = f"{ADAPTATIONS}/{{id}}"


def begun(record: Record) -> Response:
    """Answer with an adaptation that is under way, and where it is."""
    location = f"{ADAPTATIONS}/{record.id}"
    return JSONResponse(record.model_dump(), 202, {"location": location})


def zip_file(data: bytes) -> Response:
    """Answer with an archive."""
    return Response(data, media_type="application/zip")


def unchanging(file: Path) -> Response:
    """Answer with a picture, which stays as it is as long as its adaptation exists."""
    headers = {"cache-control": "private, max-age=31536000, immutable"}
    return FileResponse(file, media_type="image/png", headers=headers)


async def refused(request: Request, error: Exception) -> Response:
    """Answer a request that is refused."""
    assert isinstance(error, RequestError)
    content: dict[str, Any] = {"error": error.sentence}
    if error.images:
        content["images"] = [asdict(image) for image in error.images]
    retry = {"retry-after": str(error.retry_after)} if error.retry_after else {}
    return JSONResponse(content, error.status, retry)


async def mistaken(request: Request, error: Exception) -> Response:
    """Answer a request that is a mistake."""
    return JSONResponse({"error": str(error)}, 422)


async def http_error(request: Request, error: Exception) -> Response:
    """Answer a request that no route takes."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)

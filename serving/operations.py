"""Routes of the API, and the OpenAPI document that describes them."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from metatrain import __version__
from serving.limits import RefusedImage

JSON, PNG, ZIP, TEXT = "application/json", "image/png", "application/zip", "text/plain"
EVENTS, BYTES, WAV = "text/event-stream", "application/octet-stream", "audio/wav"
# The path of an adaptation.
ADAPTATION = "/v1/adaptations/{id}"

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"{(\w+)(?::(\w+))?}")
_TYPES = {None: "string", "int": "integer"}
# Of any request: no token, a page of another origin, another host, too many at once.
_ALWAYS = (401, 403, 421, 429)
_REASONS = {
    401: "The token is missing or wrong.",
    403: "Pages of other origins may ask for nothing.",
    404: "There is no such thing, or it was deleted.",
    408: "The request did not arrive in time.",
    409: "The adaptation has nothing of this yet.",
    413: "The request is too large.",
    421: "The server has another name.",
    422: "The request cannot be used.",
    429: "There are too many of these; Retry-After tells when to try again.",
    507: "The quota of bytes is used up.",
}


class Error(BaseModel):
    """An error: what was wrong, and what to do."""

    error: str
    images: list[RefusedImage] | None = None


# What an answer holds: a model, a list of models, or nothing but its media type.
Content = type[BaseModel] | list[type[BaseModel]] | None


class Operation(Route):
    """A route that the document describes.

    Args:
        method: the method.
        path: the path.
        endpoint: what answers.
        summary: what it does, in a sentence.
        status: the status of success.
        answers: contents of the answer of success by media type.
        body: the settings of a JSON body; None where there is none.
        form: a body of type multipart/form-data.
        refusals: statuses of errors beyond those that any request may meet.
        public: whether it needs no token.
    """

    def __init__(
        self,
        method: str,
        path: str,
        endpoint: Callable[[Request], Awaitable[Response]],
        summary: str,
        *,
        status: int = 200,
        answers: Mapping[str, Content],
        body: type[BaseModel] | None = None,
        form: type[BaseModel] | None = None,
        refusals: Sequence[int] = (),
        public: bool = False,
    ) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.method, self.summary, self.status = method.lower(), summary, status
        self.answers, self.body, self.form, self.public = answers, body, form, public
        missing = (404,) if "{" in path else ()
        self.refusals = sorted({*refusals, *missing, *_ALWAYS})

    @property
    def template(self) -> str:
        """The path as the document writes it."""
        return _PARAMETER.sub(r"{\1}", self.path)

    def models(self) -> list[type[BaseModel]]:
        """List the models of the body and of the answers."""
        contents = [*self.answers.values(), self.body, self.form]
        flat = [c[0] if isinstance(c, list) else c for c in contents]
        return [model for model in flat if model is not None]

    def description(self) -> dict[str, Any]:
        """Return the operation object of the document."""
        content = {kind: {"schema": _schema(model)} for kind, model in self.answers.items()}
        error = {JSON: {"schema": _schema(Error)}}
        responses: dict[str, Any] = {str(self.status): {"description": "Success."}}
        if content:
            responses[str(self.status)]["content"] = content
        for status in self.refusals:
            responses[str(status)] = {"description": _REASONS[status], "content": error}
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": _TYPES[kind or None]}}
            for name, kind in _PARAMETER.findall(self.path)
        ]
        described = {"summary": self.summary, "parameters": parameters, "responses": responses}
        for kind, model in ((JSON, self.body), ("multipart/form-data", self.form)):
            if model is not None:
                described["requestBody"] = {
                    "required": any(f.is_required() for f in model.model_fields.values()),
                    "content": {kind: {"schema": _schema(model)}},
                }
        return {**described, "security": []} if self.public else described


def document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of the operations among `routes`."""
    operations = [route for route in routes if isinstance(route, Operation)]
    models = {model for operation in operations for model in operation.models()} | {Error}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(m, "validation") for m in ordered], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.template, {})[operation.method] = operation.description()
    return {
        "openapi": "3.1.0",
        "info": {"title": "metatrain", "version": __version__},
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schema(content: Content) -> dict[str, Any]:
    if content is None:
        return {"type": "string", "format": "binary"}
    if isinstance(content, list):
        return {"type": "array", "items": _schema(content[0])}
    return {"$ref": _REF.format(model=content.__name__)}

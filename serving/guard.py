"""The locks before every request: the host, the origin and the token."""

import secrets
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The names of this machine. A page whose own name was made to lead here is asked for by that name.
HOSTS = ("127.0.0.1", "localhost", "[::1]")

_SAFE_METHODS = ("GET", "HEAD")
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Lets through requests with the token, to this machine's names, from no other page.

    The token comes as `Authorization: Bearer TOKEN`, or in a cookie, which the page's URL with the
    token sets. Browsers send a cookie to every port of this machine, and so to servers of its other
    users. So it is of a path that nobody else knows, where the page lies with all that it asks for,
    and what changes something needs the page's own origin too.

    Args:
        app: what it guards.
        token: the secret.
        cookie: the name of the cookie.
    """

    def __init__(self, app: ASGIApp, *, token: str, cookie: str) -> None:
        self._app, self._token, self._cookie = app, token, cookie
        self._folder = f"/{secrets.token_urlsafe(16)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            raise ValueError(f"a {scope['type']} connection has nothing here")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        if scope["path"].startswith(f"{self._folder}/"):
            scope = {**scope, "root_path": self._folder}
        answer = self._answer(Request(scope)) or self._app
        return await answer(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """Return the answer to a request that does not come through."""
        host, headers = request.headers.get("host", ""), request.headers
        path = request.url.path.removeprefix(self._folder)
        if _name_of(host) not in HOSTS:
            return _refused(421, f"this server answers as {' or '.join(HOSTS[:2])} only.")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return _refused(403, "pages of other origins may ask for nothing here.")
        if path == "/healthz":
            return None
        if path == "/" and (token := _token_in_query(request)):
            return self._entry(token)
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not (
            path == "/" and headers.get("sec-fetch-mode") == "navigate"
        ):
            return _refused(403, "pages of other origins may ask for nothing here.")
        if self._is_token(headers.get("authorization", "").removeprefix("Bearer ")):
            return None
        cookie = request.cookies.get(self._cookie, "") if path != request.url.path else ""
        if not self._is_token(cookie):
            return _refused(
                401, "the token is missing or of another start; open the URL that was printed."
            )
        if request.method not in _SAFE_METHODS and origin is None:
            return _refused(403, "a change by cookie needs the header Origin; send the token.")
        return None

    def _entry(self, token: str) -> Response:
        """Exchange the token in the URL for a cookie, so that it stays in no history."""
        if not self._is_token(token):
            return _refused(401, "the token is of another start; open the URL printed last.")
        response = RedirectResponse(f"{self._folder}/", status_code=303)
        response.set_cookie(
            self._cookie, token, path=f"{self._folder}/", httponly=True, samesite="lax"
        )
        return response

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self._token.encode())


def _name_of(host: str) -> str:
    """Return the host without its port."""
    name, _, port = host.rpartition(":")
    return name if port.isdecimal() and name else host


def _token_in_query(request: Request) -> str:
    return parse_qs(request.url.query).get("token", [""])[0]


def _refused(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)

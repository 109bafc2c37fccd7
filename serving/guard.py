"""The locks before every request: the host, the origin and the token."""

import secrets
from collections.abc import Collection, Mapping
from ipaddress import ip_address

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.accounts import Account, with_account
from serving.limits import Places, RequestError
from serving.opening import HOSTS

# What tells nothing of any client.
_PUBLIC = ("/healthz", "/openapi.json", "/docs")
# A number in a path may have no more digits than Python converts.
_PATH_CHARACTERS = 2000
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Lets through requests with a token, to the server's names, from no page of another origin.

    The token comes as `Authorization: Bearer TOKEN`, and decides on the account.

    Args:
        app: what it guards.
        accounts: the accounts by their tokens.
        hosts: the names of the server.
        requests: requests that it lets through at one time.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        accounts: Mapping[str, Account],
        hosts: Collection[str] = HOSTS,
        requests: int,
    ) -> None:
        self._app, self._hosts = app, [name.lower() for name in hosts]
        self._accounts = {token.encode(): account for token, account in accounts.items()}
        self._places = Places(requests, "requests")

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

        request = self.request(scope)
        answer = self.answer(request)
        if isinstance(answer, Response):
            return await answer(scope, receive, send_with_headers)
        scope = request.scope if answer is None else with_account(request.scope, answer)
        try:
            self._places.refuse_when_full()
        except RequestError as error:
            crowded = refused(error.status, error.sentence, {"retry-after": str(error.retry_after)})
            return await crowded(scope, receive, send_with_headers)
        with self._places:
            return await self._app(scope, receive, send_with_headers)

    def request(self, scope: Scope) -> Request:
        """Return the request that stands in a scope."""
        return Request(scope)

    def answer(self, request: Request) -> Response | Account | None:
        """Return the account of a request, None where it needs none, or a refusal."""
        headers = request.headers
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if _name_of(host) not in self._hosts:
            return refused(421, f"this server answers as {' or '.join(self._hosts)} only.")
        if origin is not None and origin.lower() != f"http://{host}":
            return refused(403, "pages of other origins may ask for nothing here.")
        if len(request.scope["path"]) > _PATH_CHARACTERS:
            return refused(414, f"the path has more than {_PATH_CHARACTERS:,} characters.")
        if self.path(request) in _PUBLIC:
            return None
        return self.identified(request)

    def path(self, request: Request) -> str:
        """Return the path of a request among those of the API."""
        return request.url.path

    def identified(self, request: Request) -> Response | Account:
        """Return the account that a request is of, or a refusal."""
        if not from_no_other_page(request):
            return refused(403, "pages of other origins may ask for nothing here.")
        account = self.account(request.headers.get("authorization", "").removeprefix("Bearer "))
        return account or self.unknown()

    def unknown(self) -> Response:
        """Return the refusal of a request without a token."""
        return refused(
            401,
            "the token is missing or wrong; send the header Authorization: Bearer TOKEN.",
            {"www-authenticate": "Bearer"},
        )

    def account(self, token: str) -> Account | None:
        """Return the account of a token, in a time that tells nothing of others' tokens."""
        result = None
        for known, account in self._accounts.items():
            if secrets.compare_digest(token.encode(), known):
                result = account
        return result


def from_no_other_page(request: Request) -> bool:
    """Return whether no page of another origin sends a request, as far as its browser tells."""
    return request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")


def refused(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal."""
    return JSONResponse({"error": sentence}, status, headers)


def host_of(address: str) -> str:
    """Return the host of URLs that lead to an address or a name."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    return f"[{ip}]" if ip.version == 6 else str(ip)


def _name_of(host: str) -> str:
    """Return the host without its port."""
    name, _, port = host.rpartition(":")
    return name if port.isdecimal() and name else host

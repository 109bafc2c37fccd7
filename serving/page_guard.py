"""The locks before the studio's page, which has its token in a cookie."""

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Scope
from typing_extensions import override

from serving.accounts import Account
from serving.guard import Guard, from_no_other_page, refused

_SAFE_METHODS = ("GET", "HEAD")


class PageGuard(Guard):
    """Lets a page through too, with a cookie that its URL with the token sets.

    Browsers send a cookie to every port of this machine, and so to servers of its other users. So
    it is of a path that nobody else knows, where the page lies with all that it asks for, and what
    changes something needs the page's own origin too.

    Args:
        app: what it guards.
        accounts: the accounts by their tokens.
        cookie: the name of the cookie.
        requests: requests that it lets through at one time.
    """

    def __init__(
        self, app: ASGIApp, *, accounts: Mapping[str, Account], cookie: str, requests: int
    ) -> None:
        super().__init__(app, accounts=accounts, requests=requests)
        self._cookie, self._folder = cookie, f"/{secrets.token_urlsafe(16)}"

    @override
    def request(self, scope: Scope) -> Request:
        if scope["path"].startswith(f"{self._folder}/"):
            scope = {**scope, "root_path": self._folder}
        return Request(scope)

    @override
    def path(self, request: Request) -> str:
        return request.url.path.removeprefix(self._folder)

    @override
    def identified(self, request: Request) -> Response | Account:
        path, headers = self.path(request), request.headers
        if path == "/" and (token := _token_in_query(request)):
            return self._entry(token)
        entering = path == "/" and headers.get("sec-fetch-mode") == "navigate"
        if "authorization" in headers or not (entering or from_no_other_page(request)):
            return super().identified(request)
        cookie = request.cookies.get(self._cookie, "") if path != request.url.path else ""
        account = self.account(cookie)
        if account is None:
            return self.unknown()
        if request.method not in _SAFE_METHODS and headers.get("origin") is None:
            return refused(403, "a change by cookie needs the header Origin; send the token.")
        return account

    @override
    def unknown(self) -> Response:
        sentence = "the token is missing or of another start; open the URL that was printed last."
        return refused(401, sentence, {"www-authenticate": "Bearer"})

    def _entry(self, token: str) -> Response:
        """Exchange the token in the URL for a cookie, so that it stays in no history."""
        if self.account(token) is None:
            return self.unknown()
        response = RedirectResponse(f"{self._folder}/", status_code=303)
        response.set_cookie(
            self._cookie, token, path=f"{self._folder}/", httponly=True, samesite="lax"
        )
        return response


def _token_in_query(request: Request) -> str:
    return parse_qs(request.url.query).get("token", [""])[0]

"""Refusals of object stores: the store's own reason, whether it lasts, and what mends it."""

from http import HTTPStatus
from typing import Any, NamedTuple

from metatrain.base.text import printable

# Refusals below 500 that the same request may not meet again.
PASSING_STATUSES = (
    *(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT),
    *(HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS),
)
PASSING_CODES = (
    *("RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"),
    *("BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "OperationAborted"),
)
_ADVICE = {
    **dict.fromkeys(("ExpiredToken", "TokenRefreshRequired"), "log in again"),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired"), "set this machine's clock"),
    **dict.fromkeys(
        ("AuthorizationHeaderMalformed", "PermanentRedirect", "301"),
        "set AWS_DEFAULT_REGION to the region of the bucket",
    ),
}
_REGION_HEADER = "x-amz-bucket-region"


class Refusal(NamedTuple):
    """An object store's answer to a request that it refuses.

    Attributes:
        status: of HTTP.
        code: the store's name of the reason, such as ExpiredToken.
        reason: a sentence without its full stop.
        advice: a clause with what mends it.
    """

    status: int
    code: str
    reason: str
    advice: str

    @property
    def lasts(self) -> bool:
        """Whether the same request would be refused again."""
        passing = self.status in PASSING_STATUSES or self.code in PASSING_CODES
        return self.status < HTTPStatus.INTERNAL_SERVER_ERROR and not passing


def refusal_of(error: BaseException) -> Refusal | None:
    """Return the refusal that botocore heard before `error`, or None."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return _parsed(response)
        cause = cause.__cause__
    return None


def _parsed(response: dict[str, Any]) -> Refusal:
    answer, metadata = response["Error"], response.get("ResponseMetadata", {})
    code = str(answer.get("Code", ""))
    message = printable(str(answer.get("Message") or code).partition("\n")[0].rstrip("."))
    region = answer.get("Region") or metadata.get("HTTPHeaders", {}).get(_REGION_HEADER)
    advice = _ADVICE.get(code, "check the address and your credentials")
    if region and "region" in advice:
        advice = f"set AWS_DEFAULT_REGION to {region}, the region of the bucket"
    reason = f"{message} ({code})" if code and code != message else message
    refusal = Refusal(int(metadata.get("HTTPStatusCode", 0)), code, reason, advice)
    return refusal if refusal.lasts else refusal._replace(advice="try again later")

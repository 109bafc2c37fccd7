"""Values that cannot be packed or decoded."""


class BadValue(Exception):  # noqa: N818
    """A value that cannot be packed or decoded.

    Attributes:
        reason: the kind of fault, one of a few, for counting.
        detail: further particulars, which may differ from one value to the next.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason, self.detail = reason, detail


class BadImage(BadValue):
    """Bytes that are not an image we accept."""


CORRUPT = "corrupt or truncated"
UNKNOWN = "unknown format"

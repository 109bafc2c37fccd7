"""Bounds of what a client may ask for, and errors beyond them."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

# Images by URL of an adaptation, where a server fetches any.
URLS = 16


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one server, so that its memory and its disk are bounded.

    Attributes:
        images: images of an adaptation.
        image_bytes: bytes of one of them.
        upload_bytes: bytes of a request with images, and of those that it names by URL.
        uploads: requests with images at one time.
        upload_seconds: time that such a request may take to arrive.
        body_bytes: bytes of any other request.
        body_seconds: time that its body may take to arrive.
        urls: images by URL of an adaptation; 0 where the server fetches none.
        fetch_seconds: time that fetching them may take.
        samples: drawings of one request.
        drawings: drawings of an adaptation; those not kept give way to new ones.
        choices: answers between drawings of an adaptation.
        marks: marks of drawings of an adaptation, with those taken back.
        steps: inner steps, and sampler steps.
        seconds: time that a job may compute.
        waiting: jobs that a worker has at one time.
        listeners: streams of events at one time.
        downloads: sheets and archives, of choices too, that are on their way at one time.
        download_seconds: time that a client may take to read a sheet or an archive.
        requests: requests at one time, streams of events among them.
        loaded: adapted models in memory.
    """

    images: int = 64
    image_bytes: int = 32 << 20
    upload_bytes: int = 64 << 20
    uploads: int = 8
    upload_seconds: float = 120.0
    body_bytes: int = 64 << 10
    body_seconds: float = 10.0
    urls: int = 0
    fetch_seconds: float = 30.0
    samples: int = 64
    drawings: int = 256
    choices: int = 1000
    marks: int = 4000
    steps: int = 1000
    seconds: float = 600.0
    waiting: int = 16
    listeners: int = 64
    downloads: int = 8
    download_seconds: float = 300.0
    requests: int = 128
    loaded: int = 8


class Quota(BaseModel):
    """A client's share of a server.

    Attributes:
        adaptations: adaptations on disk.
        disk_bytes: bytes of their files.
        days: time after which an adaptation is removed; None where it stays.
        jobs: jobs at one time.
        uploads: requests with images at one time.
        listeners: streams of events at one time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    adaptations: int = Field(default=500, ge=0)
    disk_bytes: int = Field(default=10 << 30, ge=0)
    days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    jobs: int = Field(default=16, ge=0)
    uploads: int = Field(default=8, ge=0)
    listeners: int = Field(default=64, ge=0)


@dataclass(frozen=True, kw_only=True)
class RefusedImage:
    """An image that cannot be used: its place among the images of a request, its name, and why."""

    index: int
    name: str
    error: str


class RequestError(Exception):
    """A request that is refused, with an HTTP status.

    Args:
        status: the status.
        sentence: what was wrong, and what to do.
        images: the images that cannot be used, where these are the reason.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        images: Sequence[RefusedImage] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence
        self.images, self.retry_after = images, retry_after


class Places:
    """A number of places; whoever comes when all are taken is refused.

    Args:
        count: the number of places.
        noun: what takes a place, for the sentence of the refusal.
    """

    def __init__(self, count: int, noun: str) -> None:
        self._count, self._noun = count, noun
        self._taken = 0

    def refuse_when_full(self) -> None:
        """Refuse a request that needs a place where there is none.

        Raises:
            RequestError: when all are taken.
        """
        if self._taken >= self._count:
            raise RequestError(
                429,
                f"{self._count} {self._noun} are open, and there may be no more; try again later.",
                retry_after=5,
            )

    def __enter__(self) -> None:
        self.refuse_when_full()
        self._taken += 1

    def __exit__(self, *_: object) -> None:
        self._taken -= 1

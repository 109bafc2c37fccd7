"""Computations of models, which know nothing of the adaptations that their results belong to."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.data.examples import Examples
from metatrain.data.pictures import lossless, png
from metatrain.metrics.memorisation import nearest, nearest_index
from metatrain.model.expectation import expectation, warning
from metatrain.model.given import Value
from metatrain.model.model import Model
from metatrain.preferences.pairs import stored_image
from metatrain.preferences.prefer import Outcome, prefer_stepwise, refuse_unteachable
from metatrain.preferences.sentences import sentences
from serving.limits import RequestError
from serving.lora import lora_file
from serving.models import Models, ModelSource
from serving.records import Preview

# Images drawn at each preview, always of the same noise.
PREVIEWS = 4
# The name of an adapted model among the files of its adaptation.
MODEL_FILE = "adapted.safetensors"

Yielded = TypeVar("Yielded")
Returned = TypeVar("Returned")


@dataclass(frozen=True, kw_only=True)
class ResultPart:
    """Part of the result of a computation.

    Attributes:
        changes: fields to change of the state of its adaptation.
        files: files of its adaptation by name.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AdaptRequest:
    """The request to adapt a model.

    Attributes:
        model: the name of the model.
        support: the images.
        steps: inner steps to take.
        seed: seeds the noise of the inner steps.
        previews: whether to draw on the way.
        url: the file of the adapted model, as soon as its part is written.
    """

    model: str
    support: Examples
    steps: int
    seed: int
    previews: bool
    url: str


@dataclass(frozen=True, kw_only=True)
class PreferRequest:
    """The request to learn from choices between drawings of an adapted model.

    Attributes:
        origin: the file of that model.
        choices: the URL of the file of choices.
        url: the file of the model that prefers, as soon as its part is written.
    """

    origin: str
    choices: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The request to draw an image.

    Attributes:
        seed: the seed.
        steps: sampler steps; None for the configuration's.
        guidance: the guidance towards the images, or without any towards what is told; None for
            the configuration's.
        given: what the model is told, by the names of conditions.
        compared: whether it is one of two to choose between.
    """

    seed: int
    steps: int | None = None
    guidance: float | None = None
    given: Mapping[str, Value] = field(default_factory=dict)
    compared: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn image.

    Attributes:
        content: the PNG file.
        sha256: the hash that names the file of an image that is compared; else None.
        nearest: the index of the given image nearest to it by pixels; None where none is given.
        distance: the root-mean-square distance to that image; pixels are from 0 to 1.
        seconds: the time that it took to compute.
    """

    content: bytes
    sha256: str | None
    nearest: int | None
    distance: float | None
    seconds: float


class Computing(Protocol):
    """The computing of requests, in this process or in others.

    A `stopped` tells whether a client wants no further steps.
    """

    def adapt(self, request: AdaptRequest, stopped: Callable[[], bool]) -> Iterator[ResultPart]:
        """Adapt a model; yield all parts of the result."""
        ...

    def prefer(self, request: PreferRequest, stopped: Callable[[], bool]) -> Iterator[ResultPart]:
        """Learn from choices; yield all parts of the result."""
        ...

    def draw(self, source: ModelSource, wishes: Sequence[Wish]) -> Iterator[Picture]:
        """Draw images, each alone, in the order of the wishes."""
        ...

    def sha256_of(self, source: ModelSource) -> str:
        """Return the hash of an adapted model, for choices between its drawings.

        Raises:
            UserError: when it could not learn from them.
        """
        ...

    def forget(self, url: str) -> None:
        """Drop the adapted model of a file that is removed from memory."""
        ...


class LocalComputing(Computing):
    """Computing in this process; for one thread alone.

    Args:
        models: the models.
        seconds: time that a request may take to compute.
    """

    def __init__(self, models: Models, seconds: float) -> None:
        self._models, self._seconds = models, seconds

    @override
    def adapt(self, request: AdaptRequest, stopped: Callable[[], bool]) -> Iterator[ResultPart]:
        return within(self._seconds, _adapt(self._models, request, stopped))

    @override
    def prefer(self, request: PreferRequest, stopped: Callable[[], bool]) -> Iterator[ResultPart]:
        return within(self._seconds, _prefer(self._models, request, stopped))

    @override
    def draw(self, source: ModelSource, wishes: Sequence[Wish]) -> Iterator[Picture]:
        return within(self._seconds, (drawn(self._models.source(source), w) for w in wishes))

    @override
    def sha256_of(self, source: ModelSource) -> str:
        refuse_unteachable(self._models.source(source))
        return self._models.sha256_of(source)

    @override
    def forget(self, url: str) -> None:
        self._models.forget(url)


def within(
    seconds: float, job: Generator[Yielded, None, Returned]
) -> Generator[Yielded, None, Returned]:
    """Advance a generator until it has computed for so long.

    Raises:
        RequestError: when it takes longer.
    """
    computed = 0.0
    while computed <= seconds:
        started = time.monotonic()
        try:
            part = next(job)
        except StopIteration as end:
            return end.value
        computed += time.monotonic() - started
        yield part
    job.close()
    raise too_long(seconds)


def too_long(seconds: float) -> RequestError:
    """Return the refusal of what computes for longer than so many seconds."""
    return RequestError(
        422, f"this takes longer than {seconds:g} s to compute; ask for fewer images or steps."
    )


def _adapt(
    models: Models, request: AdaptRequest, stopped: Callable[[], bool]
) -> Generator[ResultPart, None, None]:
    model, support = models[request.model], request.support
    yield ResultPart(changes={"state": "adapting", "warning": warning(model, support)})
    previews: tuple[Preview, ...] = ()
    for at in model.adapt_stepwise(support, steps=request.steps, seed=request.seed):
        loss = at.loss if at.loss is not None and math.isfinite(at.loss) else None
        yield ResultPart(changes={"step": at.step, "loss": loss})
        last = at.step == request.steps or stopped()
        if request.previews and (last or is_shown(at.step)):
            previews = yield from _preview(at.model(), at.step, previews)
        if last:
            adapted = at.model()
            yield _written(models, request.url, adapted)
            yield from _lora(model, adapted)
            yield ResultPart(
                changes={"state": "done", "expectation": _quality(model, support, adapted)}
            )
            return


def _prefer(
    models: Models, request: PreferRequest, stopped: Callable[[], bool]
) -> Generator[ResultPart, None, None]:
    """Learn from choices, and draw before and after."""
    yield ResultPart(changes={"state": "adapting"})
    model = models.adapted(request.origin)
    previews = yield from _preview(model, 0, ())
    for at in prefer_stepwise(model, request.choices, stopped=stopped):
        if isinstance(at, Outcome):
            yield ResultPart(changes={"report": tuple(sentences(at))})
            if at.model is None:
                raise UserError(
                    "these choices teach nothing that foresees held-out ones; choose between more."
                )
            yield from _preview(at.model, at.steps, previews)
            yield _written(models, request.url, at.model)
            yield from _lora(model, at.model)
            yield ResultPart(changes={"state": "done"})
            return
        yield ResultPart(changes={"step": at.done, "steps": at.of})


def _written(models: Models, url: str, adapted: Model) -> ResultPart:
    models.remember(url, adapted)
    return ResultPart(files={MODEL_FILE: adapted.to_bytes()})


def _lora(before: Model, adapted: Model) -> Iterator[ResultPart]:
    file = lora_file(before, adapted)
    if file is not None:
        name, content = file
        yield ResultPart(changes={"lora": name}, files={name: content})


def is_shown(step: int) -> bool:
    """Return whether to draw after so many inner steps: 0, 1, 2, 5, 10, 20, 50, ..."""
    return step == 0 or str(step).rstrip("0") in ("1", "2", "5")


def preview_name(step: int, index: int) -> str:
    """Return the name of the file of an image drawn after `step` inner steps."""
    return f"step-{step}-{index}.png"


def _preview(
    model: Model, step: int, before: tuple[Preview, ...]
) -> Generator[ResultPart, None, tuple[Preview, ...]]:
    """Draw the first images of the adaptation's seed, each shown at once; return all previews."""
    others = tuple(preview for preview in before if preview.step != step)
    for index in range(PREVIEWS):
        image = model.sample(1, seed=index)[0]
        shown = (*others, Preview(step=step, images=index + 1))
        yield ResultPart(changes={"previews": shown}, files={preview_name(step, index): png(image)})
    return (*others, Preview(step=step, images=PREVIEWS))


def _quality(model: Model, support: Examples, adapted: Model) -> str | None:
    """Return the line on the quality to expect; None where it is not known."""
    try:
        return expectation(model, support, adapted)
    except UserError:
        return None


def drawn(model: Model, wish: Wish) -> Picture:
    """Draw one image, alone, so that it is the same to the bit in any request.

    Raises:
        UserError: when the model has no such setting, or draws no numbers, or could not learn from
            a choice.
    """
    started = time.monotonic()
    if wish.compared:
        refuse_unteachable(model)
    towards = wish.guidance
    if towards is not None and model.support is None:
        towards = dict.fromkeys(wish.given, towards)
    image = model.sample(1, given=wish.given, seed=wish.seed, steps=wish.steps, guidance=towards)
    if not image.isfinite().all():
        raise UserError("the adapted model draws no numbers; adapt again with fewer steps.")
    content, sha256 = lossless(image[0], model.config.data.bits), None
    if wish.compared:
        content, sha256 = stored_image(image[0], model)
    nearest_given, distance = _nearest(model, image)
    return Picture(
        content=content,
        sha256=sha256,
        nearest=nearest_given,
        distance=distance,
        seconds=time.monotonic() - started,
    )


def teachable_sha256(model: Model) -> str:
    """Return the hash of an adapted model, for choices between its drawings.

    Raises:
        UserError: when it could not learn from them.
    """
    refuse_unteachable(model)
    return model.sha256


def _nearest(model: Model, image: Tensor) -> tuple[int | None, float | None]:
    """Return the index of the given image nearest to one that was drawn, and its distance."""
    if model.support is None:
        return None, None
    features, given = (x.flatten(1)[None] for x in (image, model.support.target))
    # From a sum of squares over values of [-1, 1] to a mean over values of [0, 1].
    scale = 2 * features.shape[-1] ** 0.5
    return int(nearest_index(features, given)), nearest(features, given).item() / scale

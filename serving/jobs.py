"""Jobs of a worker: adapting and preferring with previews, drawing by seed, and removing."""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.data.examples import Examples
from metatrain.data.packed.writer import sha256_of
from metatrain.data.pictures import png
from metatrain.metrics.memorisation import nearest, nearest_index
from metatrain.model.expectation import expectation, warning
from metatrain.model.model import AdaptationStep, Model
from metatrain.preferences.prefer import Outcome, prefer_stepwise
from metatrain.preferences.sentences import sentences
from serving.adaptations import Adaptation
from serving.limits import RequestError
from serving.models import Models
from serving.records import Drawing, Preview, Record
from serving.telling import told_to_draw
from serving.worker import Job, Result

# Images drawn at each preview, always of the same noise.
PREVIEWS = 4

_log = logging.getLogger("metatrain")


def reported(adaptation: Adaptation, job: Job[None]) -> Job[None]:
    """Advance a job whose errors become the state of its adaptation; nobody waits for the job."""
    try:
        yield from job
    except (UserError, RequestError) as error:
        message = str(error)
        adaptation.change(lambda _: {"state": "failed", "error": message})
    except Exception:
        _log.exception("an adaptation failed")
        message = "the server has failed; its log has the reason."
        adaptation.change(lambda _: {"state": "failed", "error": message})


def adapt(
    adaptation: Adaptation, support: Examples, models: Models, *, previews: bool
) -> Job[None]:
    """Adapt to a support, and write the adapted model.

    Args:
        adaptation: the adaptation.
        support: its images.
        models: where its model is.
        previews: whether to draw on the way.
    """
    record = adaptation.record
    model = models[record.model]
    line = warning(model, support)
    adaptation.change(lambda _: {"state": "adapting", "warning": line}, stored=False)
    for at in model.adapt_stepwise(support, steps=record.steps, seed=record.seed):
        _report(adaptation, at)
        last = at.step == record.steps or adaptation.stopped
        if previews and (last or is_shown(at.step)):
            yield from _preview(adaptation, at.model(), at.step)
        if last:
            yield from _finish(adaptation, models, support, at.model())
            return
        yield


def imagine(adaptation: Adaptation, models: Models, *, previews: bool) -> Job[None]:
    """Draw from words or a sound alone, which nothing adapts to."""
    adaptation.change(lambda _: {"state": "adapting"}, stored=False)
    if previews:
        yield from _preview(adaptation, models.adapted(adaptation), 0)
    adaptation.change(lambda _: {"state": "done"})


def _report(adaptation: Adaptation, at: AdaptationStep) -> None:
    loss = at.loss if at.loss is not None and math.isfinite(at.loss) else None
    adaptation.change(lambda _: {"step": at.step, "loss": loss}, stored=False)


def _finish(adaptation: Adaptation, models: Models, support: Examples, adapted: Model) -> Job[None]:
    """Write the adapted model, and tell the quality to expect of it."""
    _write(adaptation, models, adapted)
    yield
    quality = _quality(models[adaptation.record.model], support, adapted)
    adaptation.change(lambda _: {"state": "done", "expectation": quality})


def prefer(adaptation: Adaptation, origin: Adaptation, models: Models) -> Job[None]:
    """Learn from the choices between drawings of `origin`, and write the model that prefers.

    It draws before and after.
    """
    adaptation.change(lambda _: {"state": "adapting"}, stored=False)
    model = models.adapted(origin)
    yield from _preview(adaptation, model, 0)
    choices = str(origin.choices_file)
    for at in prefer_stepwise(model, choices, stopped=lambda: adaptation.stopped):
        if isinstance(at, Outcome):
            yield from _finish_preferring(adaptation, models, at)
            return
        done, of = at.done, at.of
        adaptation.change(lambda _: {"step": done, "steps": of}, stored=False)  # noqa: B023
        yield


def _finish_preferring(adaptation: Adaptation, models: Models, outcome: Outcome) -> Job[None]:
    report = tuple(sentences(outcome))
    adaptation.change(lambda _: {"report": report}, stored=False)
    if outcome.model is None:
        raise UserError(
            "these choices teach nothing that foresees held-out ones; choose between more."
        )
    yield from _preview(adaptation, outcome.model, outcome.steps)
    _write(adaptation, models, outcome.model)
    adaptation.change(lambda _: {"state": "done"})


def _write(adaptation: Adaptation, models: Models, adapted: Model) -> None:
    models.remember(adaptation, adapted)
    adaptation.disk.write(adaptation.model_file, adapted.to_bytes())


def is_shown(step: int) -> bool:
    """Return whether to draw after so many inner steps: 0, 1, 2, 5, 10, 20, 50, ..."""
    return step == 0 or str(step).rstrip("0") in ("1", "2", "5")


def _preview(adaptation: Adaptation, model: Model, step: int) -> Job[None]:
    """Draw the first images of the adaptation's seed, each shown at once."""
    for index in range(PREVIEWS):
        image = model.sample(1, seed=index, given=told_to_draw(adaptation, model))[0]
        adaptation.disk.write(adaptation.preview_file(step, index), png(image))
        count = index + 1

        def shown(record: Record) -> dict[str, tuple[Preview, ...]]:
            before = tuple(p for p in record.previews if p.step != step)
            return {"previews": (*before, Preview(step=step, images=count))}  # noqa: B023

        adaptation.change(shown, stored=False)
        yield


def _quality(model: Model, support: Examples, adapted: Model) -> str | None:
    """Return the line on the quality to expect; None where it is not known."""
    try:
        return expectation(model, support, adapted)
    except UserError:
        return None


def draw(
    adaptation: Adaptation,
    models: Models,
    *,
    seeds: Sequence[int],
    steps: int | None,
    guidance: float | None,
    text: str | None,
    most: int,
) -> Job[list[Drawing]]:
    """Draw an image of each seed, each alone, so that it is the same to the bit in any request.

    Args:
        adaptation: the adaptation; its state has every drawing as soon as it is drawn.
        models: where its adapted model is.
        seeds: a seed for each image.
        steps: sampler steps; None for the configuration's.
        guidance: the guidance towards the images, or without any towards what is told; None for
            the configuration's.
        text: words in the place of the adaptation's; None for these.
        most: drawings that an adaptation has; those neither kept nor awaited give way.

    Raises:
        UserError: when the model cannot be read, or has no such setting.
    """
    drawings = []
    for seed in seeds:
        settings = {"seed": seed, "steps": steps, "guidance": guidance, "text": text}
        drawing = _existing(adaptation, drawing_name(**settings))
        if drawing is None:
            model = models.adapted(adaptation)
            image = _drawn(adaptation, model, **settings)
            drawing = Drawing(name=drawing_name(**settings), **settings, **_nearest(model, image))
            adaptation.disk.write(adaptation.drawing_file(drawing.name), png(image[0]))
            _add(adaptation, drawing, most)
        drawings.append(drawing)
        yield
    return drawings


def drawing_name(seed: int, steps: int | None, guidance: float | None, text: str | None) -> str:
    """Return the name of a drawing, which its settings decide."""
    settings = [f"{steps}-steps"] if steps is not None else []
    # All digits, or another guidance would have the same name.
    settings += [f"guidance-{guidance!r}".removesuffix(".0")] if guidance is not None else []
    settings += [f"text-{sha256_of(text.encode())[:16]}"] if text is not None else []
    return "-".join([str(seed), *settings])


def _existing(adaptation: Adaptation, name: str) -> Drawing | None:
    return next((d for d in adaptation.record.drawings if d.name == name), None)


def _drawn(
    adaptation: Adaptation,
    model: Model,
    *,
    seed: int,
    steps: int | None,
    guidance: float | None,
    text: str | None,
) -> Tensor:
    given = told_to_draw(adaptation, model, text)
    towards = guidance
    if guidance is not None and model.support is None:
        towards = dict.fromkeys(given, guidance)
    image = model.sample(1, given=given, seed=seed, steps=steps, guidance=towards)
    if not image.isfinite().all():
        raise UserError("the adapted model draws no numbers; adapt again with fewer steps.")
    return image


def _nearest(model: Model, image: Tensor) -> dict[str, Any]:
    if model.support is None:
        return {"nearest": None, "distance": None}
    features, given = (x.flatten(1)[None] for x in (image, model.support.target))
    # From a sum of squares over values of [-1, 1] to a mean over values of [0, 1].
    scale = 2 * features.shape[-1] ** 0.5
    return {
        "nearest": int(nearest_index(features, given)),
        "distance": nearest(features, given).item() / scale,
    }


def _add(adaptation: Adaptation, drawing: Drawing, most: int) -> None:
    """Add a drawing, in the place of the oldest that nobody needs where there are too many."""
    dropped: list[Drawing] = []

    def added(record: Record) -> dict[str, tuple[Drawing, ...]]:
        drawings = (*record.drawings, drawing)
        loose = [d for d in drawings if not d.kept and not adaptation.awaited[d.name]]
        dropped[:] = loose[: max(0, len(drawings) - most)]
        return {"drawings": tuple(d for d in drawings if d not in dropped)}

    adaptation.change(added)
    for old in dropped:
        adaptation.disk.remove(adaptation.drawing_file(old.name))


def within(seconds: float, job: Job[Result]) -> Job[Result]:
    """Advance a job until it has computed for so long.

    Raises:
        RequestError: when it takes longer.
    """
    computed = 0.0
    while computed <= seconds:
        started = time.monotonic()
        try:
            next(job)
        except StopIteration as end:
            return end.value
        computed += time.monotonic() - started
        yield
    job.close()
    raise RequestError(
        422, f"this takes longer than {seconds:g} s to compute; ask for fewer images or steps."
    )


def until_deleted(adaptation: Adaptation, job: Job[Result]) -> Job[Result]:
    """Advance a job of an adaptation, but not after that is deleted: it would write its folder.

    Raises:
        RequestError: when it is deleted first.
    """
    while not adaptation.deleted:
        try:
            next(job)
        except StopIteration as end:
            return end.value
        yield
    job.close()
    raise RequestError(404, "the adaptation was deleted meanwhile.")


def remove(adaptation: Adaptation, models: Models) -> Job[None]:
    """Remove a deleted adaptation from memory and from disk.

    As a job, so that nothing else of the worker writes into its folder meanwhile.
    """
    models.forget(adaptation)
    with suppress(OSError):  # first, so that a crash leaves what the next start removes
        adaptation.record_file.unlink(missing_ok=True)
    adaptation.disk.remove_folder(adaptation.folder)
    return
    yield

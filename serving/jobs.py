"""Jobs of adaptations: they keep what is computed, part by part; and removing."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from metatrain.base.errors import UserError
from metatrain.data.examples import Examples
from metatrain.data.packed.writer import sha256_of
from metatrain.model.given import as_given
from metatrain.model.support import as_support
from serving.adaptations import Adaptation, Adaptations
from serving.computing import (
    PREVIEWS,
    AdaptRequest,
    Computing,
    Picture,
    PreferRequest,
    ResultPart,
    Wish,
)
from serving.limits import RequestError
from serving.models import Models
from serving.records import Drawing, Preview, Record
from serving.telling import told_to_adapt, told_to_draw
from serving.worker import Job, Result

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


def adapt(adaptation: Adaptation, support: Examples, computing: Computing) -> Job[None]:
    """Adapt to a support, and write the adapted model.

    Args:
        adaptation: the adaptation.
        support: its images.
        computing: what computes.
    """
    record = adaptation.record
    request = AdaptRequest(
        model=record.model,
        support=support,
        steps=record.steps,
        seed=record.seed,
        previews=record.shows,
        url=adaptation.model_url,
    )
    yield from _kept(adaptation, computing.adapt(request, lambda: adaptation.stopped))


def prefer(adaptation: Adaptation, origin: Adaptation, computing: Computing) -> Job[None]:
    """Learn from the choices between drawings of `origin`, and write the model that prefers."""
    request = PreferRequest(
        origin=origin.model_url,
        choices=origin.disk.url(origin.choices_file),
        url=adaptation.model_url,
    )
    yield from _kept(adaptation, computing.prefer(request, lambda: adaptation.stopped))


def resume(
    adaptation: Adaptation, adaptations: Adaptations, models: Models, computing: Computing
) -> Job[None]:
    """Compute an adaptation from its files, as if its request had come just now."""
    record = adaptation.record
    if record.origin is not None:
        yield from prefer(adaptation, adaptations[record.origin], computing)
    elif not record.given:
        yield from imagine(adaptation, models, computing)
    else:
        config = models[record.model].config
        support = as_support(adaptation.given(), config.data)
        told = as_given(told_to_adapt(adaptation, config), config, len(support))
        yield from adapt(adaptation, replace(support, given=told), computing)


def imagine(adaptation: Adaptation, models: Models, computing: Computing) -> Job[None]:
    """Draw from words or a sound alone, which nothing adapts to."""
    adaptation.change(lambda _: {"state": "adapting"}, stored=False)
    told = told_to_draw(adaptation, models)
    wishes = [
        Wish(seed=seed, given=told) for seed in range(PREVIEWS if adaptation.record.shows else 0)
    ]
    for count, picture in enumerate(computing.draw(adaptation.source, wishes), start=1):
        adaptation.write(adaptation.preview_file(0, count - 1), picture.content)
        shown = (Preview(step=0, images=count),)
        adaptation.change(lambda _: {"previews": shown}, stored=False)  # noqa: B023
        yield
    adaptation.change(lambda _: {"state": "done"})


def _kept(adaptation: Adaptation, parts: Iterator[ResultPart]) -> Job[None]:
    """Keep all parts of a result as they come."""
    for part in parts:
        for name, data in part.files.items():
            adaptation.write(adaptation.folder / name, data)
        changes = dict(part.changes)
        if changes:
            adaptation.change(lambda _: changes, stored=changes.get("state") == "done")  # noqa: B023
        yield


def draw(
    adaptation: Adaptation,
    models: Models,
    computing: Computing,
    *,
    seeds: Sequence[int],
    steps: int | None,
    guidance: float | None,
    text: str | None,
    most: int,
) -> Job[list[Drawing]]:
    """Draw an image of each seed, unless the adaptation has it already.

    Args:
        adaptation: the adaptation; its state has every drawing as soon as it is drawn.
        models: tell what the model may be told.
        computing: what computes.
        seeds: a seed for each image.
        steps: sampler steps; None for the configuration's.
        guidance: the guidance towards the images, or without any towards what is told; None for
            the configuration's.
        text: words in the place of the adaptation's; None for these.
        most: drawings that an adaptation has; those neither kept nor awaited give way.

    Raises:
        UserError: when the model cannot be read, or has no such setting.
    """
    names = {seed: drawing_name(seed, steps, guidance, text) for seed in seeds}
    told = told_to_draw(adaptation, models, text)
    missing = [seed for seed, name in names.items() if _existing(adaptation, name) is None]
    wishes = [Wish(seed=s, steps=steps, guidance=guidance, given=told) for s in missing]
    pictures = computing.draw(adaptation.source, wishes)
    for wish, picture in zip(wishes, pictures, strict=True):
        drawing = _drawing(names[wish.seed], wish, text, picture)
        adaptation.write(adaptation.drawing_file(drawing.name), picture.content)
        _add(adaptation, drawing, most)
        yield
    drawings = [_existing(adaptation, name) for name in names.values()]
    return [drawing for drawing in drawings if drawing is not None]


def drawing_name(seed: int, steps: int | None, guidance: float | None, text: str | None) -> str:
    """Return the name of a drawing, which its settings decide."""
    settings = [f"{steps}-steps"] if steps is not None else []
    # All digits, or another guidance would have the same name.
    settings += [f"guidance-{guidance!r}".removesuffix(".0")] if guidance is not None else []
    settings += [f"text-{sha256_of(text.encode())[:16]}"] if text is not None else []
    return "-".join([str(seed), *settings])


def _existing(adaptation: Adaptation, name: str) -> Drawing | None:
    return next((d for d in adaptation.record.drawings if d.name == name), None)


def _drawing(name: str, wish: Wish, text: str | None, picture: Picture) -> Drawing:
    return Drawing(
        name=name,
        seed=wish.seed,
        steps=wish.steps,
        guidance=wish.guidance,
        text=text,
        nearest=picture.nearest,
        distance=picture.distance,
    )


def _add(adaptation: Adaptation, drawing: Drawing, most: int) -> None:
    """Add a drawing, in the place of the oldest that nobody needs where there are too many."""
    dropped: list[Drawing] = []

    def added(record: Record) -> dict[str, tuple[Drawing, ...]]:
        if any(d.name == drawing.name for d in record.drawings):  # another request was sooner
            return {}
        drawings = (*record.drawings, drawing)
        loose = [d for d in drawings if not d.kept and not adaptation.awaited[d.name]]
        dropped[:] = loose[: max(0, len(drawings) - most)]
        return {"drawings": tuple(d for d in drawings if d not in dropped)}

    adaptation.change(added)
    for old in dropped:
        adaptation.disk.remove(adaptation.drawing_file(old.name))


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


def remove(adaptation: Adaptation, computing: Computing) -> Job[None]:
    """Remove a deleted adaptation from memory and from disk."""
    computing.forget(adaptation.model_url)
    adaptation.remove_files()
    return
    yield

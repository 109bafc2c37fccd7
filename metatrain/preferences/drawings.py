"""Drawings of one model, packed with their traits, for raters to choose between."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.data.conditions.sections import VectorConfig
from metatrain.data.conditions.vector import Vector
from metatrain.data.episodes import Episode
from metatrain.data.packed.manifest import IMAGE
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import DatasetWriter
from metatrain.data.pictures import decode, png
from metatrain.data.rated import DRAWINGS_END, SHOTS_END, TRAITS
from metatrain.data.tasks.classes import Classes
from metatrain.data.tasks.sections import ClassesConfig
from metatrain.model.model import Model
from metatrain.preferences.traits import TRAIT_COUNT, traits_of
from metatrain.storage.lease import lease


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """The drawings to make.

    Attributes:
        splits: splits of the model's data, whose tasks are drawn.
        tasks: at most so many tasks of each split, chosen at random.
        drawings: drawings of a task.
        seed: decides on the tasks, their images and the noise.
    """

    splits: Sequence[str] = ("train", "val", "test")
    tasks: int = 200
    drawings: int = 96
    seed: int = 0


def pack_drawings(
    model: Model, store: EpisodeStore, dest: str, options: DrawingOptions, *, wait: bool = False
) -> int:
    """Pack what a model draws of tasks of a data set, before any inner step.

    A task is drawn from as many of its images as the model was trained with. They are packed as
    `TASK/shots`, and the drawings as `TASK/drawings`.

    Args:
        model: not adapted.
        store: the model's data set.
        dest: the folder to write.
        options: the drawings to make.
        wait: whether to wait until another process that writes there has ended.

    Returns:
        The number of tasks.

    Raises:
        HeldError: when another process writes there.
        UserError: when the model has been adapted, the data cannot be used, or there is something
            at `dest`.
    """
    if model.support is not None:
        raise UserError("this model has been adapted already; give the one that it came from.")
    with lease(dest, "draws", wait=wait):
        writer = DatasetWriter(dest, (), {TRAITS: Vector.arrow})
        writer.begin()
        try:
            count = _write(model, store, writer, options)
            section = VectorConfig(size=TRAIT_COUNT).model_dump(mode="json")
            writer.commit({"drawn": model.sha256}, {TRAITS: section})
        except BaseException:
            writer.clear()
            raise
    return count


def _write(
    model: Model, store: EpisodeStore, writer: DatasetWriter, options: DrawingOptions
) -> int:
    # In the order in which their packed tasks are sorted.
    episodes = sorted(_episodes(model, store, options), key=lambda at: f"{at[1].task}/")
    progress = Progress("drawing", len(episodes))
    for number, (split, episode) in enumerate(episodes):
        support = episode.support.to(model.device)
        images = model.adapted(model.parameters, support).sample(
            options.drawings, seed=options.seed + number
        )
        for end, rows in ((DRAWINGS_END, images), (SHOTS_END, support.target)):
            task = {"task": f"{episode.task}{end}", "split": split}
            for row in _rows([png(image) for image in rows], model):
                writer.add({**task, **row})
        progress.update(number + 1)
    progress.close()
    return len(episodes)


def _episodes(
    model: Model, store: EpisodeStore, options: DrawingOptions
) -> Iterator[tuple[str, Episode]]:
    """Yield an episode of each task to draw, with its split."""
    source = Classes(ClassesConfig(), model.config.data, store)
    for split in options.splits:
        # The query is not needed, and one image is the least.
        sampler = source.sampler(split, seed=options.seed, meta_batch=1, queries=1, too_few="skip")
        for step in range(min(options.tasks, sampler.epoch)):
            yield split, source.read(sampler.plan(step, slot=0))


def _rows(images: Sequence[bytes], model: Model) -> Iterator[dict[str, Any]]:
    """Yield the columns of images, whose traits are those of their files."""
    data = model.config.data
    traits = traits_of(decode(list(images), data.image_size, data.channels)).numpy().astype("<f4")
    for index, (image, values) in enumerate(zip(images, traits, strict=True)):
        side = {"width": data.image_size, "height": data.image_size}
        yield {"index": index, IMAGE: image, **side, TRAITS: values.tobytes()}

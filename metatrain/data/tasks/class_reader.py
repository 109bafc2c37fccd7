"""Reading the episodes of classes: images with their conditions, by one request each."""

from collections.abc import Mapping, Sequence
from math import prod

from torch import Tensor

from metatrain.base.errors import UserError, did_you_mean
from metatrain.base.section import Section
from metatrain.base.text import listed, printable
from metatrain.data.conditions import CONDITIONS, ConditionKind
from metatrain.data.episodes import Episode
from metatrain.data.examples import Condition, Examples
from metatrain.data.images import BadValue
from metatrain.data.packed.latents import LATENT, PackedLatents, decode_latents
from metatrain.data.packed.manifest import IMAGE, MANIFEST
from metatrain.data.packed.store import EpisodeStore, ImagePlace
from metatrain.data.pictures import decode
from metatrain.data.tasks.class_sampler import ClassPlan


class ClassReader:
    """Reader of planned episodes; threads may share it.

    Args:
        store: the data set.
        image_size: height and width in pixels to bring images to.
        channels: 1 for grey, 3 for RGB, 4 for RGBA.
        conditions: by column, the section of the kind of each condition to read.
        latents: read the stored latents of these, and no images.

    Raises:
        UserError: when the data set has no such condition, or has it with another kind or shape.
    """

    def __init__(
        self,
        store: EpisodeStore,
        image_size: int,
        channels: int,
        conditions: Mapping[str, Section] | None = None,
        latents: PackedLatents | None = None,
    ) -> None:
        self._store, self._size, self._channels = store, image_size, channels
        self._latents = latents
        self._kinds: dict[str, ConditionKind] = {}
        for column, section in (conditions or {}).items():
            values = section.model_dump(mode="json")
            _check_packed(column, values, store)
            self._kinds[column] = CONDITIONS[values["name"]](section, image_size, channels)

    def read(self, plan: ClassPlan) -> Episode:
        """Read and decode the images of `plan` with their conditions, by one request.

        Or their latents: conditions are then read, too, from where the images are.

        Raises:
            UserError: when the store cannot be read, or its bytes are not those that were packed.
        """
        examples = self.examples(plan.task.name, [(plan.task, index) for index in plan.images])
        return Episode(plan.task.name, *examples.split(len(plan.support)), plan.seed)

    def examples(self, name: str, images: Sequence[ImagePlace]) -> Examples:
        """Read and decode images, or latents, with their conditions.

        Args:
            name: of the episode's task, for messages.
            images: where they are packed.

        Raises:
            UserError: as `read`.
        """
        packed = self._packed(images)
        try:
            targets = self._targets(packed)
        except BadValue as error:
            raise UserError(
                f"task '{printable(name)}' in {self._store.url} has an image that cannot be used "
                f"({error}); pack it again."
            ) from error
        given = {column: self._decode(column, packed[column], name) for column in self._kinds}
        return Examples(targets, given, encoded=self._latents is not None)

    def _packed(self, images: Sequence[ImagePlace]) -> dict[str, list[bytes]]:
        """Read the values of each column that is needed."""
        if self._latents and not self._kinds:
            return {LATENT: self._store.read_latents(images)}
        targets = LATENT if self._latents else IMAGE
        return self._store.read_images(images, [targets, *self._kinds])

    def _targets(self, packed: Mapping[str, list[bytes]]) -> Tensor:
        if self._latents:
            return decode_latents(packed[LATENT], self._latents.shape)
        return decode(packed[IMAGE], self._size, self._channels)

    def bytes_of(self, images: Sequence[ImagePlace]) -> int:
        """Return the memory for the row groups of images and for decoded values, in bytes."""
        values = prod(self._latents.shape) if self._latents else self._channels * self._size**2
        decoded = 4 * values + sum(kind.decoded_bytes for kind in self._kinds.values())
        return self._store.bytes_of_images(images) + len(images) * decoded

    def _decode(self, column: str, values: list[bytes], name: str) -> Condition:
        try:
            return self._kinds[column].decode(values)
        except BadValue as error:
            raise UserError(
                f"task '{printable(name)}' in {self._store.url} has a value in column "
                f"'{printable(column)}' that cannot be used ({error}); pack it again."
            ) from error


def _check_packed(column: str, section: Mapping[str, object], store: EpisodeStore) -> None:
    key, file = f"data.conditions.{column}", f"{store.url}/{MANIFEST}"
    packed = store.conditions.get(column)
    if packed is None:
        columns = list(store.conditions)
        mend = f"; pack the data with --condition {column}={section['name']}, or leave {key} out."
        raise UserError(
            f"{key} names no condition in {file}, which has {listed(columns)}"
            f"{did_you_mean(column, columns) or mend}"
        )
    for name, value in packed.items():
        if section.get(name) != value:
            raise UserError(
                f"{key}.{name} is {section.get(name)}, and column '{column}' in {file} was packed "
                f"with {printable(f'{name} {value}; set {key}.{name}={value}')}, or pack the data "
                f"again."
            )

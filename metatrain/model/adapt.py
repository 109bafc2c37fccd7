"""Adapting a meta-trained generator to a handful of images of something new."""

from collections.abc import Iterator
from pathlib import Path

from metatrain.base.errors import UserError
from metatrain.config import DataConfig
from metatrain.data.batch import support_batch
from metatrain.data.examples import Examples
from metatrain.data.images import BadImage, normalise
from metatrain.data.pictures import decode
from metatrain.model.build import adaptation_lr, build_adaptation
from metatrain.model.file import Model


class Adapter:
    """The inner loop at test time: `config.adapt.steps` steps on the support alone.

    Args:
        model: the meta-trained model; it is left as it is.

    Attributes:
        generator: holds theta or fast weights, as `steps` left them.
    """

    def __init__(self, model: Model) -> None:
        self.model, self._theta = model, model.theta()
        self.generator = self._theta.generator
        self._inner = build_adaptation(model.config, self._theta)
        self._lr = adaptation_lr(model.config, self._theta)

    def steps(self, support: Examples, seed: int = 0) -> Iterator[int]:
        """Adapt to `support`, yielding the steps taken: 0, 1, ..., adapt.steps.

        Between two yields `generator` has the fast weights after that many steps.
        """
        losses = self._inner.steps(
            self.model.parameters, lambda step: support_batch(support, seed, step), self._lr
        )
        self._inner.start(self.model.parameters)
        yield 0
        for step, _ in enumerate(losses, start=1):
            yield step

    def adapt(self, support: Examples, seed: int = 0) -> Model:
        """Adapt to `support` and return the adapted model."""
        for _ in self.steps(support, seed):
            pass
        return self.model.adapted(self._theta.copy(), support)


def read_support(folder: str, config: DataConfig) -> Examples:
    """The images of a local folder, in the order of their names, as a support.

    Raises:
        UserError: when there is no such folder, no image in it, or one that cannot be used.
    """
    if not Path(folder).is_dir():
        raise UserError(f"there is no folder {folder}; give a folder with a handful of images.")
    files = sorted(p for p in Path(folder).iterdir() if p.is_file() and p.name[0] != ".")
    if not files:
        raise UserError(f"{folder} holds no images; put a handful of images of one thing there.")
    images = [_read_image(file) for file in files]
    return Examples(decode(images, config.image_size, config.channels))


def _read_image(file: Path) -> bytes:
    try:
        return normalise(file.read_bytes()).data
    except BadImage as error:
        raise UserError(f"{file} cannot be used: {error}; mend or remove it.") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error}.") from error

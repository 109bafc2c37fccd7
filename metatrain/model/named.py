"""Models by name: those that ship with metatrain, and those in the folders of METATRAIN_MODELS.

A reference to a model is a path, any fsspec URL, or a name. A name has no slash and no ending. A
model in the working directory's folder of that name comes first, since whoever trained it there
means it; then the folders of METATRAIN_MODELS in their order; then the models that ship.
"""

import os
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from metatrain.base.errors import UserError, did_you_mean
from metatrain.base.progress import say
from metatrain.base.text import listed

# The package's own models.
SHIPPED = Path(__file__).parents[1] / "shipped"
# Names the folders of further models, with the separator of PATH between them.
VARIABLE = "METATRAIN_MODELS"

# The end of a model's file, and the file of a folder that holds one model.
ENDING, FILE = ".safetensors", "model.safetensors"

# Holds what is computed of models by name, such as evaluations, in a folder each.
_HOME = "models"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class NamedModel(NamedTuple):
    """A model that is known by its name.

    Attributes:
        name: the name.
        file: its model file.
        card: the file of its card, which may not exist.
        home: the folder of what is computed of it.
    """

    name: str
    file: str
    card: str
    home: str

    @property
    def ships(self) -> bool:
        """Whether it is one of metatrain's own."""
        return Path(self.file).parent == SHIPPED


def named_models() -> dict[str, NamedModel]:
    """Return all models that have a name, by it; of two of one name, the one that comes first.

    Raises:
        UserError: when METATRAIN_MODELS names what is no folder.
    """
    models: dict[str, NamedModel] = {}
    for folder in [*_folders(), SHIPPED]:
        for model in _models_in(folder):
            models.setdefault(model.name, model)
    return models


def named_model(reference: str) -> NamedModel | None:
    """Return the model that `reference` means by its name; None where it means a place.

    Raises:
        UserError: when METATRAIN_MODELS names what is no folder.
    """
    if not _NAME.fullmatch(reference) or reference.endswith(ENDING):
        return None
    model = named_models().get(reference)
    if model and Path(reference, FILE).is_file():
        _tell_of_local(reference, model.file)
        return None
    return model


def known_names(reference: str) -> str:
    """Return a hint for a reference that leads nowhere: a name like it, and all there are."""
    if not _NAME.fullmatch(reference):
        return ""
    names = sorted(named_models())
    return f"{did_you_mean(reference, names)}; models known by name: {listed(names)}"


def refuse_shipped(url: str) -> None:
    """Refuse to change one of metatrain's own models.

    Raises:
        UserError: when the file `url` is one.
    """
    if Path(url).parent == SHIPPED:
        raise UserError(f"{url} ships with metatrain, and stays as it is; name another file.")


@cache
def _tell_of_local(name: str, file: str) -> None:
    """Say once that a folder hides a model."""
    say(f"Note: '{name}' is the folder ./{name} here, and not the model {file}.")


def _folders() -> list[Path]:
    folders = [Path(part).expanduser() for part in _entries()]
    if missing := next((folder for folder in folders if not folder.is_dir()), None):
        raise UserError(
            f"{VARIABLE} names {missing}, which is no folder; correct it (folders with "
            f"'{os.pathsep}' between them)."
        )
    return folders


def _entries() -> list[str]:
    return [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]


def _models_in(folder: Path) -> list[NamedModel]:
    """Return the models in a folder: files, and folders of runs."""
    files = [
        NamedModel(file.stem, str(file), str(file.with_suffix(".md")), f"{_HOME}/{file.stem}")
        for file in sorted(folder.glob(f"*{ENDING}"))
    ]
    runs = [
        NamedModel(file.parent.name, str(file), str(file.with_suffix(".md")), str(file.parent))
        for file in sorted(folder.glob(f"*/{FILE}"))
    ]
    return [model for model in [*files, *runs] if _NAME.fullmatch(model.name)]

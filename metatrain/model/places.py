"""Places of model files: what a reference means, and whether there is one, told without torch."""

import os
from pathlib import Path, PurePosixPath

from metatrain.base.errors import UserError
from metatrain.model.named import ENDING, FILE, known_names, named_model
from metatrain.storage.files import MissingError, exists, read_file

# The folder of runs in the working directory, and the file of an adapted model's folder.
_RUNS = "runs"
ADAPTED = "adapted.safetensors"


def state_folder(name: str) -> Path:
    """Return the folder of the adaptations of `studio` or `serve`, where its user names none.

    Raises:
        UserError: when this user has no home, as in some containers.
    """
    try:
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise UserError("this user has no home folder; give --dir, or set HOME.") from error
    return Path(home) / "metatrain" / name


def model_url(url: str) -> str:
    """Return the file that `url` means: itself, that of a name, or the one in a run's folder."""
    if url.endswith(ENDING):
        return url
    model = named_model(url)
    return model.file if model else f"{url.rstrip('/')}/{FILE}"


def run_models() -> list[Path]:
    """Return the model files of the finished runs in ./runs."""
    return sorted(Path(_RUNS).glob(f"*/{FILE}"))


def home_of(url: str) -> str:
    """Return the folder of what is computed of the model that `url` means, such as evaluations.

    It is the folder that the model's file is in, or one in the working directory where several
    models with names share that.
    """
    model = named_model(url)
    return model.home if model else model_url(url).rpartition("/")[0] or "."


def adapted_url(url: str) -> str:
    """Return the file that `url` means: itself, the one in an adapted model's folder, or a name's.

    A name is of a model that need not be adapted.
    """
    if url.endswith(ENDING):
        return url
    file, model = f"{url.rstrip('/')}/{ADAPTED}", named_model(url)
    return model.file if model and not exists(file) else file


def refuse_missing(url: str) -> None:
    """Refuse a model file on this machine that is not there, before anything reads it.

    Raises:
        UserError: when there is none.
    """
    if "://" not in url and not exists(url):
        raise _missing(url)


def refuse_missing_images(url: str) -> None:
    """Refuse images on this machine that are not there, before anything reads a model.

    Raises:
        UserError: when there is neither a folder nor a file.
    """
    if "://" in url or exists(url):
        return
    if PurePosixPath(url).suffix:
        read_file(url)  # says that there is no such file
    raise UserError(f"there is no folder {url}; give a folder with a handful of images.")


def read_model(url: str) -> bytes:
    """Read the bytes of the model file `url`.

    Raises:
        UserError: when there is none, or it cannot be read.
    """
    try:
        return read_file(url)
    except MissingError as error:
        raise _missing(url) from error


def _missing(url: str) -> UserError:
    folder = url.removesuffix(f"/{FILE}").removesuffix(f"/{ADAPTED}")
    if url.endswith(f"/{FILE}") and exists(f"{folder}/{ADAPTED}"):
        return UserError(f"{folder} holds an adapted model; give the one that it came from.")
    return UserError(
        f"there is no model at {url}{known_names(folder)}; give the folder of a finished run or "
        f"of a checkpoint, or a file that metatrain wrote."
    )

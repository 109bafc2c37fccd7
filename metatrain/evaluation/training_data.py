"""The data set to evaluate a model on: one that is named, or that of its training."""

from contextlib import suppress

from metatrain.base.errors import UntrustedError, UserError
from metatrain.data.packed.manifest import MANIFEST
from metatrain.model.model import Model
from metatrain.model.trust import refuse_places
from metatrain.storage.files import MissingError, is_local, sha256_of
from metatrain.training.run_data import RUN_MANIFEST, run_folders


def data_for(model: Model, data: str | None, url: str | None = None) -> str:
    """Return `data`, or where it is None the URL of the data set that `model` was trained on.

    The path in a stranger's model is not read unasked. It is the user's own where the run's folder
    has the manifest of a data set of this machine, and that data set lies at the path: then it
    leads to no other place, and to no other data.

    Args:
        model: the model, whose `trusted` says whether its word is taken.
        data: the URL that the caller names.
        url: the model's file.

    Raises:
        UntrustedError: when the path is not to be read.
        UserError: when the run's task source reads no packed data set.
    """
    config = model.config
    if not model.trusted:
        refuse_places(config.data.tasks)
    if data is not None:
        return data
    if config.data.url is None:
        raise UserError(
            f"{config.run.name} was trained on the task source {config.data.tasks.name}, which "
            f"reads no packed data set; name the data set to evaluate on."
        )
    if not (model.trusted or (url and _is_known(config.data.url, url))):
        raise UntrustedError(
            f"the model says that its data set is {config.data.url}, and a path out of a model "
            f"file is not read unasked; name the data set, or trust the model."
        )
    return config.data.url


def _is_known(data: str, model_url: str) -> bool:
    """Tell whether a data set of this machine is the one whose manifest lies with the model."""
    if not is_local(data):
        return False
    with suppress(UserError):
        return sha256_of(f"{data.rstrip('/')}/{MANIFEST}") == _recorded(model_url)
    return False


def _recorded(model_url: str) -> str | None:
    """Return the sha256 of the manifest in the run's folder, which may be that of a checkpoint."""
    for place in run_folders(model_url):
        with suppress(MissingError):
            return sha256_of(f"{place}/{RUN_MANIFEST}")
    return None

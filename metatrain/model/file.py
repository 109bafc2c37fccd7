"""Model files: read, and written beside the model that an adaptation began with."""

from dataclasses import replace

from metatrain.base.errors import UserError
from metatrain.model.format import Contents, check_state, decode
from metatrain.model.model import Model
from metatrain.model.reference import Reference, changes, path_between
from metatrain.model.rescope import rescoped
from metatrain.model.trust import refuse_places
from metatrain.storage.files import MissingError, exists, read_file, write_file


def load_model(url: str, adapted_from: str | None = None, *, trust: bool = False) -> Model:
    """Read a model file, or that of the folder of a finished run, a checkpoint or an adaptation.

    Args:
        url: the file or folder.
        adapted_from: the model that an adapted one needs; by default where its file says.
        trust: whether the places that the file names may be read; see `Model.trusted`.

    Raises:
        UntrustedError: when building it reads such a place, and it is not trusted.
        UserError: when there is none, or it is damaged or not a metatrain model.
    """
    url = model_url(url)
    return parse_model(read_model(url), url, adapted_from, trust=trust)


def parse_model(
    data: bytes, url: str, adapted_from: str | None = None, *, trust: bool = False
) -> Model:
    """Parse a model from the bytes of its file; messages name it by `url`; see `load_model`.

    Raises:
        UntrustedError: when building it reads a place that it names, and it is not trusted.
        UserError: when they are damaged, or not a metatrain model.
    """
    contents, reference = _decoded(data, url, trust)
    if reference is not None:
        start = _start_of(url, reference, adapted_from, trust)
        scope = contents["config"].inner.scope.name
        _, parameters = rescoped(start.config, start.parameters, scope)
        contents["parameters"] = parameters | contents["parameters"]
    check_state(contents, url)
    return Model(**contents, trusted=trust)


def _decoded(data: bytes, url: str, trust: bool) -> tuple[Contents, Reference | None]:
    contents, reference = decode(data, url)
    if not trust:
        config = contents["config"]
        refuse_places(config.generator, config.objective, config.codec, config.inner)
    return contents, reference


def _start_of(url: str, reference: Reference, adapted_from: str | None, trust: bool) -> Model:
    """Read the model that the one in `url` was adapted from."""
    needs = f"{url} holds what adaptation changed of another model"
    if adapted_from is None and "://" in url:
        raise UserError(f"{needs}, and a path out of a file elsewhere is not followed; name it.")
    place = model_url(adapted_from or reference.url_from(url))
    try:
        data = read_file(place)
    except MissingError as error:
        raise UserError(f"{needs}, which is not at {place}; name the file it is in.") from error
    contents, _ = _decoded(data, place, trust)
    check_state(contents, place)
    model = Model(**contents, trusted=trust)
    if model.sha256 != reference.sha256:
        raise UserError(f"{needs} than that in {place}; name the file it is in.")
    return model


def model_url(url: str) -> str:
    """Return the file that `url` means: itself, or the one in a run's or a checkpoint's folder."""
    return url if url.endswith(".safetensors") else f"{url.rstrip('/')}/model.safetensors"


def adapted_url(url: str) -> str:
    """Return the file that `url` means: itself, or the one in the folder of an adapted model."""
    return url if url.endswith(".safetensors") else f"{url.rstrip('/')}/adapted.safetensors"


def read_model(url: str) -> bytes:
    """Read the bytes of the model file `url`.

    Raises:
        UserError: when there is none, or it cannot be read.
    """
    try:
        return read_file(url)
    except MissingError as error:
        folder = url.removesuffix("/model.safetensors")
        if folder != url and exists(adapted_url(folder)):
            raise UserError(
                f"{folder} holds an adapted model; give the one that it came from."
            ) from error
        raise UserError(
            f"there is no model at {url}; give the folder of a finished run or of a "
            f"checkpoint, or a file that metatrain wrote."
        ) from error


def save_adapted(model: Model, url: str, adapted_from: str) -> bool:
    """Write an adapted model, as what adaptation changed where that saves room.

    Args:
        model: the adapted model.
        url: the file to write.
        adapted_from: the file or folder of the model that it was adapted from.

    Returns:
        Whether the file needs the other one, which it refers to. It never does unless both are
        paths.

    Raises:
        UserError: when it cannot be written.
    """
    data = _changes(model, url, adapted_from)
    write_file(url, data or model.to_bytes())
    return data is not None


def _changes(model: Model, url: str, adapted_from: str) -> bytes | None:
    """Return the bytes of a file of changes; None where there is none."""
    path = path_between(url, model_url(adapted_from))
    if path is None:
        return None
    start = load_model(adapted_from, trust=model.trusted)
    _, parameters = rescoped(start.config, start.parameters, model.config.inner.scope.name)
    changed = changes(model.to("cpu").parameters, parameters)
    if changed is None:
        return None
    return replace(model, parameters=changed).to_bytes(Reference(path, start.sha256))

"""Model files: read, and written beside the model that an adaptation began with."""

from dataclasses import replace

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.generators.frozen import keep_inside
from metatrain.model.format import Contents, check_state, decode
from metatrain.model.model import Model
from metatrain.model.named import named_model, named_models
from metatrain.model.places import model_url, read_model
from metatrain.model.reference import Reference, changes, path_between
from metatrain.model.rescope import rescoped
from metatrain.model.trust import refuse_places
from metatrain.storage.files import MissingError, read_file, write_file


def load_model(url: str, adapted_from: str | None = None, *, trust: bool = False) -> Model:
    """Read a model file, or that of the folder of a finished run, a checkpoint or an adaptation.

    Args:
        url: the file or folder, or a name; see `metatrain.model.named`.
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
    contents, reference = decode(data, url)
    if reference is not None:
        start = _start_of(url, reference, adapted_from, trust)
        scope = contents["config"].inner.scope.name
        _, parameters = rescoped(start.config, start.parameters, scope)
        contents["parameters"] = parameters | contents["parameters"]
        contents["frozen"] = {**start.frozen, **contents["frozen"]}
    return _model(contents, url, trust)


def _model(contents: Contents, url: str, trust: bool) -> Model:
    keep_inside(contents["frozen"])
    if not trust:
        config = contents["config"]
        refuse_places(config.generator, config.objective, config.codec, config.inner)
    check_state(contents, url)
    return Model(**contents, trusted=trust)


def _start_of(url: str, reference: Reference, adapted_from: str | None, trust: bool) -> Model:
    """Read the model that the one in `url` was adapted from."""
    needs = f"{url} holds what adaptation changed of another model"
    place = model_url(adapted_from) if adapted_from else _place_of(reference, url, needs)
    try:
        data = read_file(place)
    except MissingError as error:
        raise UserError(f"{needs}, which is not at {place}; name the file it is in.") from error
    contents, _ = decode(data, place)
    model = _model(contents, place, trust)
    if model.sha256 != reference.sha256:
        raise UserError(f"{needs} than that in {place}; name the file it is in.")
    return model


def _place_of(reference: Reference, url: str, needs: str) -> str:
    """Return where the file `url` says that its origin is, as far as that is believed."""
    if reference.named:
        if model := named_models().get(reference.path):
            return model.file
        raise UserError(
            f"{needs}, {printable(reference.path)}, which is not known here by that name; name the "
            f"file it is in."
        )
    if "://" in url:
        raise UserError(f"{needs}, and a path out of a file elsewhere is not followed; name it.")
    return model_url(reference.url_from(url))


def save_adapted(model: Model, url: str, adapted_from: str) -> bool:
    """Write an adapted model, as what adaptation changed where that saves room.

    Args:
        model: the adapted model.
        url: the file to write.
        adapted_from: the file, folder or name of the model that it was adapted from.

    Returns:
        Whether the file needs the other one, which it refers to. It never does unless both are
        paths, or the other one has a name.

    Raises:
        UserError: when it cannot be written.
    """
    data = _changes(model, url, adapted_from)
    write_file(url, data or model.to_bytes())
    return data is not None


def _changes(model: Model, url: str, adapted_from: str) -> bytes | None:
    """Return the bytes of a file of changes; None where there is none."""
    model_named = named_model(adapted_from)
    path = model_named.name if model_named else path_between(url, model_url(adapted_from))
    if path is None:
        return None
    start = load_model(adapted_from, trust=model.trusted)
    _, parameters = rescoped(start.config, start.parameters, model.config.inner.scope.name)
    changed = changes(model.to("cpu").parameters, parameters)
    if changed is None:
        return None
    reference = Reference(path, start.sha256, named=model_named is not None)
    return replace(model, parameters=changed, frozen={}).to_bytes(reference)

"""A folder of simulated images, refined file by file, with the annotations beside them."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.progress import say, tracked
from metatrain.base.text import counted, listed, printable
from metatrain.data.examples import Examples
from metatrain.data.images import BadImage
from metatrain.data.packing.containers import open_container
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.names import is_image_name, is_passed_over
from metatrain.data.photo import Photo, read_photo, written_name
from metatrain.model.model import Model
from metatrain.model.refine import (
    chosen_order,
    domain_support,
    refining_network,
    simulated_count,
)
from metatrain.model.support import Images, as_support
from metatrain.storage.files import MissingError, absolute, read_file, sizes_under, write_file

# Words of the record's keys, where those do not explain themselves.
_WORDS = {"support": "choice of images"}
# The file that tells one refinement from another; hidden, as no file is that is copied.
RECORD = ".refinement.json"


@dataclass
class Refinement:
    """Counts of the files in a folder of refined images.

    Attributes:
        images: refined images.
        others: files that were copied.
        passed_over: files of the source that cannot be used.
    """

    images: int = 0
    others: int = 0
    passed_over: int = 0

    @override
    def __str__(self) -> str:
        text = f"{counted(self.images, 'image')} refined, {counted(self.others, 'file')} copied"
        return text + (f", {self.passed_over:,} passed over" if self.passed_over else "")


def refine_folder(
    model: Model,
    simulated: str,
    out: str,
    *,
    like: Images,
    keep: Sequence[str] = (),
    steps: int | None = None,
    lr: float | None = None,
    seed: int = 0,
) -> Refinement:
    """Adapt `model` to a domain, and refine every image of a folder or an archive.

    Files keep their names, and files that are no images are copied as they are. What is there
    already is not made again, so that an interrupted call resumes.

    Args:
        model: trained to refine.
        simulated: a folder or an archive at a path or any fsspec URL.
        out: the folder to write.
        like: unlabelled images of the domain, as `Model.adapt` takes them.
        keep: patterns such as ``masks/*`` of images that are copied as they are, as labels are.
        steps: see `Model.refine`.
        lr: see `Model.refine`.
        seed: see `Model.refine`.

    Raises:
        UserError: when there is no image, the folder has another refinement, or a storage fails.
        KeyboardInterrupt: with a sentence on what is done.
    """
    refining_network(model.generator())
    _refuse_inside(out, simulated)
    files = open_container(simulated)
    names = [name for name in sorted(files.sizes) if not is_passed_over(name)]
    refined = [name for name in names if _is_image(name) and not _matches(name, keep)]
    images = {name: written_name(name) for name in refined}
    targets = {name: images.get(name, name) for name in names}
    _refuse_same_names(targets)
    if not images:
        raise UserError(f"{printable(simulated)} holds no images; name the folder that does.")
    support = _support(model, like, files, list(images), seed)
    present = {name for name, size in sizes_under(out).items() if size}
    record = _record(model, support) | {"steps": steps, "lr": lr, "seed": seed}
    _begin(out, record, present & set(targets.values()))
    missing = [name for name in names if targets[name] not in present]
    there = Counter(name in images for name in names if targets[name] in present)
    result = Refinement(there[True], there[False])
    if missing and steps != 0:
        model = model.adapt(support, steps=steps, lr=lr, seed=seed)
    try:
        for name in tracked("refining", missing, len(missing)):
            url = f"{out.rstrip('/')}/{targets[name]}"
            _write(model, files, name, url, result, is_image=name in images)
    except KeyboardInterrupt as interrupt:
        done = result.images + result.others
        interrupt.args = (f"{done:,} of {len(names):,} files are there; the same again resumes",)
        raise
    return result


def _write(
    model: Model, files: Container, name: str, url: str, result: Refinement, *, is_image: bool
) -> None:
    try:
        data = files.read(name)
        if is_image:
            data = model.refine([_photo(data, name)])[0].encoded()
    except BadImage as error:
        say(f"passed over {files.place_of(name)}: {error}")
        result.passed_over += 1
        return
    write_file(url, data)
    result.images += is_image
    result.others += not is_image


def _photo(data: bytes, name: str) -> Photo:
    photo = read_photo(data)
    return photo if written_name(name) == name else replace(photo, format="PNG")


def _is_image(name: str) -> bool:
    """Tell whether a file is an image; one without an ending is rather an annotation."""
    return is_image_name(name) and PurePosixPath(name).suffix != ""


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _support(model: Model, like: Images, files: Container, names: list[str], seed: int) -> Examples:
    """Put images of the folder beside those of the domain; some of a large folder."""
    data = model.config.data
    real = as_support(like, data)
    wanted, simulated = simulated_count(real, data), list[Tensor]()
    for number in chosen_order(len(names), seed):
        with suppress(BadImage):  # they are passed over in their turn
            # One at a time, since a photograph may be a thousand times as large as it is here.
            photo = read_photo(files.read(names[number]))
            simulated.append(as_support([photo.image], data).target)
        if len(simulated) == wanted:
            break
    return domain_support(real, simulated, data)


def _record(model: Model, support: Examples) -> dict[str, Any]:
    digest = hashlib.sha256()
    for values in (support.target, *support.given.values()):
        assert isinstance(values, Tensor)
        digest.update(values.cpu().numpy().tobytes())
    return {"model": model.sha256, "support": digest.hexdigest()}


def _begin(out: str, record: Mapping[str, Any], present: Collection[str]) -> None:
    """Write the record of the refinement in its folder.

    Args:
        out: the folder.
        record: the model, its support and the settings.
        present: files that are there under the names of those to be written.

    Raises:
        UserError: when something else made them, or another refinement was begun there.
    """
    url = f"{out.rstrip('/')}/{RECORD}"
    earlier = _record_at(url)
    if earlier is None and present:
        raise UserError(
            f"{printable(out)} has {printable(min(present))}, which no refinement made; choose "
            f"another folder."
        )
    if earlier is None:
        write_file(url, json.dumps(record, indent=1).encode())
    elif earlier != record:
        differ = [key for key, value in record.items() if earlier.get(key) != value] or ["record"]
        raise UserError(
            f"{printable(out)} has images of another refinement, with another "
            f"{listed(_WORDS.get(key, key) for key in differ)}; choose another folder."
        )


def _record_at(url: str) -> dict[str, Any] | None:
    """Read the record of a refinement; None where there is none, {} where it is none of ours."""
    try:
        record = json.loads(read_file(url))
    except MissingError:
        return None
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _refuse_inside(out: str, simulated: str) -> None:
    inner, outer = (absolute(url).rstrip("/") for url in (out, simulated))
    if f"{inner}/".startswith(f"{outer}/"):
        raise UserError(
            f"{printable(out)} lies in the folder of simulated images, and would be refined too; "
            f"choose a folder outside."
        )


def _refuse_same_names(targets: Mapping[str, str]) -> None:
    counts = Counter(targets.values())
    if twice := [name for name, count in counts.items() if count > 1]:
        names = [name for name, target in targets.items() if target == twice[0]]
        raise UserError(
            f"{listed(names)} would be one file, {printable(twice[0])}; rename all but one."
        )

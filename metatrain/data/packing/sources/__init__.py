"""Kinds of sources of images. A further one is one file here, and one line below."""

import posixpath
from collections import Counter
from pathlib import PurePosixPath

from metatrain.base.errors import UserError
from metatrain.data.packing.built_in import BUILT_IN, open_built_in
from metatrain.data.packing.containers import ARCHIVES, open_container
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.containers.folder import Folder
from metatrain.data.packing.names import is_passed_over
from metatrain.data.packing.raw_images import Source
from metatrain.data.packing.sources.assembly import source_of
from metatrain.data.packing.sources.examples import Examples, open_examples
from metatrain.data.packing.sources.folders import Folders
from metatrain.data.packing.sources.fonts import Fonts
from metatrain.data.packing.sources.image_folder import ImageFolder
from metatrain.data.packing.sources.kind import Kind
from metatrain.data.packing.sources.listing import Options
from metatrain.data.packing.sources.medical import MedicalFolder
from metatrain.data.packing.sources.npz import Npz
from metatrain.data.packing.sources.parquet import Parquet
from metatrain.data.packing.sources.photos import list_photos
from metatrain.data.packing.sources.tables import Tables
from metatrain.data.packing.sources.web_dataset import WebDataset

# The first that recognises a source reads it.
KINDS: tuple[Kind, ...] = (
    Tables(),
    Npz(),
    Parquet(),
    ImageFolder(),
    WebDataset(),
    Fonts(),
    MedicalFolder(),
    Folders(),
)


def open_source(source: str | Examples, options: Options) -> Source:
    """List the images of a source.

    Args:
        source: as in `metatrain.data.packing.pack.pack`.
        options: the user's word on how to read it.

    Raises:
        UserError: when the source cannot be reached, is of no known kind, or has no task.
    """
    if not isinstance(source, str):
        return open_examples(source, options)
    if options.photos:
        return source_of(list_photos(open_container(source)), source, options)
    if options.variant or source in BUILT_IN:
        return open_built_in(source, options.size, options.variant)
    files = _file(source) if is_single_file(source) else open_container(source)
    kind = next((kind for kind in KINDS if kind.recognises(files)), None)
    if kind is None:
        raise UserError(f"no task found in {source}, which {_content(files)}. {_readable()}")
    return source_of(kind.listing(files, options), source, options)


def is_single_file(source: str) -> bool:
    """Tell whether `source` names a file that is a source by itself, rather than a folder."""
    return source.lower().endswith(tuple(ending for kind in KINDS for ending in kind.endings))


def _file(source: str) -> Container:
    """Return the folder of a file, with that file alone."""
    name = posixpath.basename(source)
    return Folder(source.removesuffix(name) or ".", [name])


def _content(files: Container) -> str:
    if not files.sizes:
        return "is empty"
    if set(files.sizes) == {""}:
        return "is a file of no kind that pack reads"
    endings = Counter(
        PurePosixPath(n).suffix or "no ending" for n in files.sizes if not is_passed_over(n)
    )
    listed = ", ".join(f"{count:,} of {ending}" for ending, count in endings.most_common(3))
    return f"holds no image but {listed or 'hidden files'}"


def _readable() -> str:
    kinds = "; ".join(kind.description for kind in reversed(KINDS))
    return f"What pack reads: {kinds}; and {', '.join(ARCHIVES)} of these."

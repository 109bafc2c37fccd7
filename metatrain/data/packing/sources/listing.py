"""A listing of a source, and the user's word on how to read it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from metatrain.data.images import BadValue
from metatrain.data.medical.nifti import SliceAxis

# The column of the modality of medical images.
MODALITY = "modality"


class ListedImage(NamedTuple):
    """An image that a source lists.

    Attributes:
        task: as the source spells it.
        name: tells the image from the others of the source.
        split: of its task, where the source gives one.
        metadata: of the same keys for every image of the source.
        read: reads the encoded image.
        stamp: anything JSON that changes with the image, such as its size in bytes.
        patient: the person it is of, as the source names them; never to be stored.
        issuer: who gave the person that name, such as a hospital; '' where it is not known.
    """

    task: str
    name: str
    split: str | None
    metadata: Mapping[str, str]
    read: Callable[[], bytes]
    stamp: Any = None
    patient: str = ""
    issuer: str = ""


@dataclass
class Listing:
    """The images of a source, in the order that they have within their tasks.

    Attributes:
        entries: the images.
        refused: files that are no candidates, and why.
        remarks: sentences on decisions that the user should know of.
        read_file: reads a further file of the source by the path that metadata give.
        conditions: columns that are packed as conditions unasked, and the kind of each.
    """

    entries: list[ListedImage] = field(default_factory=list)
    refused: list[tuple[str, BadValue]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    read_file: Callable[[str], bytes] | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """The user's word on how to read a source.

    Attributes:
        size: width and height of images that are rendered, in pixels.
        variant: a variant of a built-in source.
        task_depth: a task is a folder so many levels down; None finds it out.
        ignore_splits: whether the splits of the source count for nothing.
        path_column: the column of a table that has paths; None: path, or file_name.
        task_column: the column that has tasks; None: task, or label.
        root: the folder or archive that a table's paths start from; None: the table's own folder.
        photos: whether every image is a task of its own.
        conditions: the columns that are wanted as conditions, which may lie in files beside images.
        patient_column: the column that names patients; None: patient, or patient_id.
        patient_salt: the file of the secret of their pseudonyms; None: the user's own.
        slice_axis: the direction in which slices of volumes are stacked.
        windowed: whether values of medical images are clipped to their file's window.
    """

    size: int | None = None
    variant: str | None = None
    task_depth: int | None = None
    ignore_splits: bool = False
    path_column: str | None = None
    task_column: str | None = None
    root: str | None = None
    photos: bool = False
    conditions: tuple[str, ...] = ()
    patient_column: str | None = None
    patient_salt: str | None = None
    slice_axis: SliceAxis = "axial"
    windowed: bool = True

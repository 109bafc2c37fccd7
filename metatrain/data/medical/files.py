"""Files of medical images: what they hold, and one of their slices as a plain image file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from threading import Lock

from metatrain.data.medical.dicom import is_dicom, read_header
from metatrain.data.medical.frame import read_frame
from metatrain.data.medical.nifti import (
    SliceAxis,
    Volume,
    is_nifti_name,
    read_shape,
    read_volume,
)

_DICOM = (".dcm", ".dicom", ".dic", ".ima")


@dataclass(frozen=True)
class MedicalFile:
    """A file of medical images, before any is decoded.

    Attributes:
        patient: the patient that it names, which must not be stored; '' where it names none.
        issuer: who gave the patient that name, such as a hospital; '' where it is not known.
        modality: such as CT; '' where it is not known.
        text: why its pixels may show text; '' where they should not.
        count: the number of its slices, or frames.
        slice_of: decodes one, by its index; of a NIfTI volume, one of a single value is refused.
    """

    patient: str
    issuer: str
    modality: str
    text: str
    count: int
    slice_of: Callable[[int], bytes]


def is_medical_name(name: str) -> bool:
    """Tell by its name whether a file is DICOM or NIfTI."""
    return name.lower().endswith(_DICOM) or is_nifti_name(name)


def may_be_dicom(name: str) -> bool:
    """Tell whether a file may be DICOM: many have no ending, or the last number of a UID."""
    ending = PurePosixPath(name).suffix.lower()
    return ending in _DICOM or not ending.removeprefix(".") or ending[1:].isdigit()


def open_medical(
    read: Callable[[], bytes], name: str, axis: SliceAxis, windowed: bool
) -> MedicalFile | None:
    """Read what a file holds, whose slices are read from it later; None for any other file.

    Args:
        read: reads the file.
        name: of the file.
        axis: the direction in which slices of a NIfTI volume are stacked.
        windowed: whether values are clipped to the file's window.

    Raises:
        BadImage: when it is damaged, or too large.
        UserError: when its package is not installed.
    """
    data = read()
    if is_nifti_name(name):
        volume = _Latest(lambda: read_volume(read()))
        decode = partial(_volume_slice, volume, axis=axis, windowed=windowed)
        return MedicalFile("", "", "", "", read_shape(data, axis), decode)
    if not is_dicom(data):
        return None
    header = read_header(data)
    decode = partial(_dicom_slice, read, windowed=windowed)
    return MedicalFile(
        header.patient, header.issuer, header.modality, header.text, header.frames, decode
    )


def middle_slice(data: bytes, name: str) -> bytes:
    """Return the middle frame or axial slice of a medical file, and any other file as it is.

    Raises:
        BadImage: when it is damaged, or too large.
        UserError: when its package is not installed.
    """
    medical = None
    if is_nifti_name(name) or is_dicom(data):
        medical = open_medical(lambda: data, name, "axial", True)
    return medical.slice_of(medical.count // 2) if medical else data


def _dicom_slice(read: Callable[[], bytes], index: int, *, windowed: bool) -> bytes:
    return read_frame(read(), index, windowed=windowed)


def _volume_slice(volume: "_Latest", index: int, *, axis: SliceAxis, windowed: bool) -> bytes:
    return volume.get().slice_file(index, axis, windowed)


class _Latest:
    """A volume that is read when its first slice is, and kept until another one is read."""

    _lock = Lock()
    _kept: "tuple[_Latest, Volume] | None" = None

    def __init__(self, read: Callable[[], Volume]) -> None:
        self._read = read

    def get(self) -> Volume:
        """Return the volume."""
        with _Latest._lock:  # so that sixteen threads do not read it sixteen times
            if _Latest._kept is None or _Latest._kept[0] is not self:
                _Latest._kept = None
                _Latest._kept = (self, self._read())
            return _Latest._kept[1]

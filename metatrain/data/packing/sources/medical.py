"""DICOM and NIfTI files: a task is a patient, and a file's frames or slices are its images."""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.base.text import counted, printable
from metatrain.data.images import BadImage, BadValue
from metatrain.data.medical.dicom import is_dicom
from metatrain.data.medical.files import MedicalFile, is_medical_name, may_be_dicom, open_medical
from metatrain.data.medical.nifti import is_nifti_name
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.names import is_image_name, is_passed_over, split_named
from metatrain.data.packing.sources.folders import folders_of, layout_of
from metatrain.data.packing.sources.listing import MODALITY, ListedImage, Listing, Options

_DIRECTORY = "dicomdir"
_BIDS_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[/_])")
# Files that are opened to find out whether any is DICOM.
_PEEKED = 4
_NEITHER, _NO_PATIENT = "neither DICOM nor NIfTI", "names no patient"


class MedicalFolder:
    """DICOM and NIfTI files, in any folders."""

    description = "a folder or archive of DICOM or NIfTI files, where a task is a patient"
    endings = (".dcm", ".nii", ".nii.gz")

    def recognises(self, files: Container) -> bool:
        """Tell whether most files are such by their names, or one of the first without endings."""
        names = [name for name in sorted(files.sizes) if not is_passed_over(name)]
        if any(posixpath.basename(name).lower() == _DIRECTORY for name in names):
            return True
        pictures = sum(is_image_name(name) and not may_be_dicom(name) for name in names)
        if sum(is_medical_name(name) for name in names) > pictures:
            return True
        bare = [name for name in names if may_be_dicom(name) and not is_medical_name(name)]
        return len(bare) > pictures and any(_begins_as_dicom(files, n) for n in bare[:_PEEKED])

    def listing(self, files: Container, options: Options) -> Listing:
        """List the slices of all files, each with its patient.

        Raises:
            UserError: when no file has a patient, or a package is not installed.
        """
        result = Listing(refused=list(files.refused), read_file=files.read)
        names = [name for name in sorted(files.sizes) if not is_passed_over(name)]
        names = [name for name in names if posixpath.basename(name).lower() != _DIRECTORY]
        candidates = [name for name in names if _is_candidate(name)]
        layout = _Layout(files, candidates, options.task_depth)
        for name in names:
            if _is_candidate(name):
                read, stamp = partial(files.read, name), files.sizes[name]
                split, subject = layout.split_of(name), layout.subject_of(name)
                entry = ListedImage("", name, split, {}, read, stamp, subject)
                result.entries.append(entry)
            else:
                result.refused.append((name, BadImage(_NEITHER)))
        result = with_slices(result, options)
        nameless = [entry for entry in result.entries if not entry.patient]
        result.refused += [(entry.name, BadImage(_NO_PATIENT)) for entry in nameless]
        result.entries = [entry for entry in result.entries if entry.patient]
        if not result.entries:
            name, error = result.refused[0]
            raise UserError(
                f"no patient found in {files.url} ({printable(name)}: {error}); give DICOM files "
                f"with a PatientID, NIfTI files, or a table with the columns path and patient."
            )
        return result


def with_slices(listing: Listing, options: Options) -> Listing:
    """List the slices of medical files in place of the files, and leave all other files.

    Raises:
        UserError: when a package is not installed.
    """
    if not any(_is_candidate(entry.name) for entry in listing.entries):
        return listing
    result = replace(listing, entries=[], refused=[*listing.refused], remarks=[*listing.remarks])
    texts: dict[str, list[str]] = {}
    modalities: list[str] = []
    for entry in tracked("reading headers", listing.entries, len(listing.entries)):
        try:
            medical = _opened(entry, options)
        except BadValue as error:
            result.refused.append((entry.name, error))
            continue
        slices = _slices(entry, medical) if medical else [entry]
        result.entries += slices
        modalities += [medical.modality if medical else ""] * len(slices)
        if medical and medical.text:
            texts.setdefault(medical.text, []).append(entry.name)
    if any(modalities):
        result.entries = [
            entry._replace(metadata={MODALITY: modality, **entry.metadata})
            for entry, modality in zip(result.entries, modalities, strict=True)
        ]
    result.remarks += [_warning(names, text) for text, names in texts.items()]
    return result


def _opened(entry: ListedImage, options: Options) -> MedicalFile | None:
    if not _is_candidate(entry.name):
        return None
    medical = open_medical(
        entry.read, entry.name, axis=options.slice_axis, windowed=options.windowed
    )
    if medical is None and is_medical_name(entry.name):
        raise BadImage(_NEITHER)
    return medical


def _is_candidate(name: str) -> bool:
    return is_nifti_name(name) or may_be_dicom(name)


def _slices(entry: ListedImage, medical: MedicalFile) -> list[ListedImage]:
    slices = []
    patient = entry.patient or medical.patient
    for index in range(medical.count):
        name = entry.name if medical.count == 1 else f"{entry.name}, slice {index}"
        read = partial(medical.slice_of, index)
        whose = {"patient": patient, "issuer": medical.issuer}
        slices.append(entry._replace(name=name, read=read, **whose))
    return slices


def _warning(names: Sequence[str], text: str) -> str:
    return (
        f"{counted(len(names), 'file')} {text}, such as '{printable(names[0])}'; look at the "
        f"pictures, for names and dates in them stay in the data set"
    )


def _begins_as_dicom(files: Container, name: str) -> bool:
    try:
        with files.open(name) as stream:
            return is_dicom(stream.read(132))
    except (BadValue, OSError):
        return False


class _Layout:
    """The meaning of folders: splits, where all at the top are, and subjects of volumes.

    Args:
        files: the source.
        names: of its files that may be medical.
        depth: a subject is a folder so many levels down; None finds it out.

    Raises:
        UserError: when folders of volumes have several meanings.
    """

    def __init__(self, files: Container, names: Sequence[str], depth: int | None) -> None:
        # What lies beside the folders of splits is a licence or a description.
        placed = [name for name in names if "/" in name or is_medical_name(name)]
        tops = {name.partition("/")[0] if "/" in name else "" for name in placed}
        splits = {top: split_named(top) for top in tops}
        self._splits = splits if all(splits.values()) else {}
        volumes = [name for name in names if is_nifti_name(name) and not _bids_subject(name)]
        self._folders = layout_of(map(folders_of, volumes), depth, files.url)
        self._several = len({self._folder(name) for name in volumes}) > 1

    def split_of(self, name: str) -> str | None:
        """Return the split of a file; None where the source has none."""
        return self._splits.get(name.partition("/")[0])

    def subject_of(self, name: str) -> str:
        """Return the subject of a volume: by BIDS, or its folder, or itself in a single folder."""
        if not is_nifti_name(name):
            return ""
        return _bids_subject(name) or (self._several and self._folder(name)) or name

    def _folder(self, name: str) -> str:
        return self._folders.task_of(folders_of(name)) or ""


def _bids_subject(name: str) -> str:
    subject = _BIDS_SUBJECT.search(name)
    return subject[1] if subject else ""

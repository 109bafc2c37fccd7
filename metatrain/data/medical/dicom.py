"""DICOM files of strangers: parsing the few tags that matter, within bounds.

No other tag is ever read, so none can reach a data set.
"""

import io
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.data.decoding.bad import CORRUPT, UNKNOWN, BadImage
from metatrain.data.decoding.opened import MAX_PIXELS
from metatrain.data.medical.plain import refusing

if TYPE_CHECKING:
    from pydicom import Dataset

MOST_FRAMES = 10_000
# A sequence's items are objects of some kB each, and a file needs a few for each frame.
_MOST_ITEMS = 200_000
_MOST_INFLATED = 512_000_000
_ITEMS = b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"  # of either byte order
# Each read of the parser makes an element of some 300 bytes: those of 10,000 frames are half.
_MOST_READS = 3_000_000
# Of a sequence that is parsed when it is asked for.
_MOST_SEQUENCE = 32_000_000
_UNDEFINED = 0xFFFFFFFF  # length
_META_GROUP, _META_LENGTH, _DEFLATED = 2, 0x00020000, "1.2.840.10008.1.2.1.99"
# Defined terms of DICOM PS3.3, C.7.3.1.1.1: any other text in the tag may name a person.
_MODALITIES = frozenset((
    "AR", "BI", "BMD", "CR", "CT", "DG", "DX", "ECG", "EM", "ES", "FS", "GM", "IO", "IVOCT", "IVUS",
    "KER", "LEN", "LS", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPV", "OSS", "OT",
    "PT", "PX", "RF", "RG", "RTIMAGE", "SC", "SEG", "SM", "TG", "US", "VA", "XA", "XC",
))  # fmt: skip
# Modalities and classes whose pictures show text more often than not.
_TEXT_LIKELY = frozenset(["US", "ES", "SC", "OT", "XC", "IVUS"])
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
HEADER_TAGS = [
    "SOPClassUID", "Modality", "PatientID", "IssuerOfPatientID", "BurnedInAnnotation", "Rows",
    "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation",
]  # fmt: skip

_LACKING = "DICOM needs pydicom, which is not installed; pip install 'metatrain[medicine]'."


@dataclass(frozen=True)
class DicomHeader:
    """Facts about a DICOM file.

    Attributes:
        patient: its PatientID, which must not be stored; '' without one.
        issuer: its IssuerOfPatientID, such as a hospital; '' without one.
        modality: a defined term, such as CT; '' for any other text.
        frames: the number of its frames.
        text: why its pixels may show text, which no tag can remove; '' where they should not.
    """

    patient: str
    issuer: str
    modality: str
    frames: int
    text: str


def is_dicom(data: bytes) -> bool:
    """Tell by its first bytes whether a file is DICOM."""
    return data[128:132] == b"DICM"


def read_header(data: bytes) -> DicomHeader:
    """Read the facts about a DICOM file.

    Raises:
        BadImage: when it is damaged, has no image, or one that is too large.
        UserError: when pydicom is not installed.
    """
    with reading():
        dataset = parsed(data, HEADER_TAGS, pixels=False)
        frames = checked_frames(dataset, len(data))
        modality = str(dataset.get("Modality") or "").strip().upper()
        return DicomHeader(
            patient=str(dataset.get("PatientID") or "").strip(),
            issuer=str(dataset.get("IssuerOfPatientID") or "").strip(),
            modality=modality if modality in _MODALITIES else "",
            frames=frames,
            text=_text_likely(dataset, modality),
        )


def checked_frames(dataset: "Dataset", size: int) -> int:
    """Return the number of frames, once the file can hold them.

    Raises:
        BadImage: when there is no image, or it is too large.
    """
    if not all(n in dataset for n in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")):
        raise BadImage("no image", "a report, a directory or a plan of treatment")
    pixels = int(dataset.Rows) * int(dataset.Columns)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if pixels > MAX_PIXELS:
        raise BadImage("huge", f"{dataset.Columns} x {dataset.Rows} pixels")
    if frames > MOST_FRAMES:
        raise BadImage("huge", f"{frames:,} frames")
    # Of two neighbours of YBR_FULL_422, the colours are stored once.
    halved = str(dataset.get("PhotometricInterpretation")) == "YBR_FULL_422"
    samples = 2 if halved else int(dataset.SamplesPerPixel)
    bits = pixels * samples * int(dataset.BitsAllocated)
    syntax = dataset.file_meta.TransferSyntaxUID
    # A frame that is compressed takes at least the header of its item.
    least = 8 if syntax.is_encapsulated else bits // 8
    room = _MOST_INFLATED if syntax == _DEFLATED else size
    if not pixels or frames < 1 or frames * least > room:
        raise BadImage(CORRUPT, f"{frames:,} frames of {bits // 8:,} bytes in {size:,}")
    return frames


def parsed(data: bytes, tags: list[str], pixels: bool) -> "Dataset":
    """Parse the tags that are named, and skip all others."""
    from pydicom import dcmread

    if not is_dicom(data):
        raise BadImage(UNKNOWN, "not DICOM")
    _check_items(data)
    _check_deflated(data)
    stream = _Bounded(data)
    dataset = dcmread(stream, stop_before_pixels=not pixels, specific_tags=list(tags))
    for name in tags:
        # Not yet parsed, which asking for it would do.
        length = getattr(dataset.get_item(name), "length", 0) if name.endswith("Sequence") else 0
        if _MOST_SEQUENCE < length < _UNDEFINED:
            raise BadImage("huge", f"a sequence of {length:,} bytes")
    return dataset


class _Bounded(io.BytesIO):
    """A file that may be read so many times: a few bytes of it become an element each."""

    _reads = 0

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > _MOST_READS:
            raise BadImage("huge", f"more than {_MOST_READS:,} elements")
        return super().read(size)


def _check_items(data: bytes) -> None:
    if sum(map(data.count, _ITEMS)) > _MOST_ITEMS:
        raise BadImage("huge", f"more than {_MOST_ITEMS:,} items")


def _check_deflated(data: bytes) -> None:
    """Refuse a file whose body, which is compressed as a whole, is a bomb."""
    from pydicom.filereader import read_dataset

    stream = _Bounded(data)
    stream.seek(132)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag.group != _META_GROUP)
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), _MOST_INFLATED + 1)
    if len(inflated) > _MOST_INFLATED:
        raise BadImage("huge", "unpacks to far more than images do")
    _check_items(inflated)
    # pydicom inflates it once more, into a file without bounds.
    read_dataset(_Bounded(inflated), False, True, specific_tags=[_META_LENGTH])


def _text_likely(dataset: "Dataset", modality: str) -> str:
    burned = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if burned == "YES":
        return "says that its pixels show text (BurnedInAnnotation)"
    captured = str(dataset.get("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE)
    if burned != "NO" and (modality in _TEXT_LIKELY or captured):
        return "does not say that its pixels show no text, as such pictures often do"
    return ""


@contextmanager
def reading() -> Iterator[None]:
    """Turn whatever parsing and decoding raise into a reason, which quotes nothing of the file."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise UserError(_LACKING) from error
    # Its messages quote values, which may name a patient.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with refusing():
        try:
            yield
        except Exception as error:
            texts = "plugins", "no available"
            unread = any(text in str(error).lower() for text in texts)
            if unread or isinstance(error, NotImplementedError):
                raise BadImage(UNKNOWN, "a compression that no installed decoder reads") from error
            raise

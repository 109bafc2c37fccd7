"""Medical images become what a viewer shows, and hostile ones one sentence each."""

import gzip
import io
import math
import struct
import sys
import zlib

import gdcm
import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medical_files import dicom, dicom_dataset, encoded, nifti
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from metatrain.base.errors import UserError
from metatrain.config import DataConfig
from metatrain.data.decoding.bad import BadImage
from metatrain.data.images import NormalisedImage, normalise, open_packed
from metatrain.data.medical import dicom as medical_dicom
from metatrain.data.medical import nifti as medical_nifti
from metatrain.data.medical.codestream import size_of
from metatrain.data.medical.dicom import read_header
from metatrain.data.medical.files import middle_slice
from metatrain.data.medical.frame import read_frame
from metatrain.data.medical.nifti import read_shape, read_volume
from metatrain.data.task_levels import levels_of
from metatrain.model.support import as_support

RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


def shown(file: bytes) -> np.ndarray:
    """Decode a plain image file as packing does."""
    image: NormalisedImage = normalise(file, levels=levels_of([lambda: file]))
    return np.asarray(open_packed(image.data))


def values_of(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


def test_values_of_16_bits_are_all_kept_and_rescaled():
    pixels = np.arange(-32768, 32768, 64, dtype=np.int16).reshape(32, 32)
    file = read_frame(dicom(pixels, RescaleSlope="2", RescaleIntercept="-1024"))
    assert (values_of(file) == pixels.astype(np.float32) * 2 - 1024).all()


def test_a_window_is_what_a_viewer_shows_and_not_where_a_range_is_given():
    file = dicom(RAMP, RescaleSlope="1", RescaleIntercept="-1024", WindowCenter="40",
                 WindowWidth="401")  # fmt: skip
    seen = shown(read_frame(file))
    hounsfield = RAMP.astype(float) - 1024
    # DICOM PS3.3 C.11.2.1.2: the linear function, from -160.5 to 239.5.
    expected = ((hounsfield + 160.5) / 400 * 255).clip(0, 255).round()
    assert (seen == expected).all()
    assert values_of(read_frame(file, windowed=False)).min() == -1024


@pytest.mark.parametrize("window", [("nan", "10"), ("40", "0"), ("1", "-5")], ids=str)
def test_a_window_of_no_meaning_is_ignored(window):
    file = dicom(RAMP, WindowCenter=window[0], WindowWidth=window[1])
    assert (values_of(read_frame(file)) == RAMP).all()


@pytest.mark.parametrize("windowed", [True, False])
def test_monochrome1_is_the_negative(windowed):
    tags = {"WindowCenter": "2048", "WindowWidth": "4096", "VOILUTFunction": "LINEAR_EXACT"}
    tags |= {"BitsStored": 12, "HighBit": 11}
    plain = read_frame(dicom(RAMP, **tags), windowed=windowed)
    negative = read_frame(
        dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **tags), windowed=windowed
    )
    highest = 4096 if windowed else 4095
    assert (values_of(negative) == highest - values_of(plain)).all()


def test_monochrome1_of_8_bits_stays_8_bits():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    file = read_frame(dicom(pixels, PhotometricInterpretation="MONOCHROME1"))
    assert file.startswith(b"\x89PNG")
    assert (shown(file) == 255 - pixels).all()


@settings(max_examples=30)
@given(st.integers(2, 16), st.booleans(), st.integers(0, 10**6))
def test_bits_beside_the_stored_ones_are_no_part_of_the_image(bits, signed, seed):
    generator = np.random.default_rng(seed)
    low = -(2 ** (bits - 1)) if signed else 0
    values = generator.integers(low, low + 2**bits, (4, 5))
    overlay = generator.integers(0, 2 ** (16 - bits), (4, 5)) << bits
    stored = ((values & (2**bits - 1)) | overlay).astype(np.uint16)
    file = dicom(
        stored, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(signed),
        RescaleSlope="1", RescaleIntercept="1",
    )  # fmt: skip
    assert (values_of(read_frame(file)) == values + 1).all()


def test_each_frame_has_its_own_values():
    frames = np.stack([RAMP, RAMP.T, RAMP[::-1]])
    file = dicom(frames)
    assert read_header(file).frames == 3
    for index, frame in enumerate(frames):
        assert (values_of(read_frame(file, index)) == frame).all()
    assert (values_of(middle_slice(file, "scan")) == RAMP.T).all()


def test_colours_and_palettes():
    colours = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    assert (shown(read_frame(dicom(colours))) == colours).all()
    dataset = dicom_dataset(np.arange(64, dtype=np.uint8).reshape(8, 8))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for index, name in enumerate(("Red", "Green", "Blue")):
        table = (np.arange(256, dtype=np.uint16) * 257)[:: (-1) ** index]
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{name}PaletteColorLookupTableData", table.tobytes())
    seen = shown(read_frame(encoded(dataset)))
    assert seen[0, 5].tolist() == [5, 250, 5]


def _by_gdcm(data: bytes, syntax: str, tmp_path) -> bytes:
    """Compress by GDCM, which is not what made the values."""
    plain, packed = tmp_path / "plain.dcm", tmp_path / "packed.dcm"
    plain.write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(packed))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return packed.read_bytes()


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("JPEGLosslessProcess14_1", JPEGLosslessSV1),
        ("JPEGLSLossless", JPEGLSLossless),
        ("JPEG2000Lossless", JPEG2000Lossless),
        ("RLELossless", RLELossless),
    ],
)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_compressed_frames_are_as_they_were(name, uid, bits, tmp_path):
    pixels = np.random.default_rng(bits).integers(0, 2**bits, (20, 24))
    pixels = pixels.astype(np.uint8 if bits == 8 else np.uint16)
    plain = dicom(pixels, BitsStored=bits, HighBit=bits - 1)
    packed = _by_gdcm(plain, name, tmp_path)
    assert str(uid).encode() in packed
    assert (values_of(read_frame(packed)) == pixels).all()


def _jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), 100).save(buffer, "JPEG")
    return buffer.getvalue()


def _with_jpeg(frame: bytes, rows: int, columns: int) -> bytes:
    dataset = dicom_dataset(np.zeros((rows, columns), np.uint8))
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return encoded(dataset)


def test_a_deflated_file_is_read_that_is_smaller_than_its_pixels():
    dataset = dicom_dataset(np.full((64, 64), 77, np.uint16))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = encoded(dataset)
    assert len(file) < 64 * 64 and read_header(file).frames == 1
    assert (values_of(read_frame(file)) == 77).all()


def test_colours_that_two_neighbours_share_are_no_damage():
    grey = dicom_dataset(np.zeros((4, 4, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422")
    grey.PixelData = bytes([90, 90, 128, 128] * 8)
    assert (shown(read_frame(encoded(grey))) == 90).all()


def test_a_jpeg_is_read():
    assert abs(shown(read_frame(_with_jpeg(_jpeg(24, 16), 16, 24))).mean() - 100) < 1


def _deflated_bomb() -> bytes:
    plain = dicom(RAMP)
    body = plain.index(struct.pack("<HH", 8, 0x16))
    head = plain[:body].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    length = struct.unpack_from("<I", head, 140)[0] + 2
    at = head.index(b"1.2.840.10008.1.2.1.99")
    head = head[:140] + struct.pack("<I", length) + head[144 : at - 2] + b"\x16\0" + head[at:]
    squeezed = zlib.compressobj(wbits=-15)
    zeros = b"\0" * 1_000_000
    return head + b"".join(squeezed.compress(zeros) for _ in range(5)) + squeezed.flush()


HOSTILE = {
    "no frame of that size": (lambda: dicom(RAMP, Rows=40_000, Columns=40_000), "huge"),
    "frames without end": (lambda: dicom(RAMP, NumberOfFrames=2**31 - 1), "huge"),
    "more frames than bytes": (lambda: dicom(RAMP, NumberOfFrames=9), "corrupt"),
    "a frame larger than it says": (lambda: _with_jpeg(_jpeg(3000, 3000), 16, 16), "corrupt"),
    "a frame of nothing": (lambda: _with_jpeg(b"\xff\xd8", 16, 16), "corrupt"),
    "a file that ends": (lambda: dicom(RAMP)[:-100], "corrupt"),
    "no image": (lambda: b"\0" * 128 + b"DICM", "corrupt|no image"),
    "bits beyond the container": (lambda: dicom(RAMP, BitsStored=20), "corrupt"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_dicom_file_is_refused(name):
    make, reason = HOSTILE[name]
    with pytest.raises(BadImage, match=reason):
        read_frame(make())


def test_what_unpacks_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(medical_dicom, "_MOST_INFLATED", 1_000_000)
    monkeypatch.setattr(medical_nifti, "_MOST_BYTES", 1_000_000)
    with pytest.raises(BadImage, match="huge"):
        read_frame(_deflated_bomb())
    with pytest.raises(BadImage, match="huge"):
        read_volume(gzip.compress(b"\0" * 5_000_000))


def _with_items(syntax: str, count: int) -> bytes:
    dataset = dicom_dataset(RAMP)
    dataset.SharedFunctionalGroupsSequence = [Dataset() for _ in range(count)]
    for number, item in enumerate(dataset.SharedFunctionalGroupsSequence):
        item.StackID = str(number)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = RAMP.byteswap().tobytes()
    buffer = io.BytesIO()
    order = {"implicit_vr": False, "little_endian": syntax != ExplicitVRBigEndian}
    dcmwrite(buffer, dataset, enforce_file_format=True, **order)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=["little", "big", "deflated"],
)
@pytest.mark.parametrize("bound", ["_MOST_ITEMS", "_MOST_READS", "_MOST_SEQUENCE"])
def test_elements_without_end_are_refused(syntax, bound, monkeypatch):
    file = _with_items(syntax, 60)
    assert read_header(file).frames == 1
    assert (values_of(read_frame(file)) == RAMP).all()
    monkeypatch.setattr(medical_dicom, bound, 20)
    with pytest.raises(BadImage, match="huge"):
        read_frame(file)


@pytest.mark.parametrize("frame", [b"", b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"GIF89a"], ids=repr)
def test_a_codestream_without_a_header_is_refused(frame):
    with pytest.raises(BadImage, match="corrupt"):
        size_of(frame)


@settings(max_examples=40)
@given(st.data())
def test_mutated_files_are_read_or_refused(data):
    original = data.draw(st.sampled_from([dicom(RAMP), gzip.compress(nifti(VOLUME), mtime=0)]))
    places = st.tuples(st.integers(0, len(original) - 1), st.integers(0, 255))
    mutated = bytearray(original)
    for place, value in data.draw(st.lists(places, min_size=1, max_size=20)):
        mutated[place] = value
    name = "scan.nii.gz" if original.startswith(b"\x1f\x8b") else "scan.dcm"
    try:
        middle_slice(bytes(mutated), name)
    except BadImage as error:
        assert "\n" not in str(error)


VOLUME = np.random.default_rng(0).integers(0, 1000, (7, 6, 5)).astype(np.int16)


def oriented(orientation: str, values: np.ndarray = VOLUME) -> bytes:
    """Return a NIfTI file of the same body, stored along other axes."""
    image = nibabel.Nifti1Image(values, np.eye(4))
    wanted = nibabel.orientations.axcodes2ornt(tuple(orientation))
    return image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(np.eye(4)), wanted)
    ).to_bytes()


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_slices_are_the_same_however_a_volume_is_stored(orientation):
    data = gzip.compress(oriented(orientation))
    volume = read_volume(data)
    planes = {
        # Columns go to the patient's left or back, and rows to the back or the feet, as in DICOM.
        "axial": [VOLUME[::-1, ::-1, i].T for i in range(5)],
        "coronal": [VOLUME[::-1, i, ::-1].T for i in range(6)],
        "sagittal": [VOLUME[i, ::-1, ::-1].T for i in range(7)],
    }
    for axis, expected in planes.items():
        assert read_shape(data, axis) == volume.count(axis) == len(expected)
        for index, plane in enumerate(expected):
            assert (values_of(volume.slice_file(index, axis, windowed=False)) == plane).all()


def test_scaling_and_window_of_a_volume():
    image = nibabel.Nifti1Image(VOLUME, np.eye(4))
    image.header.set_slope_inter(2, -10)
    image.header["cal_min"], image.header["cal_max"] = 100, 300
    volume = read_volume(image.to_bytes())
    slope, intercept = image.header.get_slope_inter()
    values = VOLUME[::-1, ::-1, 2].T * (slope or 1) + (intercept or 0)
    assert (values_of(volume.slice_file(2, "axial", windowed=True)) == values.clip(100, 300)).all()


def test_air_is_refused():
    body = VOLUME.copy()
    body[:, :, 0] = 0
    with pytest.raises(BadImage, match="one value"):
        read_volume(nifti(body)).slice_file(0, "axial", windowed=True)


def _claiming(*dims: int) -> bytes:
    data = bytearray(nifti(VOLUME))
    struct.pack_into("<8h", data, 40, 3, *dims, 1, 1, 1, 1)
    return bytes(data)


@pytest.mark.parametrize("offset", [math.inf, -math.inf, math.nan], ids=str)
def test_values_that_begin_nowhere_are_refused(offset):
    data = bytearray(nifti(VOLUME))
    struct.pack_into("<f", data, 108, offset)
    with pytest.raises(BadImage, match="corrupt"):
        middle_slice(bytes(data), "scan.nii")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_claiming(32767, 32767, 32767), "huge"),
        (_claiming(9000, 9000, 1), "huge"),
        (_claiming(7, 6, 50), "corrupt"),
        (_claiming(-7, 6, 5), "unknown|corrupt"),
        (gzip.compress(nifti(VOLUME))[:40], "corrupt|unknown"),
        (b"n+1\0", "unknown"),
    ],
    ids=["bytes", "pixels", "short", "negative", "cut", "nothing"],
)
def test_a_hostile_volume_is_refused(data, reason):
    with pytest.raises(BadImage, match=reason):
        read_volume(data)


def test_a_model_adapts_to_medical_files_as_to_pictures(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(np.stack([RAMP * 0, RAMP, RAMP * 0])))
    (tmp_path / "IM1").write_bytes(dicom(RAMP))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(nifti(VOLUME.repeat(4, 0).repeat(4, 1))))
    config = DataConfig(path="", image_size=16, channels=1)
    support = as_support(tmp_path, config).target
    assert support.shape == (3, 1, 16, 16)
    assert (support[0] == support[1]).all(), "the middle frame"


@pytest.mark.parametrize(
    ("module", "file"),
    [("pydicom", dicom(RAMP)), ("nibabel.nifti1", nifti(VOLUME))],
    ids=["DICOM", "NIfTI"],
)
def test_who_lacks_the_extra_is_told_its_name(module, file, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'metatrain\[medicine\]'"):
        middle_slice(file, "scan.nii" if module.startswith("nibabel") else "scan.dcm")

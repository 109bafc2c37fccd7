"""DICOM and NIfTI files that tests make."""

import io
from typing import Any

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"


def dicom_dataset(pixels: np.ndarray, patient: str = "MRN-1", **tags: Any) -> Dataset:
    """Make a data set of pixels [H, W], [F, H, W] or [H, W, 3] of 8 or 16 bits."""
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CT
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Modality, dataset.PatientID, dataset.BurnedInAnnotation = "CT", patient, "NO"
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    if pixels.ndim == 3 and not colour:
        dataset.NumberOfFrames = len(pixels)
    bits = pixels.dtype.itemsize * 8
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def encoded(dataset: Dataset) -> bytes:
    """Return the bytes of a DICOM file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def dicom(pixels: np.ndarray, patient: str = "MRN-1", **tags: Any) -> bytes:
    """Return a DICOM file of pixels."""
    return encoded(dicom_dataset(pixels, patient, **tags))


def nifti(values: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    """Return a NIfTI-1 file of a volume."""
    return nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine).to_bytes()

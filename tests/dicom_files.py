"""Small DICOM files for tests."""

import io
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

FRAMES = Path(__file__).parent / "frames"
"""Compressed frames of 16 × 16 pixels, made with dcmtk 3.6.7 and imagecodecs 2026.3.6: 0, 273 … 4095 from
left to right, and -1000 to 1000 where the name says signed."""
NAME = "ZZYZX^PRUDENCE"


def dataset(pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **tags) -> Dataset:
    """A data set with patient tags; pixels are (h, w), (h, w, 3), (n, h, w) or (n, h, w, 3)."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    made.PatientName, made.PatientID, made.PatientBirthDate = NAME, NAME, "19330101"
    colour = pixels.shape[-1] == 3 and pixels.ndim > 2
    made.Rows, made.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    if pixels.ndim == (4 if colour else 3):
        made.NumberOfFrames = len(pixels)
    made.SamplesPerPixel = 3 if colour else 1
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    made.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    made["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def written(made: Dataset, *, preamble: bool = True) -> bytes:
    file = io.BytesIO()
    syntax = made.file_meta.TransferSyntaxUID
    if preamble:
        made.save_as(file, enforce_file_format=True)
    else:
        body = Dataset({element.tag: element for element in made})
        pydicom.dcmwrite(file, body, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return file.getvalue()


def compressed(frame: str | bytes, syntax: str, stored: int = 12, **tags) -> bytes:
    """A file around one of the ``FRAMES``, or around a frame of 16 × 16 pixels."""
    content = (FRAMES / frame).read_bytes() if isinstance(frame, str) else frame
    made = dataset(np.zeros((16, 16), np.uint16), BitsStored=stored, HighBit=stored - 1)
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.PixelData = encapsulate([content])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    if UID(syntax).is_transfer_syntax:
        return written(made)
    # pydicom does not write a syntax that it does not know, so one of the same length stands in for it.
    wanted = syntax.encode() + b"\0" * (len(syntax) % 2)
    stand_in = {22: b"1.2.840.10008.1.2.4.90", 24: b"1.2.840.10008.1.2.4.201\0"}[len(wanted)]
    made.file_meta.TransferSyntaxUID = UID(stand_in.rstrip(b"\0").decode())
    return written(made).replace(stand_in, wanted)

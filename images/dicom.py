"""DICOM through pydicom: one frame, as it is meant to be shown, and nothing else from the file.

Only the tags that say how pixels are stored and shown are parsed, so a patient's name is not even
read. ``dicom_pixels`` decodes; ``dicom_display`` says how stored values become grey or colour. Of several
frames the middle one, ``frames // 2``, is taken where none is chosen. Overlays, colour profiles and pixel
aspect ratios are not applied. A file without preamble is read if it begins like a data set and has pixels.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ..errors import ImageTooLarge, ImageUnreadable, ImageUnsupported
from .decoder_warnings import silence_loggers
from .dicom_display import TAGS, displayed
from .dicom_pixels import PIXEL_KEYWORDS, check_description, named, stored_values
from .grey import Window
from .headers import ReadBudgetBytesIO
from .limits import check_size
from .memory import DECODING, decoding_cost
from .rasters import chosen_frame, plain

if TYPE_CHECKING:
    from .limits import ImageLimits

silence_loggers()

_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    *PIXEL_KEYWORDS,
    *TAGS,
)


def read_dicom(
    data: bytes, *, limits: ImageLimits, frame: int | None = None, window: Window | None = None
) -> Image.Image:
    """Decode one frame of a DICOM file.

    Args:
        data: the whole file.
        limits: checked before a pixel is decoded.
        frame: counted from 0; by default the middle one.
        window: center and width, in the units of the rescaled values.

    Raises:
        ImageError: see ``read_image``. What pydicom raises beyond that is for the caller to translate.
    """
    dataset = _parsed(data, limits)
    width, height = _number(dataset, "Columns"), _number(dataset, "Rows")
    check_size(width, height, limits)
    if _number(dataset, "SamplesPerPixel") not in (1, 3):
        raise ImageUnsupported("only DICOM images of one or three samples per pixel are supported")
    frames = _frames(dataset, limits)
    index = chosen_frame(frame, frames, default=frames // 2)
    check_description(dataset)
    with DECODING.reserved(2 * decoding_cost(width, height)):
        stored, photometric = stored_values(dataset, index, most=limits.max_decoded_pixels)
        shown = Image.fromarray(displayed(dataset, index, stored, photometric, window))
        return plain(shown, most=limits.max_decoded_pixels)


def _parsed(data: bytes, limits: ImageLimits) -> FileDataset:
    conformant = data[128:132] == b"DICM"
    stream = ReadBudgetBytesIO(data)
    stream.seek(132 if conformant else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _check_inflated(stream.read(), limits)
    dataset = dcmread(ReadBudgetBytesIO(data), force=True, specific_tags=list(_TAGS))
    if not any(name in dataset for name in PIXEL_KEYWORDS):
        if conformant:
            raise ImageUnsupported("the DICOM file has no pixel data: it may be a report or a directory")
        raise ImageUnreadable("the file is not an image of a supported format")
    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _check_inflated(body: bytes, limits: ImageLimits) -> None:
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, limits.max_bytes + 1)) > limits.max_bytes:
        raise ImageTooLarge(f"the deflated DICOM file is larger than the limit of {limits.max_bytes} bytes")


def _number(dataset: Dataset, keyword: str) -> int:
    value = dataset.get(keyword)
    if not isinstance(value, int):
        raise ImageUnreadable(f"the DICOM header has no valid {named(keyword)}")
    return int(value)


def _frames(dataset: Dataset, limits: ImageLimits) -> int:
    frames = _number(dataset, "NumberOfFrames") if dataset.get("NumberOfFrames") else 1
    if frames < 1:
        raise ImageUnreadable(f"the DICOM header has no valid {named('NumberOfFrames')}")
    if frames > limits.max_frames:
        raise ImageTooLarge(f"the image has {frames} frames, the limit is {limits.max_frames}")
    return frames

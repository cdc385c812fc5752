"""DICOM through pydicom: one frame, as it is meant to be shown, and nothing else from the file.

Only the tags that say how pixels are stored and shown are parsed, so a patient's name is not even
read. ``dicom_display`` says how stored values become grey or colour. Of several frames the middle one,
``frames // 2``, is taken where none is chosen. Overlays, colour profiles and pixel aspect ratios are not
applied. A file without preamble is read if it begins like a data set and has pixels.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ..errors import ImageTooLarge, ImageUnreadable, ImageUnsupported
from .dicom_display import TAGS, displayed
from .grey import Window
from .headers import Metered, codestream_size, rle_lengths
from .limits import check_scans, check_size
from .memory import DECODING, decoding_cost
from .quiet import silence_loggers
from .rasters import chosen_frame, plain

if TYPE_CHECKING:
    from .limits import ImageLimits

silence_loggers()

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_TAGS = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", *_PIXELS, *TAGS,
)  # fmt: skip


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
        raise ImageUnsupported("only DICOM images of one or three samples per pixel are handled")
    frames = _frames(dataset, limits)
    index = chosen_frame(frame, frames, default=frames // 2)
    with DECODING.reserved(2 * decoding_cost(width, height)):
        stored, photometric = _decoded(dataset, index)
        shown = Image.fromarray(displayed(dataset, index, stored, photometric, window))
        return plain(shown, most=limits.max_decoded_pixels)


def _parsed(data: bytes, limits: ImageLimits) -> FileDataset:
    conformant = data[128:132] == b"DICM"
    stream = Metered(data)
    stream.seek(132 if conformant else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _check_inflated(stream.read(), limits)
    dataset = dcmread(Metered(data), force=True, specific_tags=list(_TAGS))
    if not any(name in dataset for name in _PIXELS):
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
        raise ImageUnreadable(f"the DICOM header has no valid {keyword}")
    return int(value)


def _frames(dataset: Dataset, limits: ImageLimits) -> int:
    frames = _number(dataset, "NumberOfFrames") if dataset.get("NumberOfFrames") else 1
    if frames < 1:
        raise ImageUnreadable("the DICOM header has no valid NumberOfFrames")
    if frames > limits.max_frames:
        raise ImageTooLarge(f"the image has {frames} frames, the limit is {limits.max_frames}")
    return frames


def _decoded(dataset: FileDataset, index: int) -> tuple[npt.NDArray[Any], str]:
    """Stored values of one frame, (h, w) or (h, w, 3), and their photometric interpretation once decoded."""
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is None:
        raise ImageUnsupported("the DICOM file is compressed in a way (a video, perhaps) that is not handled")
    needs = [name.split(" requires ") for name in decoder.missing_dependencies]
    missing = " or ".join(packages for plugin, packages in needs if plugin.startswith("pylibjpeg"))
    if not decoder.is_available:
        raise ImageUnsupported(f"no decoder for DICOM {syntax.name} is installed; install {missing}")
    if syntax.is_encapsulated:
        _check_frame(dataset, syntax, index)
    # pylibjpeg-rle, where installed, panics on damaged frames; pydicom's own decoder raises.
    plugin = "pydicom" if syntax == RLELossless else ""
    try:
        stored, properties = decoder.as_array(dataset, index=index, decoding_plugin=plugin)
    except (RuntimeError, ValueError):
        stored, properties = None, {}
    if stored is None:
        hint = f", or needs a decoder that is not installed: {missing}" if missing and not plugin else ""
        raise ImageUnreadable(f"the DICOM pixel data ({syntax.name}) is damaged or truncated{hint}")
    return stored, str(properties["photometric_interpretation"])


def _check_frame(dataset: FileDataset, syntax: UID, index: int) -> None:
    """Compare the frame's own header with the data set's, since decoders believe the former."""
    table = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
    frame = get_frame(
        dataset.PixelData,
        index,
        number_of_frames=int(dataset.get("NumberOfFrames") or 1),
        extended_offsets=table if all(table) else None,
    )
    if frame.startswith(b"\xff\xd8"):
        check_scans(frame)
    rows, columns, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    if syntax == RLELossless:
        fits = max(rle_lengths(frame)) <= rows * columns + 1024
    else:
        fits = codestream_size(frame) == (columns, rows, samples)
    if not fits:
        raise ImageUnreadable("the DICOM header and the compressed frame differ in size")

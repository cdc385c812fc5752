"""From the bytes of a DICOM frame to stored values, by whatever transfer syntax.

What the header leaves out is named. Where header and compressed frame differ, the frame is believed: for
its coding process, its depth, and (JPEG 2000 alone carries one) its sign; in size they must agree. What
no decoder of pydicom takes (12 bits allocated, run-length coded bits, deflated frames) is unpacked here.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import convert_color_space
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000TransferSyntaxes, RLELossless

from ..errors import ImageUnreadable, ImageUnsupported
from .codestreams import (
    FrameHeader,
    frame_header,
    is_codestream,
    rle_expanded,
    rle_length,
    rle_segments,
    with_whole_spectrum,
)
from .grey import Values
from .jpeg_2000 import reduced_j2k
from .jpeg_xl import jpeg_xl_values
from .limits import check_scans
from .repairs import repaired
from .scale import reduction

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_LAYOUT = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated")
_PHOTOMETRIC = frozenset(
    {
        "MONOCHROME1",
        "MONOCHROME2",
        "PALETTE COLOR",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_PARTIAL_422",
        "YBR_ICT",
        "YBR_RCT",
    }
)
_REDUCED = frozenset({"MONOCHROME1", "MONOCHROME2", "RGB", "YBR_ICT", "YBR_RCT"})
"""Whose values may be averaged, and which the decoder turns into RGB."""
_INTEGERS = ("BitsStored", "PixelRepresentation")
_ITEM = b"\xfe\xff\x00\xe0"
_DEFLATED_FRAME = UID("1.2.840.10008.1.2.8.1")
_XL = UID("1.2.840.10008.1.2.4.112")
_JPEG_XL: Mapping[str, str] = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
_VIDEO = ("MPEG", "HEVC", "SMPTE")


def check_description(dataset: FileDataset) -> None:
    """Make sure that everything that says how the pixels are stored is there.

    The photometric interpretation is put into capitals, since some writers do not.

    Raises:
        ImageUnreadable: an element is missing or has no value; the message names it.
        ImageUnsupported: a photometric interpretation that is not supported.
    """
    for keyword in (*_LAYOUT, *(_INTEGERS if "PixelData" in dataset else ())):
        _check_present(dataset, keyword)
    for keyword in PIXEL_KEYWORDS:
        if keyword in dataset and not dataset.get(keyword):
            raise ImageUnreadable(f"the DICOM file's {named(keyword)} is empty")
    if dataset.SamplesPerPixel == 3 and _native(dataset):
        _check_present(dataset, "PlanarConfiguration")
    elif dataset.get("PlanarConfiguration") is None:
        dataset.PlanarConfiguration = 0  # a compressed frame knows better, but pydicom asks for it
    dataset.PhotometricInterpretation = photometric = str(dataset.PhotometricInterpretation).strip().upper()
    if photometric not in _PHOTOMETRIC:
        raise ImageUnsupported(
            "this DICOM colour space is not supported; convert the file to RGB or MONOCHROME2"
        )


def _check_present(dataset: FileDataset, keyword: str) -> None:
    if dataset.get(keyword) in (None, ""):
        raise ImageUnreadable(
            f"the DICOM header has no valid {named(keyword)}; it is needed to read the pixels"
        )


def named(keyword: str) -> str:
    """A keyword with its tag: ``BitsStored (0028,0101)``."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"


def stored_values(dataset: FileDataset, index: int, *, most: int) -> tuple[Values, str]:
    """Decode one frame.

    What the frame says better than the header is put right in the data set.

    Args:
        dataset: as parsed; see ``check_description``.
        index: number of the frame.
        most: pixels towards which the decoder may reduce the frame by a power of two.

    Returns:
        Stored values of shape (h, w) or (h, w, 3), and their photometric interpretation once decoded.

    Raises:
        ImageUnsupported: no decoder for the transfer syntax, or not one installed.
        ImageUnreadable: the frame is damaged, or does not fit the header.
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if not _native(dataset):
        frame = _frame(dataset, index)
        if syntax == RLELossless:
            _check_rle(dataset, frame)
            if dataset.BitsAllocated == 1:
                return _from_native(dataset, _rle_bits(dataset, frame), 0)
        elif syntax == _DEFLATED_FRAME:
            return _from_native(dataset, _inflated(dataset, frame), 0)
        elif syntax in _JPEG_XL:
            return _from_jpeg_xl(dataset, _JPEG_XL[syntax], frame)
        elif is_codestream(frame) or _decoder(syntax) is not None:
            return _from_codestream(dataset, syntax, frame, most)
        else:
            raise ImageUnsupported(_unhandled(syntax))
        _isolate(dataset, syntax, frame)
        return _decoded(dataset, RLELossless, 0)
    if dataset.BitsAllocated == 12:
        return _from_native(dataset, _unpacked12(dataset, index), 0)
    return _decoded(dataset, syntax, index)


def _native(dataset: FileDataset) -> bool:
    """Whether the pixels lie in the file as they are.

    Encapsulated frames under a native transfer syntax are recognised by the item that they begin with.
    """
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if syntax.is_transfer_syntax and not syntax.is_encapsulated:
        pixels = dataset.get("PixelData") or b""
        return not (pixels.startswith(_ITEM) and len(pixels) < _frame_bytes(dataset))
    return False


def _frame_bytes(dataset: FileDataset) -> int:
    """Size of one frame as it would lie in the file uncompressed."""
    bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel)
    return -(-bits * int(dataset.BitsAllocated) // 8)


def _frame(dataset: FileDataset, index: int) -> bytes:
    table = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
    return get_frame(
        dataset.PixelData,
        index,
        number_of_frames=int(dataset.get("NumberOfFrames") or 1),
        extended_offsets=table if all(table) else None,
    )


def _isolate(dataset: FileDataset, syntax: UID, frame: bytes) -> None:
    """Let the data set hold this one frame."""
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        dataset.pop(keyword, None)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.NumberOfFrames = 1
    dataset.PixelData = encapsulate([frame], has_bot=False) if syntax.is_encapsulated else frame


def _from_codestream(dataset: FileDataset, syntax: UID, frame: bytes, most: int) -> tuple[Values, str]:
    if frame.startswith(b"\xff\xd8"):
        check_scans(frame)
    header = frame_header(frame)
    _check_size(dataset, header)
    if header.syntax not in JPEG2000TransferSyntaxes or syntax not in JPEG2000TransferSyntaxes:
        syntax = header.syntax
    _believe(dataset, header)
    photometric = str(dataset.PhotometricInterpretation)
    if header.process == "JPEG 2000" and photometric in _REDUCED:
        values = reduced_j2k(frame, header, reduction(header.width, header.height, most))
        if values is not None:
            signed = values.view(np.int16) if dataset.PixelRepresentation and values.ndim == 2 else values
            return _only_stored_bits(signed, dataset), "RGB" if values.ndim == 3 else photometric
    mended = with_whole_spectrum(frame)
    if mended is not frame:
        repaired("The JPEG scan of the DICOM file claims to end at its first coefficient; all were decoded.")
    _isolate(dataset, syntax, mended)
    return _decoded(dataset, syntax, 0, header.process)


def _check_size(dataset: FileDataset, header: FrameHeader) -> None:
    """Compare the frame's own header with the data set's, since decoders believe the former."""
    declared = (int(dataset.Columns), int(dataset.Rows), int(dataset.SamplesPerPixel))
    if (header.width, header.height, header.components) != declared:
        raise ImageUnreadable("the DICOM header and the compressed frame differ in size")


def _believe(dataset: FileDataset, header: FrameHeader) -> None:
    """Take depth and sign from the frame.

    A frame as deep as its container may hold fewer bits, as the header says: lossless encoders that keep
    overlays in the upper bits write such frames. Signed values under an unsigned header stay signed;
    unsigned ones under a signed header are sign-extended by the decoder.
    """
    stored, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    high = dataset.get("HighBit")
    upper = isinstance(high, int) and high + 1 == header.precision > stored
    container = header.process != "JPEG 2000" and header.precision == allocated
    if header.precision < stored or not (upper or container):
        dataset.BitsStored = header.precision
        dataset.HighBit = header.precision - 1
    dataset.BitsAllocated = 8 if header.precision <= 8 else 16 if header.precision <= 16 else 32
    if header.signed and header.components == 1 and dataset.PixelRepresentation != 1:
        repaired(
            "The DICOM header says unsigned, the compressed frame signed values: the frame was believed."
        )
        dataset.PixelRepresentation = 1


def _from_native(dataset: FileDataset, pixels: bytes, index: int) -> tuple[Values, str]:
    _isolate(dataset, ExplicitVRLittleEndian, pixels)
    return _decoded(dataset, ExplicitVRLittleEndian, index)


def _decoder(syntax: UID) -> Decoder | None:
    try:
        return get_decoder(syntax)
    except NotImplementedError:
        return None


def _unhandled(syntax: UID) -> str:
    name = str(syntax.name)
    what = "a video" if any(word in name for word in _VIDEO) else "DICOM compression"
    label = f"{name}, {syntax}" if name != syntax else str(syntax)
    return f"{what} of the transfer syntax {label} is not supported; export the image uncompressed or as JPEG"


def _decoded(dataset: FileDataset, syntax: UID, index: int, process: str = "") -> tuple[Values, str]:
    decoder = _decoder(syntax)
    if decoder is None:
        raise ImageUnsupported(_unhandled(syntax))
    needs = [name.split(" requires ") for name in decoder.missing_dependencies]
    missing = " or ".join(packages for plugin, packages in needs if plugin.startswith("pylibjpeg"))
    if not decoder.is_available:
        raise ImageUnsupported(f"no decoder for DICOM {syntax.name} is installed; install {missing}")
    if partial := dataset.PhotometricInterpretation == "YBR_PARTIAL_422":
        dataset.PhotometricInterpretation = "YBR_FULL_422"  # laid out alike, and pydicom knows this one
    # pylibjpeg-rle, where installed, panics on damaged frames; pydicom's own decoder raises.
    plugin = "pydicom" if syntax == RLELossless else ""
    try:
        stored, properties = decoder.as_array(
            dataset, index=index, decoding_plugin=plugin, raw=True, **_ALL_BITS
        )
    except (RuntimeError, ValueError):
        hint = f", or needs a decoder that is not installed: {missing}" if missing and not plugin else ""
        kind = f"{syntax.name}; the frame is {process}" if process else syntax.name
        raise ImageUnreadable(f"the DICOM pixel data ({kind}) is damaged or truncated{hint}") from None
    stored = _only_stored_bits(stored, dataset)
    photometric = str(properties["photometric_interpretation"])
    if partial:
        return _rgb_of_partial(stored), "RGB"
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return convert_color_space(stored, "YBR_FULL", "RGB"), "RGB"
    return stored, photometric


_ALL_BITS: Mapping[str, Any] = {"correct_unused_bits": False}
"""pydicom would keep the lower bits only, wherever ``HighBit`` says that the stored ones are."""


def _rgb_of_partial(values: Values) -> Values:
    """8-bit YBR_PARTIAL_422, chroma already doubled, as RGB (ITU-R BT.601; PS3.3 C.7.6.3.1.2)."""
    luma, blue, red = np.moveaxis(values.astype(np.float64) - (16, 128, 128), -1, 0)
    y = 1.1644 * luma
    rgb = np.stack([y + 1.5960 * red, y - 0.3918 * blue - 0.8130 * red, y + 2.0173 * blue], axis=-1)
    return np.rint(rgb).clip(0, 255).astype(np.uint8)


def _only_stored_bits(values: Values, dataset: FileDataset) -> Values:
    """Move the stored bits down to bit 0, extend the sign, and drop what lies beside them."""
    stored, high = dataset.get("BitsStored"), dataset.get("HighBit")
    if values.dtype.kind not in "ui" or not isinstance(stored, int) or dataset.BitsAllocated == 1:
        return values
    size = 8 * values.dtype.itemsize
    if not (isinstance(high, int) and stored - 1 <= high < size):
        high = stored - 1
    if not 1 <= stored < size:
        return values
    return (values << (size - 1 - high)) >> (size - stored)


def _check_rle(dataset: FileDataset, frame: bytes) -> None:
    pixels = int(dataset.Rows) * int(dataset.Columns)
    segments = rle_segments(frame)
    # A segment may hold bytes that stand for nothing, which are walked over one by one.
    if max(map(len, segments)) > 2 * pixels + 1024 or max(map(rle_length, segments)) > pixels + 1024:
        raise ImageUnreadable("the DICOM header and the compressed frame differ in size")


def _rle_bits(dataset: FileDataset, frame: bytes) -> bytes:
    """Run-length coded bits: packed, eight to a byte, or one byte each."""
    expanded = rle_expanded(rle_segments(frame)[0])
    pixels = int(dataset.Rows) * int(dataset.Columns)
    if len(expanded) >= pixels:
        bits = np.frombuffer(expanded, np.uint8, pixels) != 0
        return np.packbits(bits, bitorder="little").tobytes()
    if len(expanded) < -(-pixels // 8):
        raise ImageUnreadable("the DICOM pixel data (RLE Lossless) is damaged or truncated")
    return expanded[: -(-pixels // 8)]


def _inflated(dataset: FileDataset, frame: bytes) -> bytes:
    """One deflated frame (PS3.5 A.4.14), never longer than the header says."""
    wanted = _frame_bytes(dataset)
    try:
        pixels = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, wanted)
    except zlib.error:
        pixels = b""
    if len(pixels) < wanted:
        raise ImageUnreadable(
            "the DICOM pixel data (Deflated Image Frame Compression) is damaged or truncated"
        )
    return pixels


def _unpacked12(dataset: FileDataset, index: int) -> bytes:
    """Values of 12 bits that lie one behind the other, lowest bit first, as words of 16 bits."""
    if not UID(dataset.file_meta.TransferSyntaxUID).is_little_endian:
        raise ImageUnsupported("12 bits allocated are supported in little endian files only")
    count = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel)
    first = index * count * 12
    packed = np.frombuffer(dataset.PixelData, np.uint8)[first // 8 : -(-(first + 12 * count) // 8)]
    bits = np.unpackbits(packed, bitorder="little")[first % 8 :][: 12 * count]
    if bits.size < 12 * count:
        raise ImageUnreadable("the DICOM pixel data (12 bits allocated) is damaged or truncated")
    words = np.zeros((count, 16), np.uint8)
    words[:, :12] = bits.reshape(count, 12)
    dataset.BitsAllocated = 16
    return np.packbits(words, axis=1, bitorder="little").tobytes()


def _from_jpeg_xl(dataset: FileDataset, name: str, frame: bytes) -> tuple[Values, str]:
    values, precision = jpeg_xl_values(frame, name)
    height, width, *samples = values.shape
    header = FrameHeader("JPEG XL", _XL, width, height, samples[0] if samples else 1, precision)
    _check_size(dataset, header)
    _believe(dataset, header)
    if samples:
        return values, "RGB"
    signed = values.view(values.dtype.str.replace("u", "i")) if dataset.PixelRepresentation == 1 else values
    return _only_stored_bits(signed, dataset), str(dataset.PhotometricInterpretation)

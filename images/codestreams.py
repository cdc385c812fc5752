"""Compressed frames of DICOM files: what their own headers say, and small repairs of them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLSLossless

from ..errors import ImageUnreadable

_JPEG_SEGMENTS = 10_000
_J2K_SIZE = b"\xff\x4f\xff\x51"
_J2K_STARTS = (_J2K_SIZE, b"\0\0\0\x0cjP  ")
_JPEG_START = b"\xff\xd8\xff"
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_SCAN = 0xDA
_FILL = re.compile(rb"\xff+")
_AFTER_ENTROPY = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_PROCESSES = {
    0xC0: "JPEG baseline",
    0xC1: "JPEG extended",
    0xC2: "progressive JPEG",
    0xC3: "JPEG lossless",
    0xC5: "hierarchical JPEG",
    0xC6: "hierarchical progressive JPEG",
    0xC7: "hierarchical JPEG lossless",
    0xC9: "arithmetic JPEG",
    0xCA: "arithmetic progressive JPEG",
    0xCB: "arithmetic JPEG lossless",
    0xCD: "hierarchical arithmetic JPEG",
    0xCE: "hierarchical arithmetic progressive JPEG",
    0xCF: "hierarchical arithmetic JPEG lossless",
    0xF7: "JPEG-LS",
}
"""By the marker of the frame header (ITU-T T.81, table B.1; T.87 for JPEG-LS)."""
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})


@dataclass(frozen=True)
class FrameHeader:
    """What a compressed frame says of itself."""

    process: str
    """Name of the coding process, such as ``progressive JPEG``."""
    syntax: UID
    """A transfer syntax whose decoders read the process."""
    width: int
    height: int
    components: int
    precision: int
    """Bits per sample of the first component."""
    signed: bool | None = None
    """None where the format does not say: JPEG and JPEG-LS."""


def frame_header(frame: bytes) -> FrameHeader:
    """Read the header of a JPEG, JPEG-LS or JPEG 2000 codestream.

    Raises:
        ImageUnreadable: the frame has no such header.
    """
    return _j2k_header(frame) if frame.startswith(_J2K_STARTS) else _jpeg_header(frame)


def is_codestream(frame: bytes) -> bool:
    """Whether a frame begins like JPEG, JPEG-LS or JPEG 2000."""
    return frame.startswith((_JPEG_START, *_J2K_STARTS))


def _j2k_header(frame: bytes) -> FrameHeader:
    start = _j2k_start(frame)
    # With a second header somewhere, we might look at one and the decoder at the other.
    if frame[start : start + 4] != _J2K_SIZE or frame.count(_J2K_SIZE) != 1 or len(frame) < start + 43:
        raise ImageUnreadable("the JPEG 2000 codestream has no size header, or more than one")
    right, bottom, left, top, *_, components = struct.unpack_from(">8IH", frame, start + 8)
    depth = frame[start + 42]
    return FrameHeader(
        "JPEG 2000", JPEG2000, right - left, bottom - top, components, (depth & 0x7F) + 1, depth >= 0x80
    )


def j2k_levels(frame: bytes) -> int:
    """How often a JPEG 2000 codestream halves the image (ISO/IEC 15444-1, A.6.1).

    It is 0 where the components differ in that, or are sampled unlike each other.
    """
    levels = 0
    for marker, content in _j2k_main_header(frame):
        subsampled = marker == 0x51 and (content[37::3] + content[38::3]).strip(b"\x01")
        if subsampled or marker == 0x53:
            return 0
        if marker == 0x52 and len(content) > 5:
            levels = content[5]
    return levels


def _j2k_main_header(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the segments before the first tile: last byte of the marker, and content."""
    position = _j2k_start(frame) + 2
    for _ in range(_JPEG_SEGMENTS):
        marker = frame[position : position + 2]
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        if marker[:1] != b"\xff" or marker == b"\xff\x90" or length < 2:
            return
        yield marker[-1], frame[position + 4 : position + 2 + length]
        position += 2 + length


def _j2k_start(frame: bytes) -> int:
    """Where the codestream begins: at once, or in a box of a JP2 file."""
    if frame.startswith(_J2K_SIZE):
        return 0
    position = 12
    for _ in range(_JPEG_SEGMENTS):
        length = int.from_bytes(frame[position : position + 4], "big")
        if frame[position + 4 : position + 8] == b"jp2c":
            return position + 8
        # pydicom's own walk over the boxes never leaves one of length 0.
        if length < 8 or position + length > len(frame):
            break
        position += length
    raise ImageUnreadable("the JPEG 2000 file has a box that is damaged")


def _jpeg_header(frame: bytes) -> FrameHeader:
    for marker, position in _jpeg_segments(frame):
        if marker in _PROCESSES and position + 8 <= len(frame):
            precision, height, width, components = struct.unpack_from(">BHHB", frame, position + 2)
            process = _PROCESSES[marker]
            return FrameHeader(process, _jpeg_syntax(marker, precision), width, height, components, precision)
    raise ImageUnreadable("the compressed frame has no JPEG header")


def _jpeg_syntax(marker: int, precision: int) -> UID:
    if marker == 0xF7:
        return JPEGLSLossless
    if "lossless" in _PROCESSES[marker]:
        return JPEGLossless
    # Pillow reads sequential and progressive frames of 8 bits, whichever syntax they are under.
    return JPEGBaseline8Bit if precision == 8 and marker in (0xC0, 0xC2) else JPEGExtended12Bit


def _jpeg_segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """Yield each marker that has content, and where its length stands."""
    position = 2
    for _ in range(_JPEG_SEGMENTS):
        fill = _FILL.search(frame, position)
        if fill is None or fill.end() > len(frame) - 3:
            return
        position = fill.end()
        marker, length = frame[position], int.from_bytes(frame[position + 1 : position + 3], "big")
        if marker in _NO_LENGTH or marker == 0x00:
            position += 1
            continue
        yield marker, position + 1
        position += 1 + length
        if marker == _SCAN:
            after = _AFTER_ENTROPY.search(frame, position)
            if after is None:
                return
            position = after.start()


def with_whole_spectrum(frame: bytes) -> bytes:
    """Mend sequential JPEG scans that claim to end at coefficient 0.

    Old encoders of 12-bit JPEG wrote Se = 0 into the scan header, where sequential JPEG must have 63 (ITU-T
    T.81, table B.3); decoders that believe it refuse the frame.
    """
    if not frame.startswith(_JPEG_START):
        return frame
    mended: bytearray | None = None
    sequential = False
    for marker, position in _jpeg_segments(frame):
        sequential = sequential or marker in _SEQUENTIAL
        if marker != _SCAN or not sequential or position + 3 > len(frame):
            continue
        end = position + 3 + 2 * frame[position + 2] + 1
        if frame[end - 1 : end + 1] == b"\0\0":
            mended = mended or bytearray(frame)
            mended[end] = 63
    return frame if mended is None else bytes(mended)


def rle_segments(frame: bytes) -> list[bytes]:
    """The segments of a DICOM RLE frame, still compressed.

    Raises:
        ImageUnreadable: the frame has no RLE header.
    """
    if len(frame) < 64 or not 1 <= (count := struct.unpack_from("<I", frame)[0]) <= 15:
        raise ImageUnreadable("the compressed frame has no RLE header")
    bounds = (*struct.unpack_from(f"<{count}I", frame, 4), len(frame))
    return [frame[start:end] for start, end in pairwise(bounds)]


def rle_length(segment: bytes) -> int:
    """Number of bytes that an RLE segment expands to."""
    total = position = 0
    while position < len(segment):
        control = segment[position]
        if control > 128:
            total += 257 - control
            position += 2
        elif control < 128:
            total += control + 1
            position += control + 2
        else:
            position += 1
    return total


def rle_expanded(segment: bytes) -> bytes:
    """Expand one RLE segment (PackBits, PS3.5 G.3.2); look at ``rle_length`` first."""
    expanded = bytearray()
    position = 0
    while position < len(segment):
        control = segment[position]
        if control > 128:
            expanded += segment[position + 1 : position + 2] * (257 - control)
            position += 2
        elif control < 128:
            expanded += segment[position + 1 : position + control + 2]
            position += control + 2
        else:
            position += 1
    return bytes(expanded)

"""Hostile and damaged files: only typed errors, no crash, no hang, no unbounded memory.

``HYPOTHESIS_PROFILE=long`` tries many more.
"""

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from gsco.errors import ImageError, ImageTooLarge, ImageUnreadable
from gsco.images import ImageLimits, read_image
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from .memory import forget_peak, peak, peak_above_rest

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
LIMITS = ImageLimits(max_pixels=4_000_000)
GROWTH = 300 * 2**20
MANY = 6 * settings().max_examples


def pictures() -> Iterator[tuple[str, bytes]]:
    noise = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    colour, grey = Image.fromarray(noise), Image.fromarray(noise[..., 0])
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 250)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "text"
    kinds = [
        ("PNG", colour, {"exif": exif}),
        ("PNG", colour.quantize(9), {"transparency": 3}),
        ("PNG", deep, {}),
        ("PNG", grey.convert("1"), {}),
        ("PNG", colour.convert("RGBA"), {}),
        ("PNG", grey.convert("LA"), {}),
        ("PNG", colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
        ("JPEG", colour, {"exif": exif}),
        ("JPEG", grey, {"progressive": True}),
        ("JPEG", colour.convert("CMYK"), {}),
        ("MPO", colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
        ("BMP", colour, {}),
        ("BMP", colour.quantize(9), {}),
        ("BMP", grey.convert("1"), {}),
        ("WEBP", colour, {"exif": exif}),
        ("WEBP", colour, {"lossless": True}),
        ("WEBP", colour, {"save_all": True, "append_images": [colour.rotate(90)]}),
        ("TIFF", colour, {"save_all": True, "append_images": [grey, deep]}),
        ("TIFF", grey.convert("F"), {}),
        ("TIFF", deep, {}),
        ("TIFF", grey.convert("1"), {"compression": "group4"}),
        *(("TIFF", colour, {"compression": how}) for how in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
    ]
    for number, (kind, image, options) in enumerate(kinds):
        file = io.BytesIO()
        image.copy().save(file, kind, **options)
        yield f"{kind}{number}", file.getvalue()


DICOM = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_small_odd.dcm",
    "JPEG2000.dcm",
    "JPGExtended.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "JPEGLSNearLossless_16.dcm",
    "image_dfl.dcm",
    "rtdose.dcm",
    "rtdose_rle_1frame.dcm",
    "liver_1frame.dcm",
    "dicomdirtests/77654033/CR1/6154",
    "SC_ybr_full_422_uncompressed.dcm",
)
FILES = {**dict(pictures()), **{name: (SHIPPED / name).read_bytes() for name in DICOM}}
STARTS = (
    b"\x89PNG\r\n\x1a\n",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"BM",
    b"\xff\xd8\xff",
    b"\xff\xd8\xff\xe1\xff\xffExif\0\0II*\0",
    b"II*\0\x08\0\0\0",
    b"MM\0*\0\0\0\x08",
    b"II+\0\x08\0\0\0",
    b"RIFF\xff\0\0\0WEBPVP8X",
    b"RIFF\xff\0\0\0WEBPVP8L",
    bytes(128) + b"DICM",
    bytes(128) + b"DICM\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0",
    b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
)


def tried(data: bytes, **options) -> Image.Image | ImageError:
    """Read, or return the error; anything but an ``ImageError`` fails the test."""
    try:
        image = read_image(data, limits=LIMITS, **options)
    except ImageError as error:
        assert error.__cause__ is None and error.__context__ is None
        assert len(str(error)) < 300
        return error
    assert image.mode in ("L", "RGB")
    assert 0 < image.width * image.height <= LIMITS.max_pixels
    assert image.info == {}
    assert len(image.tobytes()) == image.width * image.height * len(image.getbands())
    return image


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    for data in FILES.values():
        tried(data)
    if not sys.platform.startswith("linux"):
        yield
        return
    rest = forget_peak()
    yield
    assert peak() - rest < GROWTH


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real file that was cut, or had bytes changed, lost or added, most often in its header."""
    data = bytearray(FILES[draw(st.sampled_from(sorted(FILES)))])
    place = st.integers(0, min(len(data), 400) - 1) | st.integers(0, len(data) - 1)
    how = draw(st.sampled_from(("cut", "lose", "add", "flip", "flip", "write", "write")))
    if how == "cut":
        return bytes(data[: draw(st.integers(0, len(data) - 1))])
    if how == "lose":
        start = draw(place)
        del data[start : start + draw(st.integers(1, 64))]
    elif how == "add":
        start = draw(place)
        data[start:start] = draw(st.binary(min_size=1, max_size=32))
    elif how == "flip":
        for start in draw(st.lists(place, min_size=1, max_size=12)):
            data[start] ^= 1 << draw(st.integers(0, 7))
    else:
        for start in draw(st.lists(place, min_size=1, max_size=6)):
            word = draw(
                st.sampled_from(
                    (b"\0", b"\xff", b"\0\0\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")
                )
            )
            data[start : start + len(word)] = word
    return bytes(data)


@given(data=st.binary(max_size=600))
@example(b"")
def test_random_bytes(data):
    assert isinstance(tried(data), ImageError)


@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=600))
@settings(max_examples=2 * settings().max_examples)
def test_random_bytes_behind_a_true_beginning(start, rest):
    tried(start + rest)


@given(data=damaged())
@settings(max_examples=MANY)
def test_damaged_files(data):
    tried(data)


@given(
    data=st.sampled_from(sorted(FILES)).map(FILES.__getitem__) | damaged(),
    frame=st.none() | st.integers(-3, 40) | st.just(2**70),
    window=st.none() | st.tuples(st.floats(), st.floats()),
)
def test_any_frame_and_window(data, frame, window):
    tried(data, frame=frame, window=window)


# One JP2 box of length 0: pydicom alone looks at it for ever.
def test_a_box_without_length_does_not_hang():
    data = FILES["GDCMJ2K_TextGBR.dcm"]
    start = data.index(b"ftypjp2 ") - 4
    assert isinstance(tried(data[:start] + bytes(4) + data[start + 4 :]), ImageUnreadable)


# Headers that claim far too much


def png(width: int, height: int, *, bits: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(entries: dict[int, int], body: bytes = b"") -> bytes:
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(4) + body


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 0, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def dicom(**numbers: int) -> bytes:
    made = pydicom.dcmread(SHIPPED / "CT_small.dcm")
    for keyword, value in numbers.items():
        setattr(made, keyword, value)
    file = io.BytesIO()
    made.save_as(file)
    return file.getvalue()


def tags(width: int, height: int, **more: int) -> dict[int, int]:
    named = {"bits": 258, "compression": 259, "strip": 278, "tile_width": 322, "tile_height": 323}
    base = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 122, 277: 1, 278: height, 279: 64}
    return base | {named[name]: value for name, value in more.items()}


def tiled(width: int, height: int, side: int, compression: int) -> bytes:
    base = {
        256: width,
        257: height,
        258: 8,
        259: compression,
        262: 1,
        277: 1,
        322: side,
        323: side,
        324: 134,
        325: 32,
    }
    return tiff(base, zlib.compress(bytes(1000)))


@cache
def absurd() -> dict[str, bytes]:
    wide = 100_000
    swelling = zlib.compress(bytes(50_000_000))
    return {
        "png": png(wide, wide),
        "png 2^31": png(2**31 - 1, 2**31 - 1),
        "png 16 bit": png(wide, wide, bits=16, colour=6),
        "png that is all there": png(20_000, 10_000, bits=1, colour=0, rows=bytes(10_000 * 2_501)),
        "tiff": tiff(tags(wide, wide), bytes(64)),
        "tiff 2^32": tiff(tags(2**32 - 1, 2**32 - 1), bytes(64)),
        "tiff strip": tiff(tags(10, 10, strip=2**32 - 1, compression=8), swelling),
        "tiff packbits": tiff(tags(wide, wide, compression=32773), b"\x81\0" * 1000),
        "tiff tile": tiled(10, 10, 2**16, 8),
        "tiff tiles": tiled(10, 10, 2**31, 5),
        "tiff bits": tiff(tags(100, 100, bits=2**31), bytes(64)),
        "bmp": bmp(wide, wide),
        "bmp upside down": bmp(wide, -wide),
        "bmp 2^31": bmp(2**31 - 1, -(2**31)),
        "jpeg": jpeg(65_500, 65_500),
        "webp": webp(2**24, 2**24),
        "webp canvas": webp(16_383, 16_383),
        "dicom": dicom(Rows=65_535, Columns=65_535),
        "dicom frames": dicom(NumberOfFrames=2**31 - 1),
        "dicom frames within the limit": dicom(Rows=8_000, Columns=8_000, NumberOfFrames=10_000),
        "dicom samples": dicom(SamplesPerPixel=65_535),
        "dicom bits": dicom(BitsAllocated=65_528),
    }


@pytest.mark.parametrize("name", absurd())
def test_absurd_headers(name):
    tried(absurd()[name])


@pytest.mark.parametrize(
    "name", ["png", "png 2^31", "png that is all there", "tiff", "bmp", "jpeg", "webp", "dicom"]
)
def test_claims_above_the_limit_are_too_large(name):
    assert isinstance(tried(absurd()[name]), ImageTooLarge)


def test_absurd_headers_cost_little_memory():
    """With the default limits."""

    def read() -> None:
        for data in absurd().values():
            with suppress(ImageError):
                read_image(data)

    assert peak_above_rest(read) < GROWTH

"""The tables of docs/formats.md say what is read: every row is tried."""

import io
import re
import zlib
from pathlib import Path

import gsco
import numpy as np
import pytest
from gsco.errors import ImageUnsupported
from gsco.images import read_image
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from .dicom_files import compressed, dataset, written

PAGE = Path(gsco.__file__).parent / "docs" / "formats.md"
ROOT = "1.2.840.10008"
RAMP = np.tile((np.arange(16) * 273).astype(np.uint16), (16, 1))
STEPS = np.arange(16) * 17
TWELVE = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096}
NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
NOT_TRIED = {f"{ROOT}.1.2.4.{last}" for last in range(59, 67)}
"""Hierarchical JPEG: the row says that it is not tested."""


def rows_of(section: str) -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines[1:] if not line.startswith("---")]


def uids_of(cell: str) -> list[str]:
    """``.1.2.4.50, .51 to .53`` in full."""
    found: list[str] = []
    for joint, text in re.findall(r"(to |, |and |^)\s*(1[\d.]+|\.[\d.]+)", cell):
        if text.startswith("1"):
            uid = text
        elif text.startswith(".1."):
            uid = ROOT + text
        else:
            uid = found[-1].rpartition(".")[0] + text
        if joint.strip() == "to":
            stem, _, first = found[-1].rpartition(".")
            found += [f"{stem}.{last}" for last in range(int(first) + 1, int(uid.rpartition(".")[2]))]
        found.append(uid)
    return found


def eight_bit(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.tile(STEPS.astype(np.uint8), (16, 1))).save(file, kind, **options)
    return file.getvalue()


def jpeg_2000(syntax: str) -> bytes:
    # The encoder takes no picture as small as the others.
    large = RAMP.repeat(4, axis=0).repeat(4, axis=1)
    frame = bytes(encode_array(large, bits_stored=12, photometric_interpretation=2))
    return compressed(frame, syntax, Rows=64, Columns=64, **TWELVE)


def deflated(syntax: str) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressed(packer.compress(RAMP.tobytes()) + packer.flush(), syntax, **TWELVE)


def rle(syntax: str) -> bytes:
    made = dataset(RAMP, **TWELVE)
    made.compress(RLELossless)
    assert syntax == RLELossless
    return written(made)


def twelve(frame: str):
    return lambda syntax: compressed(frame, syntax, **TWELVE)


def eight(content: bytes | str):
    return lambda syntax: compressed(content, syntax, 8, BitsAllocated=8)


READ = {
    **{str(uid): lambda syntax: written(dataset(RAMP, UID(syntax), **TWELVE)) for uid in NATIVE},
    f"{ROOT}.1.2.4.50": eight(eight_bit("JPEG", quality=100)),
    f"{ROOT}.1.2.4.51": twelve("jpeg_extended_12_se0"),
    f"{ROOT}.1.2.4.52": twelve("jpeg_extended_12_se0"),
    f"{ROOT}.1.2.4.53": twelve("jpeg_spectral_12"),
    f"{ROOT}.1.2.4.54": twelve("jpeg_spectral_12"),
    f"{ROOT}.1.2.4.55": twelve("jpeg_progressive_12"),
    f"{ROOT}.1.2.4.56": twelve("jpeg_progressive_12"),
    f"{ROOT}.1.2.4.57": twelve("jpeg_lossless_12"),
    f"{ROOT}.1.2.4.58": twelve("jpeg_lossless_12"),
    f"{ROOT}.1.2.4.70": twelve("jpeg_lossless_12"),
    f"{ROOT}.1.2.4.80": twelve("jpegls_12"),
    f"{ROOT}.1.2.4.81": twelve("jpegls_12"),
    f"{ROOT}.1.2.4.90": jpeg_2000,
    f"{ROOT}.1.2.4.91": jpeg_2000,
    f"{ROOT}.1.2.4.110": eight("jxl_8"),
    f"{ROOT}.1.2.4.111": eight("jxl_8"),
    f"{ROOT}.1.2.4.112": eight("jxl_8"),
    **{
        f"{ROOT}.1.2.4.20{last}": lambda syntax: compressed(
            "htj2k_unsigned16", syntax, 16, WindowCenter=2048, WindowWidth=4096
        )
        for last in (1, 2, 3)
    },
    f"{ROOT}.1.2.5": rle,
    f"{ROOT}.1.2.8.1": deflated,
}


def listed(*, read: bool) -> list[str]:
    rows = [row for row in rows_of("DICOM transfer syntaxes") if row[1]]
    chosen = [row for row in rows if row[2].startswith("not read") is not read]
    return [uid for row in chosen for uid in uids_of(row[1]) if uid not in NOT_TRIED]


def test_every_transfer_syntax_that_is_tried_is_in_the_table():
    assert sorted(listed(read=True)) == sorted(READ)
    assert not set(listed(read=False)) & set(READ)


@pytest.mark.parametrize("syntax", listed(read=True))
def test_transfer_syntaxes_that_are_read(syntax):
    if ".4.11" in syntax:
        pytest.importorskip("pillow_jxl", reason="needs gsco[formats]")
    found = np.asarray(read_image(READ[syntax](syntax)), int)
    assert np.abs(found[:, :: found.shape[1] // 16] - STEPS).max() <= 1


@pytest.mark.parametrize("syntax", listed(read=False))
def test_transfer_syntaxes_that_are_not_read_are_named(syntax):
    name = UID(syntax).name if UID(syntax).is_transfer_syntax else syntax
    with pytest.raises(ImageUnsupported) as caught:
        read_image(compressed(b"\0\0\0\0", syntax))
    assert syntax in str(caught.value) or name in str(caught.value)


GREY = np.tile(STEPS.astype(np.uint8), (16, 1))
COLOUR = np.stack([GREY, np.zeros_like(GREY), 255 - GREY], -1)
YBR = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))


def subsampled(full: np.ndarray) -> bytes:
    pairs = full.reshape(-1, 2, 3)
    parts = [pairs[:, 0, 0], pairs[:, 1, 0], *pairs[..., 1:].mean(1).T]
    return np.stack(parts, -1).round().astype(np.uint8).tobytes()


def colours(photometric: str, content: np.ndarray, **tags) -> bytes:
    return written(dataset(content, PhotometricInterpretation=photometric, **tags))


def palette() -> bytes:
    made = dataset(GREY, PhotometricInterpretation="PALETTE COLOR")
    for name, values in (("Red", np.arange(256)), ("Green", np.zeros(256)), ("Blue", 255 - np.arange(256))):
        made.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 8])
        made.add_new(f"{name}PaletteColorLookupTableData", "OW", values.astype(np.uint8).tobytes())
    return written(made)


def j2k_colours(photometric: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, "JPEG2000", irreversible=photometric == "YBR_ICT", mct=1)
    tags = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": photometric}
    return compressed(file.getvalue(), f"{ROOT}.1.2.4.91", 8, BitsAllocated=8, **tags)


def partial() -> bytes:
    full = YBR.astype(float)
    full[..., 0] = 16 + full[..., 0] * 219 / 255
    full[..., 1:] = 128 + (full[..., 1:] - 128) * 224 / 255
    return colours("YBR_PARTIAL_422", COLOUR, PixelData=subsampled(full))


PHOTOMETRIC = {
    "MONOCHROME2": lambda: written(dataset(GREY)),
    "MONOCHROME1": lambda: written(dataset(255 - GREY, PhotometricInterpretation="MONOCHROME1")),
    "PALETTE COLOR": palette,
    "RGB": lambda: written(dataset(COLOUR)),
    "YBR_FULL": lambda: colours("YBR_FULL", YBR),
    "YBR_FULL_422": lambda: colours("YBR_FULL_422", COLOUR, PixelData=subsampled(YBR)),
    "YBR_PARTIAL_422": partial,
    "YBR_ICT": lambda: j2k_colours("YBR_ICT"),
    "YBR_RCT": lambda: j2k_colours("YBR_RCT"),
}


def photometric_names(*, read: bool) -> list[str]:
    rows = [row for row in rows_of("Photometric interpretations") if (row[1] == "yes") is read]
    return [re.sub(r" \(.*\)", "", name) for row in rows for name in row[0].split(", ")]


def test_every_photometric_interpretation_that_is_tried_is_in_the_table():
    assert sorted(photometric_names(read=True)) == sorted(PHOTOMETRIC)


@pytest.mark.parametrize("name", photometric_names(read=True))
def test_photometric_interpretations_that_are_read(name):
    found = np.asarray(read_image(PHOTOMETRIC[name]()), int)
    wanted = GREY if name.startswith("MONOCHROME") else COLOUR
    # Colours of two neighbours are one in a subsampled picture.
    limit = 12 if name.endswith("422") else 6
    assert np.abs(found - wanted).max() <= limit


@pytest.mark.parametrize("name", photometric_names(read=False))
def test_photometric_interpretations_that_are_not_read(name):
    with pytest.raises(ImageUnsupported):
        read_image(colours(name, COLOUR))

"""Forms of DICOM files of scanners, archives and converters, compared with dcmtk where it is installed."""

import io
import logging
import shutil
import subprocess
import zlib

import numpy as np
import pydicom
import pytest
from gsco.errors import ImageError, ImageTooLarge, ImageUnreadable, ImageUnsupported
from gsco.images import ImageLimits, ImageStore, read_image
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from .dicom_files import FRAMES, compressed, dataset, written

RAMP = np.tile((np.arange(16) * 273).astype(np.uint16), (16, 1))
SIGNED = np.tile(np.linspace(-1000, 1000, 16).astype(np.int16), (16, 1))
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
EXACT = {"WindowCenter": 0, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}
TWELVE = {"BitsStored": 12, "HighBit": 11}
STEPS = (np.arange(16) * 17).tolist()
"""What ``RAMP`` looks like."""


def row(data: bytes) -> list:
    return np.asarray(read_image(data))[3].tolist()


def raw(made: Dataset, keyword: str, vr: str, value: bytes) -> bytes:
    """The file with the bytes of an element replaced, whatever pydicom thinks of them."""
    made.add_new(keyword, "LO", "@" * (len(value) + len(value) % 2))
    data = written(made)
    place = b"LO" + (len(value) + len(value) % 2).to_bytes(2, "little") + b"@"
    start = data.index(place)
    end = start + 4 + len(value) + len(value) % 2
    return (
        data[:start] + vr.encode() + data[start + 2 : start + 4] + value.ljust(end - start - 4) + data[end:]
    )


# The frame's own header decides


@pytest.mark.parametrize(("bits", "low", "high"), [(16, -1000, 1000), (12, -2000, 2000), (10, -500, 500)])
def test_a_signed_jpeg_2000_frame_under_an_unsigned_header(bits, low, high):
    values = np.tile(np.linspace(low, high, 64).astype(np.int16), (64, 1))
    frame = bytes(encode_array(values, bits_stored=bits, photometric_interpretation=2))
    data = compressed(
        frame,
        JPEG2000Lossless,
        16,
        Rows=64,
        Columns=64,
        WindowCenter=0,
        WindowWidth=high - low,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert row(data) == np.rint((values[3] - low) / (high - low) * 255).astype(int).tolist()


def test_a_signed_htj2k_frame_under_an_unsigned_header():
    tags = {"WindowCenter": 0, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}
    wanted = np.rint((SIGNED[3] + 1000) / 2000 * 255).astype(int).tolist()
    assert row(compressed("htj2k_signed16", HTJ2KLossless, 16, **tags)) == wanted
    assert row(compressed("htj2k_signed16", JPEG2000Lossless, 16, **tags)) == wanted
    assert row(compressed("htj2k_unsigned16", HTJ2KLossless, 16, **WINDOW)) == STEPS


@pytest.mark.parametrize(
    ("frame", "syntax"),
    [
        ("jpegls_12", JPEGLSLossless),
        ("jpeg_lossless_12", JPEGLosslessSV1),
        ("jpeg_progressive_12", JPEGExtended12Bit),
    ],
)
@pytest.mark.parametrize(("stored", "allocated"), [(16, 16), (10, 16), (8, 8)])
def test_the_frame_knows_its_depth_better_than_the_header(frame, syntax, stored, allocated):
    found = row(compressed(frame, syntax, stored, BitsAllocated=allocated, **WINDOW))
    assert np.abs(np.array(found) - STEPS).max() <= 1


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEGLosslessSV1])
def test_negative_values_of_frames_that_know_no_sign(syntax):
    frame = "jpegls_12" if syntax == JPEGLSLossless else "jpeg_lossless_12"
    # As 12-bit two's complement the right half of the ramp is negative.
    signed = np.where(RAMP[3].astype(int) >= 2048, RAMP[3].astype(int) - 4096, RAMP[3])
    tags = {
        "PixelRepresentation": 1,
        "WindowCenter": 0,
        "WindowWidth": 4096,
        "VOILUTFunction": "LINEAR_EXACT",
    }
    wanted = np.rint((signed + 2048) / 4096 * 255).astype(int).tolist()
    assert row(compressed(frame, syntax, 12, **tags)) == wanted
    assert row(compressed(frame, syntax, 16, **tags)) == wanted


def test_a_frame_of_another_family_than_the_transfer_syntax_says():
    picture = np.stack([np.tile(np.arange(16) * 16, (16, 1))] * 3, -1).astype(np.uint8)
    picture[..., 2] = 240 - picture[..., 0]
    import io

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95, subsampling=0)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "BitsAllocated": 8}
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless.replace("2.5", "2.4.58")):
        found = np.asarray(read_image(compressed(file.getvalue(), syntax, 8, **tags)), int)
        assert np.abs(found - picture).max() < 12, syntax
    made = dataset(picture)
    made.PixelData, made["PixelData"].is_undefined_length = encapsulate([file.getvalue()]), True
    assert np.abs(np.asarray(read_image(written(made)), int) - picture).max() < 12


# Where the stored bits are


@pytest.mark.parametrize(("stored", "high"), [(12, 15), (12, 13), (10, 15), (8, 15)])
def test_stored_bits_lie_where_high_bit_says(stored, high):
    values = (np.arange(16) * ((2**stored - 1) // 15)).astype(np.uint16)
    shift = high + 1 - stored
    noise = (np.arange(16) % 2).astype(np.uint16) * (2**shift - 1)  # beside the stored bits
    made = dataset(np.tile((values << shift) | noise, (4, 1)), BitsStored=stored, HighBit=high)
    made.WindowCenter, made.WindowWidth, made.VOILUTFunction = (
        (2**stored - 1) / 2,
        2**stored - 1,
        "LINEAR_EXACT",
    )
    wanted = np.rint(values / (2**stored - 1) * 255).astype(int).tolist()
    assert row(written(made)) == wanted
    if stored > 8:  # pydicom's encoder writes 8 stored bits as bytes
        made.compress(RLELossless)
        assert row(written(made)) == wanted


def test_signed_bits_at_the_top():
    values = np.array([[-2048, -1, 0, 2047]] * 4, np.int16)
    made = dataset(values << 4, BitsStored=12, HighBit=15)
    assert row(written(made)) == [0, 127, 128, 255]


def test_an_impossible_high_bit_counts_as_absent():
    for high in (3, 16, 99):
        assert row(written(dataset(RAMP, BitsStored=12, HighBit=high, **WINDOW))) == STEPS


def test_a_lossless_frame_as_deep_as_its_container_keeps_to_the_header():
    overlay = RAMP | np.uint16(0x4000)
    made = dataset(overlay, **TWELVE, **WINDOW)
    assert row(written(made)) == STEPS
    assert (
        np.abs(np.array(row(compressed("jpeg_lossless_16", JPEGLosslessSV1, 12, **WINDOW))) - STEPS).max()
        == 0
    )


# Windows and tables that cannot be read


def _lut(descriptor, data) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "US", data)
    return Sequence([item])


@pytest.mark.parametrize(
    "tags",
    [
        {"VOILUTSequence": _lut(None, None)},
        {"VOILUTSequence": _lut([3, 0, 8], None)},
        {"VOILUTSequence": _lut([3, 0], [1, 2, 3])},
        {"VOILUTSequence": _lut([3, 0, 99], [1, 2, 3])},
        {"VOILUTSequence": Sequence([Dataset()])},
        {"ModalityLUTSequence": _lut(None, None)},
        {"ModalityLUTSequence": Sequence([Dataset()])},
        {"ModalityLUTSequence": Sequence([])},
    ],
)
def test_an_empty_lookup_table_leaves_the_window(tags, caplog):
    assert row(written(dataset(RAMP, **TWELVE, **WINDOW, **tags))) == STEPS
    assert ("left out" in caplog.text) == bool(next(iter(tags.values())))


def test_the_second_lookup_table_serves_where_the_first_is_empty():
    items = Sequence([*_lut(None, None), *_lut([2, 0, 8], [0, 255])])
    assert row(written(dataset(RAMP, **TWELVE, VOILUTSequence=items))) == [0] + [255] * 15


def test_a_damaged_modality_table_is_an_error():
    with pytest.raises(ImageUnreadable, match="lookup table"):
        row(written(dataset(RAMP, **TWELVE, ModalityLUTSequence=_lut([3, 0, 99], [1, 2, 3]))))


@pytest.mark.parametrize(
    ("center", "wanted"),
    [
        (b"2048,0", STEPS),
        (b"2048,", STEPS),
        (b"+2.048E3", STEPS),
        (b"2048\\40", STEPS),
        (b"AUTO\\2048", STEPS),
        (b"\\2048", STEPS),
    ],
)
def test_windows_that_can_be_made_out(center, wanted):
    made = dataset(RAMP, **TWELVE, WindowWidth=[4096, 4096])
    assert row(raw(made, "WindowCenter", "DS", center)) == wanted


@pytest.mark.parametrize(
    "center", [b"AUTO", b"1,024,5", b"1,024.5", b"--", b"nan", b"inf", b"0x10", b"\xff\xfe"]
)
@pytest.mark.parametrize("vr", ["DS", "LO", "UN"])
def test_windows_that_cannot_are_left_out_and_noted(center, vr, caplog):
    made = dataset(RAMP, **TWELVE, WindowWidth=4096)
    data = raw(made, "WindowCenter", "LO" if vr == "UN" else vr, center)
    assert row(data) == STEPS  # the frame's own range
    assert "window" in caplog.text
    assert "AUTO" not in caplog.text


def test_a_rescale_that_is_no_number_is_an_error_and_one_of_zero_is_left_out(caplog):
    with pytest.raises(ImageUnreadable, match="rescale"):
        row(raw(dataset(RAMP, RescaleIntercept=0), "RescaleSlope", "DS", b"ONE"))
    assert (
        row(raw(dataset(RAMP, **TWELVE, RescaleIntercept=0, **WINDOW), "RescaleSlope", "DS", b"1,0")) == STEPS
    )
    assert row(written(dataset(RAMP, **TWELVE, RescaleSlope=0, RescaleIntercept=0, **WINDOW))) == STEPS
    assert "slope" in caplog.text


# Padding


@pytest.mark.parametrize(
    ("vr", "value"),
    [("US", 63536), ("SS", -2000), ("IS", -2000), ("LO", "-2000"), ("SL", -2000), ("OW", b"\x30\xf8")],
)
def test_padding_values_of_any_representation(vr, value):
    made = dataset(np.array([[-2000, -1000, 0, 1000]] * 4, np.int16))
    made.add_new("PixelPaddingValue", vr, value)
    assert row(written(made)) == [0, 0, 128, 255]


def test_unsigned_padding_written_as_signed():
    made = dataset(np.array([[65535, 1000, 2000, 3000]] * 4, np.uint16))
    made.add_new("PixelPaddingValue", "SS", -1)
    assert row(written(made)) == [255, 0, 128, 255]


# Black and white


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["", "IDENTITY", "INVERSE", "LIN OD"])
def test_the_presentation_shape_decides_where_there_is_one(photometric, shape):
    tags = {"PhotometricInterpretation": photometric, **({"PresentationLUTShape": shape} if shape else {})}
    inverted = shape == "INVERSE" if shape in ("IDENTITY", "INVERSE") else photometric == "MONOCHROME1"
    found = row(written(dataset(RAMP, **TWELVE, **WINDOW, **tags)))
    assert found == (STEPS[::-1] if inverted else STEPS)


# Transfer syntaxes


@pytest.mark.parametrize(
    ("frame", "syntax"),
    [
        ("jpeg_extended_12_se0", "1.2.840.10008.1.2.4.51"),
        ("jpeg_spectral_12", "1.2.840.10008.1.2.4.53"),
        ("jpeg_progressive_12", "1.2.840.10008.1.2.4.55"),
        ("jpeg_extended_12_se0", "1.2.840.10008.1.2.4.52"),
        ("jpeg_lossless_12", "1.2.840.10008.1.2.4.58"),
        ("jpeg_lossless_16", "1.2.840.10008.1.2.4.57"),
        ("jpegls_16", "1.2.840.10008.1.2.4.81"),
    ],
)
def test_processes_of_jpeg(frame, syntax):
    assert np.abs(np.array(row(compressed(frame, syntax, 12, **WINDOW))) - STEPS).max() <= 1


def test_only_sequential_scans_are_mended():
    from gsco.images.codestreams import with_whole_spectrum

    for name in (
        "jpeg_progressive_12",
        "jpeg_spectral_12",
        "jpeg_lossless_12",
        "jpegls_12",
        "htj2k_signed16",
    ):
        content = (FRAMES / name).read_bytes()
        assert with_whole_spectrum(content) == content
    mended = with_whole_spectrum((FRAMES / "jpeg_extended_12_se0").read_bytes())
    assert with_whole_spectrum(mended) == mended


@pytest.mark.parametrize(("dtype", "stored"), [(np.uint16, 12), (np.int16, 12), (np.uint8, 8)])
def test_deflated_frames(dtype, stored):
    values = (RAMP >> (0 if dtype != np.uint8 else 4)).astype(dtype)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    frame = packer.compress(values.tobytes()) + packer.flush()
    tags = {"BitsAllocated": 8 * values.dtype.itemsize, "PixelRepresentation": int(dtype == np.int16)}
    data = compressed(
        frame, "1.2.840.10008.1.2.8.1", stored, **tags, **(WINDOW if dtype == np.uint16 else {})
    )
    made = dataset(values, BitsStored=stored, HighBit=stored - 1, **(WINDOW if dtype == np.uint16 else {}))
    assert row(data) == row(written(made))
    with pytest.raises(ImageUnreadable, match="Deflated"):
        row(compressed(frame[: len(frame) // 2], "1.2.840.10008.1.2.8.1", stored, **tags))


@pytest.mark.parametrize(("frame", "stored"), [("jxl_8", 8), ("jxl_12", 12), ("jxl_16", 16), ("jxl_rgb", 8)])
def test_jpeg_xl(frame, stored):
    pytest.importorskip("pillow_jxl", reason="needs gsco[formats]")
    colour = frame == "jxl_rgb"
    tags = {"BitsAllocated": 8 if stored == 8 else 16, "SamplesPerPixel": 3 if colour else 1}
    tags["PhotometricInterpretation"] = "RGB" if colour else "MONOCHROME2"
    for syntax in ("1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.112"):
        found = row(compressed(frame, syntax, stored, **tags))
        assert found == ([[step, 0, 255 - step] for step in STEPS] if colour else STEPS)
    with pytest.raises(ImageUnreadable, match="differ in size"):
        row(compressed(frame, "1.2.840.10008.1.2.4.110", stored, **tags, Rows=15))


def test_a_jpeg_xl_file_that_is_too_large_is_refused_before_it_is_decoded():
    content = (FRAMES / "jxl_8").read_bytes()
    with pytest.raises(ImageTooLarge, match="16 × 16"):
        read_image(content, limits=ImageLimits(max_pixels=255))


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        ("1.2.840.10008.1.2.4.100", "video.*MPEG2"),
        ("1.2.840.10008.1.2.4.102", "video.*MPEG-4"),
        ("1.2.840.10008.1.2.4.107", "video.*HEVC"),
        ("1.2.840.10008.1.2.4.94", "JPIP.*1.2.840.10008.1.2.4.94"),
        ("1.2.840.10008.1.2.4.999", "1.2.840.10008.1.2.4.999"),
    ],
)
def test_what_is_not_decoded_is_named(syntax, words):
    with pytest.raises(ImageUnsupported, match=words):
        row(compressed(b"\0\0\0\0", syntax))


def test_a_damaged_frame_is_named_by_syntax_and_process():
    content = (FRAMES / "jpeg_progressive_12").read_bytes()
    with pytest.raises(ImageUnreadable, match=r"JPEG Extended.*progressive JPEG"):
        row(compressed(content[:120], "1.2.840.10008.1.2.4.55"))


def test_twelve_bits_allocated():
    made = dataset(np.concatenate([RAMP, RAMP[:, ::-1]]).reshape(2, 16, 16), **TWELVE, **WINDOW)
    bits = np.unpackbits(
        np.concatenate([RAMP, RAMP[:, ::-1]]).view(np.uint8).reshape(-1, 2), axis=1, bitorder="little"
    )
    made.BitsAllocated, made.PixelData = 12, np.packbits(bits[:, :12], bitorder="little").tobytes()
    data = written(made)
    assert np.asarray(read_image(data, frame=0))[3].tolist() == STEPS
    assert np.asarray(read_image(data, frame=1))[3].tolist() == STEPS[::-1]
    made.PixelData = made.PixelData[:-20]
    with pytest.raises(ImageUnreadable, match="12 bits"):
        read_image(written(made), frame=1)


@pytest.mark.parametrize("packed", [True, False])
def test_run_length_coded_bits(packed):
    bits = (np.indices((16, 16)).sum(0) % 3 == 0).astype(np.uint8)
    content = np.packbits(bits, bitorder="little").tobytes() if packed else bits.tobytes()
    segment = b"".join(
        bytes([len(part) - 1]) + part for part in (content[i : i + 100] for i in range(0, len(content), 100))
    )
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    tags = {"BitsAllocated": 1, "HighBit": 0}
    found = np.asarray(read_image(compressed(header + segment, RLELossless, 1, **tags)))
    assert found.tolist() == (bits * 255).tolist()


@pytest.mark.parametrize(
    "keyword",
    [
        "BitsStored",
        "PixelRepresentation",
        "PhotometricInterpretation",
        "BitsAllocated",
        "Rows",
        "SamplesPerPixel",
        "PixelData",
    ],
)
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_element_is_named(keyword, empty):
    made = dataset(RAMP)
    if empty:
        made[keyword].value = b"" if keyword == "PixelData" else None
    else:
        del made[keyword]
    with pytest.raises(
        ImageError, match="no pixel data" if keyword == "PixelData" and not empty else keyword
    ):
        row(written(made))


def test_a_missing_planar_configuration_is_named_where_it_matters(make_image):
    made = dataset(np.zeros((4, 4, 3), np.uint8))
    del made.PlanarConfiguration
    with pytest.raises(ImageUnreadable, match=r"PlanarConfiguration \(0028,0006\)"):
        row(written(made))
    import io

    file = io.BytesIO()
    make_image("RGB", (16, 16)).save(file, "JPEG")
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "BitsAllocated": 8}
    assert read_image(compressed(file.getvalue(), "1.2.840.10008.1.2.4.50", 8, **tags)).mode == "RGB"


# Colours


def segmented(red: list[int], *, depth: int = 16, count: int = 256) -> bytes:
    made = dataset(np.tile(np.arange(256, dtype=np.uint8), (4, 1)), PhotometricInterpretation="PALETTE COLOR")
    kind = "<u2" if depth > 8 else "u1"
    flat = [0, 1, 0, 1, count - 1, 0]
    for colour, words in (("Red", red), ("Green", flat), ("Blue", flat)):
        made.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [count % 65536, 0, depth])
        data = np.array(words, kind).tobytes()
        made.add_new(f"Segmented{colour}PaletteColorLookupTableData", "OW", data + b"\0" * (len(data) % 2))
    return written(made)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([0, 1, 0, 1, 255, 65535], list(range(256))),
        ([0, 2, 0, 65535, 1, 254, 65535], [0] + [255] * 255),
        ([0, 1, 0, 1, 127, 65535, 2, 2, 0, 0], [0, *np.rint(np.arange(1, 128) / 127 * 255)] * 2),
        ([0, 1, 65535, 1, 255, 0], list(range(256))[::-1]),
    ],
)
def test_segmented_palettes(words, wanted):
    found = np.asarray(read_image(segmented(words)))[0, :, 0]
    assert np.abs(found - np.array(wanted, float)).max() <= 1


def test_segmented_palettes_of_bytes():
    assert np.asarray(read_image(segmented([0, 1, 0, 1, 255, 255], depth=8)))[0, :, 0].tolist() == list(
        range(256)
    )


@pytest.mark.parametrize(
    "words", [[1, 255, 9], [3, 1, 1], [0, 99, 1], [0, 1, 5, 2, 60000, 6, 0], [2, 9, 0, 0]]
)
def test_damaged_segmented_palettes_end(words):
    try:
        read_image(segmented(words))
    except ImageError as error:
        assert "palette" in str(error) or "lookup table" in str(error)


@pytest.mark.parametrize("photometric", ["monochrome2", "Monochrome2", " MONOCHROME2 "])
def test_photometric_interpretations_in_small_letters(photometric):
    made = raw(dataset(RAMP, **TWELVE, **WINDOW), "PhotometricInterpretation", "CS", photometric.encode())
    assert row(made) == STEPS


def test_partial_range_colours():
    pixels = np.zeros((4, 4, 3), np.uint8)
    made = dataset(pixels, PhotometricInterpretation="YBR_PARTIAL_422")
    made.PixelData = bytes([16, 235, 128, 128] * 8)
    assert row(written(made)) == [0, 255, 0, 255]
    made.PixelData = bytes([81, 81, 90, 240] * 8)  # BT.601 red
    assert np.abs(np.array(row(written(made))) - [254, 0, 0]).max() <= 1


# Against dcmtk


def rendered(data: bytes, folder, *options: str) -> np.ndarray:
    """The file as dcmtk shows it, decompressed by dcmtk first."""
    source, plain, picture = folder / "a.dcm", folder / "b.dcm", folder / "c.pnm"
    source.write_bytes(data)
    for tool in ("dcmdjpeg", "dcmdjpls", "dcmdrle"):
        if not subprocess.run(
            [tool, "-q", str(source), str(plain)], capture_output=True, timeout=60
        ).returncode:
            break
    subprocess.run(["dcm2pnm", "-q", "+op", *options, str(plain), str(picture)], check=True, timeout=60)
    content = picture.read_bytes()
    depth = 3 if content.startswith(b"P6") else 1
    height, width = pydicom.dcmread(plain).Rows, pydicom.dcmread(plain).Columns
    return (
        np.frombuffer(content[-height * width * depth :], np.uint8)
        .reshape(height, width, depth)
        .squeeze()
        .astype(int)
    )


@pytest.mark.skipif(not shutil.which("dcm2pnm"), reason="needs dcmtk")
@pytest.mark.parametrize(
    "data",
    [
        written(dataset(RAMP << 4, BitsStored=12, HighBit=15, **WINDOW)),
        written(dataset(RAMP, **TWELVE, PresentationLUTShape="INVERSE", **WINDOW)),
        written(
            dataset(
                RAMP,
                BitsStored=12,
                HighBit=11,
                PresentationLUTShape="IDENTITY",
                PhotometricInterpretation="MONOCHROME1",
                **WINDOW,
            )
        ),
        written(dataset(RAMP, **TWELVE, RescaleSlope=0, RescaleIntercept=0, **WINDOW)),
        raw(dataset(RAMP, **TWELVE, WindowWidth=4096), "WindowCenter", "DS", b"2048,0"),
        compressed("jpeg_extended_12_se0", "1.2.840.10008.1.2.4.51", 12, **WINDOW),
        compressed("jpeg_spectral_12", "1.2.840.10008.1.2.4.53", 12, **WINDOW),
        compressed("jpeg_progressive_12", "1.2.840.10008.1.2.4.55", 12, **WINDOW),
        compressed("jpeg_lossless_16", "1.2.840.10008.1.2.4.70", 12, **WINDOW),
        compressed("jpegls_12", "1.2.840.10008.1.2.4.80", 12, **WINDOW),
    ],
)
def test_dcmtk_shows_the_same(data, tmp_path):
    assert np.abs(np.asarray(read_image(data), int) - rendered(data, tmp_path, "+Wi", "1")).max() <= 1


def test_notes_go_to_our_own_log(caplog):
    caplog.set_level(logging.WARNING)
    row(raw(dataset(RAMP, **TWELVE, WindowWidth=4096), "WindowCenter", "DS", b"AUTO"))
    assert {record.name.split(".")[0] for record in caplog.records} == {"gsco"}


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"WindowCenter": "AUTO", "WindowWidth": "AUTO"}, "window of the DICOM file cannot be read"),
        ({"WindowCenter": "2048,0", "WindowWidth": "4096,0"}, "decimal comma"),
        ({"RescaleSlope": "0", "RescaleIntercept": "1"}, "rescale slope of the DICOM file is 0"),
        ({}, None),
    ],
)
def test_repairs_stand_in_the_reference_of_the_image(tags, words, store):
    """Also where another process finds the image by its id; and no value of the file is quoted."""
    data = written(dataset(RAMP, **TWELVE))
    for keyword, value in tags.items():
        made = pydicom.dcmread(io.BytesIO(data))
        data = raw(made, keyword, "LO", value.encode())
    ref = store.put(data)
    assert len(ref.repairs) == bool(words) and all(words in one for one in ref.repairs)
    assert ImageStore(store.folder).resolve(ref.id) == ref
    assert not {"AUTO", "2048,0"} & set(" ".join(ref.repairs).split())


def test_repairs_of_compressed_frames_stand_in_the_reference(store):
    values = np.tile(np.linspace(-1000, 1000, 64).astype(np.int16), (64, 1))
    frame = bytes(encode_array(values, bits_stored=16, photometric_interpretation=2))
    made = dataset(values.astype(np.uint16), JPEG2000Lossless)
    made.PixelData = encapsulate([frame])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    assert "the frame was believed" in store.put(written(made)).repairs[0]
    old = compressed("jpeg_extended_12_se0", JPEGExtended12Bit)
    assert "all were decoded" in store.put(old).repairs[0]
    assert store.put(RAMP).repairs == ()

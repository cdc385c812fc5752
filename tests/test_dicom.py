import io
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from gsco.errors import ImageError, ImageMissing, ImageTooLarge, ImageUnreadable, ImageUnsupported
from gsco.images import ImageLimits, ImageStore, read_image
from gsco.images.headers import ReadBudgetBytesIO
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_color_lut, apply_rescale, apply_windowing
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from .dicom_files import NAME, dataset, written

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


def read(pixels: np.ndarray, *, frame=None, window=None, limits=None, **tags) -> list:
    """What comes out for these pixels, as nested lists."""
    image = read_image(
        written(dataset(pixels, **tags)), frame=frame, window=window, limits=limits or ImageLimits()
    )
    return np.asarray(image).tolist()


def table(first: int, entries: list[int], depth: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, depth])
    item.add_new("LUTData", "US", entries)
    return item


# From stored values to grey


def test_8_bit_without_window_is_left_alone():
    assert read(np.array([[3, 100, 200]], np.uint8)) == [[3, 100, 200]]


def test_fewer_bits_are_spread_over_the_range():
    assert read(np.array([[0, 5, 15]], np.uint8), BitsStored=4, HighBit=3) == [[0, 85, 255]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.int32])
def test_deep_values_without_window_take_the_frames_range(dtype):
    assert read(np.array([[1000, 1500, 2000]], dtype)) == [[0, 128, 255]]
    assert read(np.full((2, 2), 1000, dtype)) == [[0, 0], [0, 0]]


def test_padding_is_left_out_of_the_range():
    pixels = np.array([[-2000, -1000, 0, 1000]], np.int16)
    padding = pydicom.DataElement("PixelPaddingValue", "SS", -2000)
    made = dataset(pixels)
    made.add(padding)
    assert np.asarray(read_image(written(made))).tolist() == [[0, 0, 128, 255]]


def test_rescale_then_window():
    # CT: stored = HU + 1024; LINEAR window of 40 ± 200, as the standard writes it.
    units = np.array([[-1024, -160, -159, 40, 239, 240, 3000]])
    pixels = (units + 1024).astype(np.uint16)
    window = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    exact = np.clip((units - 39.5) / 399 + 0.5, 0, 1)
    expected = np.rint(exact * 255).astype(int).tolist()
    assert read(pixels, **window) == expected
    assert expected[0][0] == expected[0][1] == 0
    assert expected[0][-2:] == [255, 255]


def test_window_functions():
    pixels = np.array([[0, 50, 100, 150, 200]], np.uint16)
    window = {"WindowCenter": 100, "WindowWidth": 100}
    assert read(pixels, VOILUTFunction="LINEAR_EXACT", **window) == [[0, 0, 128, 255, 255]]
    sigmoid = np.rint(255 / (1 + np.exp(-4 * (pixels - 100.0) / 100))).astype(int).tolist()
    assert read(pixels, VOILUTFunction="SIGMOID", **window) == sigmoid
    assert read(pixels, WindowCenter=100, WindowWidth=1) == [[0, 0, 255, 255, 255]]


def test_the_first_of_several_windows_is_taken():
    pixels = np.array([[0, 100, 150, 200, 1000]], np.uint16)
    tags = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": [150, 500], "WindowWidth": [100, 1000]}
    assert read(pixels, **tags) == [[0, 0, 128, 255, 255]]


def test_the_callers_window_comes_first():
    pixels = np.array([[0, 100, 150, 200, 1000]], np.uint16)
    tags = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": 500, "WindowWidth": 1000}
    assert read(pixels, window=(150, 100), **tags) == [[0, 0, 128, 255, 255]]
    assert read(pixels, window=(500, 1000), **tags) == read(pixels, **tags)
    assert read(pixels, window=(150, 100), VOILUTSequence=[table(0, [0, 255], 8)])[0][0] == 0


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_an_impossible_window_in_the_file_counts_as_absent(width):
    assert read(np.array([[1000, 1500, 2000]], np.uint16), WindowCenter=1, WindowWidth=width) == [
        [0, 128, 255]
    ]


def test_lookup_tables():
    pixels = np.array([[0, 10, 11, 12, 99]], np.uint16)
    voi = table(10, [0, 2048, 4095], 12)
    assert read(pixels, VOILUTSequence=[voi], WindowCenter=5, WindowWidth=2) == [[0, 0, 128, 255, 255]]
    modality = table(10, [100, 150, 200], 16)
    tags = {
        "ModalityLUTSequence": [modality],
        "VOILUTFunction": "LINEAR_EXACT",
        "WindowCenter": 150,
        "WindowWidth": 100,
    }
    assert read(pixels, **tags) == [[0, 0, 128, 255, 255]]


def test_monochrome1_is_monochrome2_inverted():
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 9
    tags = {"WindowCenter": 1000, "WindowWidth": 900}
    light = np.array(read(pixels, **tags))
    assert np.array_equal(read(pixels, PhotometricInterpretation="MONOCHROME1", **tags), 255 - light)
    assert len(np.unique(light)) > 50


def test_float_pixels():
    made = dataset(np.zeros((1, 3), np.uint32))
    del made.PixelData, made.PixelRepresentation, made.BitsStored, made.HighBit
    made.FloatPixelData = np.array([[-1.0, 0.0, 1.0]], np.float32).tobytes()
    made.BitsAllocated = 32
    assert np.asarray(read_image(written(made))).tolist() == [[0, 128, 255]]


def test_enhanced_frames_bring_their_own_rescale_and_window():
    def groups(intercept: int, center: int) -> Dataset:
        item, rescale, voi = Dataset(), Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = 1, intercept
        voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = center, 100, "LINEAR_EXACT"
        item.PixelValueTransformationSequence, item.FrameVOILUTSequence = [rescale], [voi]
        return item

    frames = np.array([[[0, 50, 100, 100]]] * 3, np.uint16)
    each = [groups(0, 50), groups(1000, 1050), groups(0, 0)]
    for number, expected in enumerate([[0, 128, 255, 255], [0, 128, 255, 255], [128, 255, 255, 255]]):
        assert read(frames, frame=number, PerFrameFunctionalGroupsSequence=each) == [expected]
    assert read(frames, SharedFunctionalGroupsSequence=[groups(0, 50)]) == [[0, 128, 255, 255]]


# Colours


def test_rgb_and_equal_channels():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(read(pixels), pixels)
    grey = np.repeat(pixels[..., :1], 3, axis=-1)
    assert np.array_equal(read(grey), grey[..., 0])
    assert np.array_equal(read(pixels.astype(np.uint16) * 257), pixels)


def test_planar_colours():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    made = dataset(pixels, PlanarConfiguration=1)
    made.PixelData = pixels.transpose(2, 0, 1).tobytes() + b"\0"
    assert np.array_equal(np.asarray(read_image(written(made))), pixels)


def test_ybr_full_becomes_rgb():
    # Red, green and grey by the equations of PS3.3 C.7.6.3.1.2.
    pixels = np.array([[[76, 85, 255], [150, 44, 21], [128, 128, 128]]], np.uint8)
    found = np.array(read(pixels, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(found - [[[254, 0, 0], [0, 255, 1], [128, 128, 128]]]).max() <= 1


@pytest.mark.parametrize("deep", [False, True])
def test_palette_colours(deep):
    colours = np.array([[255, 0, 0], [0, 128, 0], [10, 20, 30]])
    made = dataset(np.array([[4, 5, 6, 7, 0]], np.uint16), PhotometricInterpretation="PALETTE COLOR")
    for number, colour in enumerate(("Red", "Green", "Blue")):
        name = f"{colour}PaletteColorLookupTable"
        made.add_new(f"{name}Descriptor", "US", [3, 4, 16 if deep else 8])
        entries = colours[:, number] * (257 if deep else 1)
        data = entries.astype("<u2" if deep else "u1").tobytes()
        made.add_new(f"{name}Data", "OW", data + b"\0" * (len(data) % 2))
    found = np.asarray(read_image(written(made)))
    assert found.tolist() == [colours[[0, 1, 2, 2, 0]].tolist()]


def test_colours_that_are_not_handled():
    pixels = np.zeros((2, 2, 3), np.uint8)
    for name in ("HSV", "YBR_PARTIAL_420", "NONSENSE", ""):
        with pytest.raises((ImageUnsupported, ImageUnreadable)):
            read(pixels, PhotometricInterpretation=name)
    with pytest.raises(ImageUnsupported, match="palettes"):
        read(np.zeros((2, 2), np.uint8), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(ImageUnsupported, match="window"):
        read(pixels, window=(1, 2))
    with pytest.raises(ImageUnsupported, match="samples"):
        read(np.zeros((2, 2), np.uint8), SamplesPerPixel=2)


# Frames and limits


def test_the_middle_frame_is_the_default():
    frames = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    assert read(frames) == frames[2].tolist()
    assert read(frames[:4]) == frames[2].tolist()
    for number in range(5):
        assert read(frames, frame=number) == frames[number].tolist()
    for number in (5, -1):
        with pytest.raises(ImageMissing, match="0 to 4"):
            read(frames, frame=number)


def test_limits_are_checked_before_decoding():
    pixels = np.zeros((4, 6), np.uint8)
    with pytest.raises(ImageTooLarge, match="pixels"):
        read(pixels, limits=ImageLimits(max_pixels=23))
    # Without any pixels that could be decoded.
    with pytest.raises(ImageTooLarge, match="pixels"):
        read(pixels, Rows=60000, Columns=60000)
    with pytest.raises(ImageTooLarge, match="frames"):
        read(pixels, NumberOfFrames=2_000_000_000)
    with pytest.raises(ImageUnreadable):
        read(pixels, NumberOfFrames=-3)
    for side in ("Rows", "Columns"):
        with pytest.raises(ImageUnreadable, match="0"):
            read(pixels, **{side: 0})


def test_a_deflated_file_that_swells_is_refused():
    made = dataset(np.zeros((100, 100), np.uint8), DeflatedExplicitVRLittleEndian)
    data = written(made)
    assert read_image(data).size == (100, 100)
    limits = ImageLimits(max_bytes=9_000)
    assert len(data) < limits.max_bytes
    with pytest.raises(ImageTooLarge, match="deflated"):
        read_image(data, limits=limits)


@pytest.mark.parametrize("undefined", [True, False])
def test_a_header_of_countless_elements_is_refused(undefined, monkeypatch):
    body = written(dataset(np.zeros((2, 2), np.uint8), ImplicitVRLittleEndian))
    start = body.index(b"\x28\x00\x02\x00")  # before SamplesPerPixel
    content = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x08\x00\x05\x00\0\0\0\0" * 5000
    content += b"\xfe\xff\x0d\xe0\0\0\0\0"
    if undefined:  # a sequence that nobody asks for is parsed all the same, to find its end
        sequence = b"\x08\x00\x40\x11\xff\xff\xff\xff" + content + b"\xfe\xff\xdd\xe0\0\0\0\0"
        data = body[:start] + sequence + body[start:]
    else:
        sequence = b"\x28\x00\x10\x30" + len(content).to_bytes(4, "little") + content
        start = body.index(b"\xe0\x7f\x10\x00")
        data = body[:start] + sequence + body[start:]
    monkeypatch.setattr(ReadBudgetBytesIO, "left", 4000)
    with pytest.raises(ImageTooLarge, match="elements"):
        read_image(data)


def test_a_compressed_frame_that_is_larger_than_the_header_says_is_refused(make_image):
    for syntax, options in (
        (JPEGBaseline8Bit, {"format": "JPEG"}),
        (JPEG2000Lossless, {"format": "JPEG2000"}),
    ):
        file = io.BytesIO()
        make_image("L", (64, 64)).save(file, no_jp2=True, **options)
        made = dataset(np.zeros((64, 64), np.uint8), syntax)
        made.PixelData = encapsulate([file.getvalue()])
        assert read_image(written(made)).size == (64, 64)
        made.Rows = made.Columns = 8
        with pytest.raises(ImageUnreadable, match="differ"):
            read_image(written(made))


def test_an_rle_frame_that_swells_is_refused():
    made = dataset(np.zeros((8, 8), np.uint8), RLELossless)
    run = b"\x81\x00" * 100_000  # each two bytes become 128
    header = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    made.PixelData = encapsulate([header + run])
    with pytest.raises(ImageUnreadable, match="differ"):
        read_image(written(made))


# Encodings


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_uncompressed_encodings(syntax):
    pixels = np.array([[0, 400, 800]], np.uint16)
    tags = {"RescaleSlope": 2, "RescaleIntercept": 5, "VOILUTFunction": "LINEAR_EXACT"}
    made = dataset(pixels, syntax, WindowCenter=805, WindowWidth=1600, **tags)
    assert np.asarray(read_image(written(made))).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_file_without_preamble(syntax):
    data = written(dataset(np.arange(200, dtype=np.uint8).reshape(10, 20), syntax), preamble=False)
    assert data[128:132] != b"DICM"
    assert np.array_equal(np.asarray(read_image(data)).ravel(), np.arange(200))


def test_what_only_begins_like_dicom():
    for start in (b"\x08\0\x05\0CS\x0a\0ISO_IR 100", b"\x02\0\0\0UL\4\0", b"\0\x08\0\x05CS\0\x0aISO_IR 100"):
        with pytest.raises(ImageUnreadable):
            read_image(start + bytes(500))
    with pytest.raises(ImageUnreadable):
        read_image(bytes(128) + b"DIC" + bytes(400))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_of_pydicoms_own_encoders(syntax):
    frames = np.random.default_rng(0).integers(0, 4000, (3, 64, 72), dtype=np.uint16)
    made = dataset(frames, WindowCenter=2000, WindowWidth=4000)
    expected = np.asarray(read_image(written(made), frame=1))
    made.compress(syntax)
    assert np.array_equal(np.asarray(read_image(written(made), frame=1)), expected)


# The files that come with pydicom


def shipped(name: str) -> np.ndarray:
    return np.asarray(read_image(SHIPPED / name), int)


@pytest.mark.parametrize(
    ("name", "size", "mode"),
    [
        ("693_J2KI.dcm", (512, 512), "L"),  # JPEG 2000, window
        ("CT_small.dcm", (128, 128), "L"),
        ("ExplVR_BigEnd.dcm", (80, 60), "RGB"),
        ("GDCMJ2K_TextGBR.dcm", (400, 400), "RGB"),  # a whole JP2 file in the frame
        ("J2K_pixelrep_mismatch.dcm", (512, 512), "L"),  # three windows
        ("JPEG2000.dcm", (256, 1024), "L"),
        ("JPEG-lossy.dcm", (256, 1024), "L"),  # 12 bit, Se = 0 in the scan header
        ("JPGExtended.dcm", (256, 1024), "L"),  # 12 bit
        ("JPEGLSNearLossless_08.dcm", (10, 45), "L"),
        ("JPEGLSNearLossless_16.dcm", (10, 50), "L"),
        ("SC_rgb_small_odd.dcm", (3, 3), "RGB"),
        ("SC_rgb_small_odd_jpeg.dcm", (3, 3), "RGB"),
        ("examples_jpeg2k.dcm", (640, 480), "RGB"),
        ("examples_overlay.dcm", (484, 300), "L"),
        ("examples_palette.dcm", (800, 350), "RGB"),
        ("examples_rgb_color.dcm", (320, 240), "RGB"),
        ("examples_ybr_color.dcm", (320, 240), "RGB"),  # 30 frames of JPEG
        ("image_dfl.dcm", (512, 512), "L"),  # deflated
        ("liver_1frame.dcm", (512, 512), "L"),  # one bit per pixel
        ("rtdose.dcm", (10, 10), "L"),  # 15 frames of 32 bit
        ("dicomdirtests/77654033/CR1/6154", (16, 16), "L"),  # MONOCHROME1
    ],
)
def test_shipped_files_read(name, size, mode):
    image = read_image(SHIPPED / name)
    assert (image.size, image.mode) == (size, mode)
    assert len(image.getcolors(maxcolors=10**6) or ()) > 1


@pytest.mark.parametrize(
    "kind", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"]
)
def test_one_mr_slice_in_many_encodings(kind):
    assert np.array_equal(shipped(f"MR_small_{kind}.dcm"), shipped("MR_small.dcm"))


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cr",
        "SC_rgb_dcmtk_+eb+cy+n1",
        "SC_rgb_dcmtk_+eb+cy+n2",
        "SC_rgb_dcmtk_+eb+cy+np",
        "SC_rgb_dcmtk_+eb+cy+s2",
        "SC_rgb_dcmtk_+eb+cy+s4",
        "SC_rgb_gdcm_KY",
        "SC_rgb_jls_lossy_line",
        "SC_rgb_jls_lossy_sample",
        "SC_rgb_jpeg_dcmtk",
        "SC_rgb_jpeg_gdcm",
        "SC_rgb_jpeg_lossy_gdcm",
        "SC_rgb_rle_16bit",
        "SC_rgb_rle_32bit",
        "SC_ybr_full_422_uncompressed",
    ],
)
def test_one_colour_chart_in_many_encodings(name):
    difference = np.abs(shipped(f"{name}.dcm") - shipped("SC_rgb_rle.dcm"))
    assert np.median(difference) <= 3
    assert difference.mean() < 3


def test_rle_frames():
    assert np.array_equal(
        np.asarray(read_image(SHIPPED / "SC_rgb_rle_2frame.dcm", frame=0)),
        np.asarray(shipped("SC_rgb_rle.dcm")),
    )


def test_the_palette_agrees_with_pydicoms():
    source = pydicom.dcmread(SHIPPED / "examples_palette.dcm")
    expected = apply_color_lut(source.pixel_array, source)
    assert (
        np.abs(shipped("examples_palette.dcm") - expected // (1 if expected.dtype == np.uint8 else 257)).max()
        <= 1
    )


def test_the_window_agrees_with_pydicoms():
    source = pydicom.dcmread(SHIPPED / "dicomdirtests/98892001/CT5N/2062")
    values = apply_rescale(source.pixel_array, source)
    windowed = apply_windowing(values, source)
    ends = [
        source.RescaleIntercept,
        (2**source.BitsStored - 1) * source.RescaleSlope + source.RescaleIntercept,
    ]
    if source.PixelRepresentation:
        half = 2 ** (source.BitsStored - 1)
        ends = [end * source.RescaleSlope + source.RescaleIntercept for end in (-half, half - 1)]
    expected = (windowed - ends[0]) / (ends[1] - ends[0]) * 255
    assert np.abs(shipped("dicomdirtests/98892001/CT5N/2062") - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("rtplan.dcm", ImageUnsupported),
        ("test-SR.dcm", ImageUnsupported),
        ("waveform_ecg.dcm", ImageUnsupported),
        ("dicomdirtests/DICOMDIR", ImageUnsupported),
        ("MR_truncated.dcm", ImageUnreadable),
        ("JPEG2000-embedded-sequence-delimiter.dcm", ImageUnreadable),
        ("badVR.dcm", ImageUnreadable),
        ("no_meta.dcm", ImageUnreadable),
        ("meta_missing_tsyntax.dcm", ImageUnreadable),
        ("README.txt", ImageUnreadable),
        ("zipMR.gz", ImageUnsupported),
    ],
)
def test_shipped_files_that_are_no_images(name, error):
    with pytest.raises(error):
        read_image(SHIPPED / name)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPEG2000.dcm", "image_dfl.dcm"]
)
def test_truncated_files_are_errors(name, share):
    data = (SHIPPED / name).read_bytes()
    with pytest.raises(ImageError):
        read_image(data[: int(len(data) * share)])


# Decoders that are not there


def test_a_video_is_not_handled():
    made = dataset(np.zeros((4, 4, 3), np.uint8), MPEG2MPML)
    made.PixelData = encapsulate([b"0000"])
    with pytest.raises(ImageUnsupported, match="video"):
        read_image(written(made))


def test_a_missing_decoder_is_named():
    script = f"""
import sys
sys.modules["pylibjpeg"] = sys.modules["libjpeg"] = sys.modules["openjpeg"] = None
from pathlib import Path
from gsco.images import read_image
from gsco.errors import ImageUnsupported, ImageUnreadable
folder = Path({str(SHIPPED)!r})
expected = {{"MR_small_jpeg_ls_lossless.dcm": ImageUnsupported, "JPGExtended.dcm": ImageUnreadable}}
for name, error in expected.items():
    try:
        read_image(folder / name)
    except error as caught:
        assert "pylibjpeg-libjpeg" in str(caught), str(caught)
    else:
        raise SystemExit(name + " was read")
assert read_image(folder / "SC_rgb_jpeg_dcmtk.dcm").size == (100, 100)  # Pillow knows plain JPEG
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# Privacy


def swapped(data: bytes, old: bytes) -> bytes:
    """The same file with the patient's name in the place of something else."""
    assert old in data
    return data.replace(old, NAME.encode().ljust(len(old))[: len(old)])


def test_no_patient_data_is_stored_or_logged(tmp_path, caplog, capfd):
    made = dataset(np.arange(600, dtype=np.uint16).reshape(20, 30))
    made.SOPInstanceUID = "1.2.34567890123"
    data = swapped(written(made), b"1.2.34567890123")
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    (tmp_path / "scan.dcm").write_bytes(data)
    store = ImageStore(tmp_path / "images")
    ref = store.put(tmp_path / "scan.dcm")
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    assert len(files) == 1
    assert all(NAME.encode() not in path.read_bytes() and NAME not in str(path) for path in files)
    assert NAME not in ref.model_dump_json()
    assert store.get(ref).info == {}
    assert caplog.text == ""
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("TransferSyntaxUID", ExplicitVRLittleEndian),
        ("RescaleSlope", "1234567890123456"),
        ("NumberOfFrames", "123456789012"),
        ("PhotometricInterpretation", "MONOCHROME2"),
    ],
)
def test_patient_data_does_not_leave_with_an_error(keyword, value, caplog, capfd):
    made = dataset(np.zeros((4, 4), np.uint16), WindowWidth=5, RescaleIntercept=0)
    if keyword != "TransferSyntaxUID":
        setattr(made, keyword, value)
    data = swapped(written(made), value.encode())
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    with pytest.raises(ImageError) as caught:
        read_image(data)
    assert NAME[:5] not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert caplog.text == ""
    assert "".join(capfd.readouterr()) == ""


def test_patient_data_in_the_place_of_a_window_stays_there(caplog, capfd):
    made = dataset(np.array([[1000, 1500, 2000]], np.uint16), WindowWidth=5, WindowCenter="1234567890123456")
    data = swapped(written(made), b"1234567890123456")
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    assert np.asarray(read_image(data)).tolist() == [[0, 128, 255]]
    assert "window" in caplog.text
    assert NAME[:5] not in caplog.text
    assert "".join(capfd.readouterr()) == ""


def test_pydicom_alone_would_have_told():
    # So that the two tests above can fail.
    data = swapped(written(dataset(np.zeros((4, 4), np.uint8))), ExplicitVRLittleEndian.encode())
    with pytest.warns(UserWarning, match=NAME[:5]):
        pydicom.dcmread(io.BytesIO(data))


def test_a_warning_of_pydicom_does_not_become_an_error():
    made = dataset(np.zeros((4, 4), np.uint8))
    made.PixelData = bytes(18)
    data = written(made)
    with pytest.warns(UserWarning, match="padding"):
        assert pydicom.dcmread(io.BytesIO(data)).pixel_array.shape == (4, 4)
    assert read_image(data).size == (4, 4)

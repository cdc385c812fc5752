"""Thin and large images: refused or reduced before they take memory, and decoded within one budget."""

import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from gsco.errors import ImageError, ImageTooLarge
from gsco.images import ImageLimits, ImageStore, read_image
from gsco.images.jpeg_2000 import reduced_j2k
from gsco.images.memory import MemoryBudget
from gsco.images.scale import reduction
from gsco.images.tiff_bands import reduced_page
from gsco.tools.specialists import PIXELS, _parts
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from .dicom_files import dataset, written
from .memory import peak_above_rest

LARGE = (8000, 8000)


def png(width: int, height: int, *, colour: bool = False) -> bytes:
    """A black PNG of any size, a thousandth of its pixels in bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = bytes(1 + width * (3 if colour else 1))
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if colour else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("size", [(1, 4_000_000), (4_000_000, 1), (2, 129), (500, 32_769)])
def test_thin_and_long_images_are_refused(size):
    with pytest.raises(ImageTooLarge, match=r"(?s)pixels.*(side|crop)"):
        read_image(png(*size))


@pytest.mark.parametrize("size", [(1, 64), (64, 1), (512, 32_768), (1, 1)])
def test_images_within_the_limits_are_read(size):
    assert read_image(png(*size)).size == size


def test_a_thin_array_or_picture_is_refused_by_the_store(store):
    for thin in (np.zeros((1, 4000), np.uint8), Image.new("L", (4000, 1))):
        with pytest.raises(ImageTooLarge):
            store.put(thin)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_a_large_image_is_reduced(kind):
    limits = ImageLimits(max_decoded_pixels=10_000)
    ramp = np.tile(np.linspace(0, 255, 400), (300, 1)).astype(np.uint8)
    image = read_image(saved(Image.fromarray(ramp), kind), limits=limits)
    assert image.width * image.height <= 10_000
    assert abs(image.width / image.height - 4 / 3) < 0.05
    row = np.asarray(image.convert("L"), float).mean(0)
    assert np.abs(row - np.linspace(0, 255, len(row))).max() < 6


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "CMYK", "I;16"])
def test_any_mode_is_reduced(mode):
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    made = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200) if mode == "I;16" else image.convert(mode)
    read = read_image(saved(made, "TIFF"), limits=ImageLimits(max_decoded_pixels=10_000))
    assert read.width * read.height <= 10_000


def tiled(pixels: np.ndarray, side: int, *, order: str = "<", packed: bool = True) -> bytes:
    """A tiled TIFF file of grey (h, w) or colour (h, w, 3) pixels."""
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    pad = [(0, -height % side), (0, -width % side)] + [(0, 0)] * (pixels.ndim - 2)
    padded = np.pad(pixels, pad)
    tiles = [
        padded[top : top + side, left : left + side].tobytes()
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
    body = [zlib.compress(tile) if packed else tile for tile in tiles]
    offsets, place = [], 8
    for tile in body:
        offsets.append(place)
        place += len(tile)
    tables = struct.pack(f"{order}{2 * len(body)}I", *offsets, *map(len, body))
    bits = struct.pack(f"{order}{samples}H", *[8] * samples)
    values = {
        256: width,
        257: height,
        259: 8 if packed else 1,
        262: 2 if samples == 3 else 1,
        277: samples,
        322: side,
        323: side,
    }
    entries = {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in values.items()}
    at = place + len(tables)
    short = struct.pack(f"{order}HHI", 258, 3, samples)
    entries[258] = short + (struct.pack(f"{order}I", at) if samples == 3 else bits + b"\0\0")
    for tag, start in ((324, place), (325, place + 4 * len(body))):
        entries[tag] = struct.pack(f"{order}HHII", tag, 4, len(body), start)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    header = mark + struct.pack(f"{order}I", at + len(bits))
    return header + b"".join(body) + tables + bits + directory + bytes(4)


def smooth(width: int, height: int, channels: int = 1) -> np.ndarray:
    small = np.random.default_rng(1).integers(0, 255, (height // 9, width // 9, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(small).resize((width, height)))
    return image if channels == 3 else image[..., 0].copy()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [True, False], ids=["deflate", "raw"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("most", [500_000, 90_000, 20_000])
def test_a_tiled_file_is_reduced_band_by_band(order, packed, channels, most, monkeypatch):
    """And its pixels are those of the file decoded as a whole, whatever the factor."""
    data = tiled(smooth(1001, 1203, channels), 64, order=order, packed=packed)
    reads = banded(monkeypatch)
    image = read_image(data, limits=ImageLimits(max_decoded_pixels=most))
    assert reads == [True]
    whole = read_image(data)
    assert whole.size == (1001, 1203)
    factor = reduction(*whole.size, most)
    assert np.array_equal(np.asarray(image), np.asarray(whole.reduce(factor)))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("rows", [16, 40])
def test_strips_are_reduced_band_by_band(compression, rows, monkeypatch):
    image = Image.fromarray(smooth(1001, 1203, 3))
    options = {"compression": compression, "strip_size": 3 * 1001 * rows, "tiffinfo": {278: rows}}
    data = saved(image, "TIFF", **options)
    reads = banded(monkeypatch)
    read = read_image(data, limits=ImageLimits(max_decoded_pixels=90_000))
    assert reads == [True]
    assert np.array_equal(np.asarray(read), np.asarray(read_image(data).reduce(4)))


def test_tiles_that_overlap_are_not_read_band_by_band(monkeypatch):
    """A file of a few tiles may name each of them a thousand times, and every band would copy them."""
    data = bytearray(tiled(np.zeros((2048, 2048), np.uint8), 16, packed=False))
    reads = banded(monkeypatch)
    place = 8 + 2048 * 2048
    data[place : place + 8] = struct.pack("<2I", 8, 8)
    data[place + 4 * 128**2 : place + 4 * 128**2 + 4] = struct.pack("<I", 2**22)
    with suppress(ImageError):
        read_image(bytes(data), limits=ImageLimits(max_decoded_pixels=90_000))
    assert reads == [False]


def test_a_truncated_tile_is_unreadable():
    data = tiled(smooth(1001, 1203), 64)
    broken = data[:20_000] + bytes(5000) + data[25_000:]
    for most in (2**24, 90_000):
        with pytest.raises(ImageError):
            read_image(broken, limits=ImageLimits(max_decoded_pixels=most))


def banded(monkeypatch) -> list[bool]:
    """Whether each TIFF file that is read from now on is decoded by bands."""
    reads: list[bool] = []

    def noted(*words):
        page = reduced_page(*words)
        reads.append(page is not None)
        return page

    monkeypatch.setattr("gsco.images.rasters.reduced_page", noted)
    return reads


def j2k(values: np.ndarray, bits: int, **tags) -> bytes:
    """A DICOM file with one JPEG 2000 frame."""
    colour = values.ndim == 3
    frame = bytes(encode_array(values, bits_stored=bits, photometric_interpretation=1 if colour else 2))
    made = dataset(values, JPEG2000Lossless, BitsStored=bits, HighBit=bits - 1)
    made.PixelData = encapsulate([frame])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return written(made)


@pytest.mark.parametrize(
    ("bits", "low", "high", "tags"),
    [
        (8, 0, 255, {}),
        (12, 0, 4095, {"WindowCenter": 2048, "WindowWidth": 4096}),
        (16, 0, 65535, {"PhotometricInterpretation": "MONOCHROME1"}),
        (12, -2048, 2047, {"WindowCenter": 0, "WindowWidth": 4096}),
        (16, -1000, 1000, {"RescaleSlope": 2, "RescaleIntercept": 5}),
        (16, -1000, 1000, {"PixelRepresentation": 0, "WindowCenter": 0, "WindowWidth": 4096}),
    ],
)
def test_jpeg_2000_is_decoded_at_a_lower_resolution(bits, low, high, tags, monkeypatch):
    kind = np.uint8 if bits == 8 else np.int16 if low < 0 else np.uint16
    ramp = np.linspace(0, 1, 600) + np.linspace(0, 1, 400)[:, None]
    data = j2k((low + ramp / 2 * (high - low)).astype(kind), bits, **tags)
    seen = levels(monkeypatch)
    half = read_image(data, limits=ImageLimits(max_decoded_pixels=60_000))
    assert seen == [(200, 300)]
    whole = read_image(data).reduce(2)
    assert half.size == whole.size == (300, 200)
    assert np.abs(np.asarray(half, int) - np.asarray(whole, int)).max() <= 2


def test_colours_in_jpeg_2000_are_decoded_at_a_lower_resolution(monkeypatch):
    ramp = np.linspace(20, 110, 601) + np.linspace(0, 120, 401)[:, None]
    pixels = np.stack([ramp, 250 - ramp, np.full_like(ramp, 90)], -1).astype(np.uint8)
    data = j2k(pixels, 8, PhotometricInterpretation="YBR_RCT")
    seen = levels(monkeypatch)
    half = read_image(data, limits=ImageLimits(max_decoded_pixels=61_000))
    assert seen == [(201, 301, 3)]
    assert np.abs(np.asarray(half, int) - np.asarray(read_image(data).reduce(2), int)).max() <= 3


def test_a_palette_in_jpeg_2000_is_decoded_as_a_whole(monkeypatch):
    """The mean of two entries of a palette is another colour."""
    table = b"".join(struct.pack("<H", 257 * value) for value in range(256))
    tags = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    tags |= {f"{name}PaletteColorLookupTableData": table for name in ("Red", "Green", "Blue")}
    data = j2k(smooth(600, 400), 8, PhotometricInterpretation="PALETTE COLOR", **tags)
    seen = levels(monkeypatch)
    half = read_image(data, limits=ImageLimits(max_decoded_pixels=60_000))
    assert seen == []
    assert np.array_equal(np.asarray(half), np.asarray(read_image(data).reduce(2)))


def levels(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of the JPEG 2000 frames that are decoded at a lower resolution from now on."""
    seen: list[tuple[int, ...]] = []

    def noted(*words):
        values = reduced_j2k(*words)
        seen.extend([] if values is None else [values.shape])
        return values

    monkeypatch.setattr("gsco.images.dicom_pixels.reduced_j2k", noted)
    return seen


@pytest.mark.attack
def test_a_large_tiled_file_takes_a_fraction_of_its_pixels(tmp_path):
    """36 megapixels in colour, 144 MB decoded."""
    (tmp_path / "large.tif").write_bytes(tiled(np.zeros((6000, 6000, 3), np.uint8), 256))
    limits = ImageLimits(max_decoded_pixels=2**21)
    assert peak_above_rest(lambda: read_image(tmp_path / "large.tif", limits=limits)) < 72 * 2**20


def test_an_image_of_twelve_megapixels_keeps_its_size():
    assert read_image(saved(Image.new("L", (4000, 3000)), "PNG")).size == (4000, 3000)


def test_the_factor_is_the_smallest_that_fits():
    assert [reduction(100, 100, most) for most in (10_000, 9_999, 2_500, 2_499, 1)] == [1, 2, 2, 3, 100]


def test_the_store_keeps_the_reduced_image(tmp_path):
    store = ImageStore(tmp_path, ImageLimits(max_decoded_pixels=10_000))
    ref = store.put(png(200, 150))
    assert (ref.width, ref.height) == (100, 75)
    assert store.get(ref.id).size == (100, 75)


# Files that keep a parser busy


def with_chunks(count: int) -> bytes:
    chunk = struct.pack(">I", 0) + b"prVt" + struct.pack(">I", zlib.crc32(b"prVt"))
    image = png(8, 8)
    return image[:33] + count * chunk + image[33:]


def with_segments(segment: bytes, count: int) -> bytes:
    image = saved(Image.new("L", (8, 8)), "JPEG")
    return image[:2] + segment * count + image[2:]


@pytest.mark.attack
@pytest.mark.parametrize(
    "made",
    [
        lambda: with_chunks(5_000_000),
        lambda: with_segments(b"\xff\xe5\0\2", 15_000_000),
        lambda: with_segments(b"\xff\xfe\0\2", 15_000_000),
        lambda: with_segments(b"\xff", 60_000_000),
        lambda: b"P5 #" + 60_000_000 * b"x",
        lambda: b"P5 #" + 30_000_000 * b"\n#",
        lambda: b"P2 8000 8000 255\n" + 30_000_000 * b"0 ",
        lambda: b"P3 8 8 255\n" + 30_000_000 * b"#\n",
        lambda: b"P1 8000 8000\n" + 60_000_000 * b"0",
    ],
    ids=["chunks", "segments", "comments", "padding", "header", "lines", "numbers", "remarks", "bits"],
)
def test_a_file_that_keeps_the_parser_busy_is_given_up(made):
    """Each of these of 60 MB took half a minute and more."""
    data, start = made(), time.process_time()
    with pytest.raises(ImageError):
        read_image(data)
    assert time.process_time() - start < 10


def encapsulated(frame: bytes, syntax: UID) -> bytes:
    made = dataset(np.zeros((64, 64), np.uint8), syntax)
    made.PixelData = encapsulate([frame], has_bot=False)
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    return written(made)


@pytest.mark.attack
@pytest.mark.parametrize(
    ("made", "syntax"),
    [
        (lambda: struct.pack("<16I", 1, 64, *[0] * 14) + 60_000_000 * b"\x80", RLELossless),
        (lambda: struct.pack("<16I", 1, 64, *[0] * 14) + 30_000_000 * b"\x81\0", RLELossless),
        (lambda: with_segments(b"\xff", 60_000_000), JPEGBaseline8Bit),
        (lambda: with_segments(b"\xff\xfe\0\2", 15_000_000), JPEGBaseline8Bit),
        (lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + 7_000_000 * b"\0\0\0\x08free", JPEG2000Lossless),
        (lambda: b"\xff\x4f" + 15_000_000 * b"\xff\x64\0\2", JPEG2000Lossless),
    ],
    ids=["nothing", "runs", "padding", "comments", "boxes", "j2k"],
)
def test_a_frame_that_keeps_the_parser_busy_is_given_up(made, syntax):
    data, start = encapsulated(made(), syntax), time.process_time()
    with suppress(ImageError):
        read_image(data)
    assert time.process_time() - start < 10


def test_ordinary_files_of_many_parts_are_read():
    assert read_image(with_chunks(10_000)).size == (8, 8)
    assert read_image(with_segments(b"\xff\xe5\0\2", 10_000)).size == (8, 8)
    assert read_image(b"P2 #" + 1000 * b"x" + b"\n2 2 255\n0 1 2 3\n").size == (2, 2)


def test_a_late_frame_of_a_large_animation_is_refused_and_an_early_one_read(monkeypatch):
    """To show frame 9,999 of 64 megapixels, all before it are composed."""
    monkeypatch.setattr("gsco.images.limits._MOST_COMPOSED_PIXELS", 5 * 300 * 300)
    frames = [Image.new("L", (300, 300), shade) for shade in range(10)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert np.asarray(read_image(data, frame=5)).max() == 5
    with pytest.raises(ImageTooLarge, match="save the frame as an image"):
        read_image(data, frame=6)
    pages = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert np.asarray(read_image(pages, frame=9)).max() == 9


# The budget


def test_the_budget_lets_in_what_fits_and_then_in_order():
    budget, begun, most = MemoryBudget(10), [], []

    def work(number: int, count: int) -> None:
        with budget.reserved(count):
            begun.append(number)
            most.append(budget.used)
            time.sleep(0.05)

    threads = []
    for number, count in enumerate((6, 6, 2, 100, 2)):
        threads.append(threading.Thread(target=work, args=(number, count)))
        threads[-1].start()
        time.sleep(0.01)
    for thread in threads:
        thread.join(10)
    assert begun == [0, 1, 2, 3, 4]
    assert max(most) <= 10 and budget.used == 0


def test_the_budget_is_given_back_after_an_error():
    budget = MemoryBudget(10)
    with pytest.raises(ZeroDivisionError), budget.reserved(10):
        _ = 1 / 0
    assert budget.used == 0


def test_large_images_go_through_a_network_in_small_batches(store):
    refs = [store.put(Image.new("L", (8 + number, 8))) for number in range(5)]
    huge = [ref.model_copy(update={"width": PIXELS // 16, "height": 8}) for ref in refs]
    assert [len(part) for part in _parts(refs)] == [5]
    assert [len(part) for part in _parts(huge)] == [2, 2, 1]


@pytest.mark.attack
def test_many_large_images_at_once_take_less_than_a_gigabyte(store, tmp_path):
    """Nine of 64 megapixels, as colour, all at once."""
    (tmp_path / "large.png").write_bytes(png(*LARGE, colour=True))
    Image.new("RGB", LARGE, (9, 99, 200)).save(tmp_path / "large.jpg")
    files = [tmp_path / "large.png", tmp_path / "large.jpg"] * 5

    def put() -> None:
        with ThreadPoolExecutor(9) as pool:
            sizes = {ref.width * ref.height for ref in pool.map(store.put, files[:9])}
        assert max(sizes) <= 2**24, sizes

    assert peak_above_rest(put) < 2**30

"""Thin and large images: refused or reduced before they take memory, and decoded within one budget."""

import io
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from gsco.errors import ImageTooLarge
from gsco.images import ImageLimits, ImageStore, read_image
from gsco.images.memory import MemoryBudget
from gsco.images.scale import reduction
from gsco.tools.specialists import PIXELS, _parts
from PIL import Image

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


def test_an_image_of_twelve_megapixels_keeps_its_size():
    assert read_image(saved(Image.new("L", (4000, 3000)), "PNG")).size == (4000, 3000)


def test_the_factor_is_the_smallest_that_fits():
    assert [reduction(100, 100, most) for most in (10_000, 9_999, 2_500, 2_499, 1)] == [1, 2, 2, 3, 100]


def test_the_store_keeps_the_reduced_image(tmp_path):
    store = ImageStore(tmp_path, ImageLimits(max_decoded_pixels=10_000))
    ref = store.put(png(200, 150))
    assert (ref.width, ref.height) == (100, 75)
    assert store.get(ref.id).size == (100, 75)


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
def test_many_large_images_at_once_take_less_than_a_gigabyte(tmp_path):
    """Nine of 64 megapixels, as colour, all at once in a process of its own."""
    (tmp_path / "large.png").write_bytes(png(*LARGE, colour=True))
    Image.new("RGB", LARGE, (9, 99, 200)).save(tmp_path / "large.jpg")
    script = f"""
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from gsco.images import ImageStore
import gsco.images.dicom
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
folder = Path({str(tmp_path)!r})
store = ImageStore(folder / "images")
before = peak()
files = [folder / "large.png", folder / "large.jpg"] * 5
with ThreadPoolExecutor(9) as pool:
    sizes = {{ref.width * ref.height for ref in pool.map(store.put, files[:9])}}
assert max(sizes) <= 2**24, sizes
print(peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) < 2**30

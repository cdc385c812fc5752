"""Files made to hurt: bombs of scans and runs, devices in tables, read-only folders, damaged inputs."""

from __future__ import annotations

import io
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from gsco import GSCo
from gsco.errors import ConfigurationError, GscoError, ImageError, ImageTooLarge, ImageUnreadable
from gsco.images import read_image
from gsco.models.dataset import read_dataset
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from ..forked import run_command
from ..fuzz.run import Failure, tried_many
from .conftest import environment

pytestmark = pytest.mark.attack

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


def progressive(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (9, 99, 200)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    scan = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + scan * scans + data[-2:]


def test_a_jpeg_of_many_scans_is_refused_at_once():
    bomb = progressive(3000, 3000, 60_000)
    start = time.monotonic()
    with pytest.raises(ImageTooLarge, match="60010 scans"):
        read_image(bomb)
    assert time.monotonic() - start < 1


def test_an_ordinary_progressive_jpeg_is_read():
    assert read_image(progressive(300, 200, 0)).size == (300, 200)


def rle(segment: bytes, count: int, rows: int = 64, columns: int = 64) -> bytes:
    """A DICOM file of one RLE frame with so many segments of these bytes."""
    made = pydicom.dcmread(SHIPPED / "MR_small_RLE.dcm")
    offsets = [64 + number * len(segment) for number in range(count)]
    header = np.array([count, *offsets, *[0] * (15 - count)], "<u4").tobytes()
    made.PixelData = encapsulate([header + segment * count])
    made.Rows, made.Columns = rows, columns
    made.file_meta.TransferSyntaxUID = RLELossless
    file = io.BytesIO()
    made.save_as(file)
    return file.getvalue()


@pytest.mark.parametrize("count", [1, 2, 15])
def test_an_rle_frame_that_swells_is_refused(count):
    """Two bytes become 128; ten megabytes would become 640."""
    bomb = rle(b"\x81\0" * (5 * 2**20 // count), count)
    start = time.monotonic()
    with pytest.raises((ImageUnreadable, ImageTooLarge)):
        read_image(bomb)
    assert time.monotonic() - start < 8


def test_a_table_cannot_name_devices_or_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", "/dev/stdin", "pipe", "a\0b.png", "x" * 5000):
        (tmp_path / "labels.csv").write_text(f"path,label\n{path},one\n", encoding="utf-8")
        start = time.monotonic()
        with pytest.raises(ConfigurationError):
            read_dataset(tmp_path)
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom", "pipe", "folder", "/proc/self/mem"])
def test_no_device_is_read_as_an_image(store, tmp_path, path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    start = time.monotonic()
    with pytest.raises(ImageError):
        store.put(tmp_path / path)
    assert time.monotonic() - start < 2


@pytest.mark.slow
def test_a_read_only_home(tmp_path):
    home, image = tmp_path / "home", tmp_path / "image.png"
    home.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(image)
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(home)]
    mounted = not os.geteuid() and not subprocess.run(command, check=False).returncode
    if not mounted:
        home.chmod(0o500)
        if os.access(home, os.W_OK):
            pytest.skip("needs a folder that it may not write to")
    try:
        with GSCo.from_settings(home=home, torch_threads=1) as made:
            with pytest.raises(GscoError, match=r"cannot write to .*images"):
                made.images.put(image)
            with pytest.raises(GscoError, match=r"conversations\.sqlite.*"):
                made.consult("a").send("Hello?")
        words = ("diagnose", str(image), "--task", "busi")
        found = run_command(*words, environment=environment(home), folder=tmp_path)
        assert found.returncode == 1 and "Traceback" not in found.stderr
        assert str(home) in found.stderr
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(home)], check=True)


def test_two_thousand_damaged_inputs():
    counts, failures = tried_many(range(2000))
    assert counts.total() == 2000
    assert failures == list[Failure]()

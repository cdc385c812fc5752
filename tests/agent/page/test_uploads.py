"""What visitors upload, within the limits."""

import os
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from gsco.agent.page.upload_store import LIFETIME, UploadLimits, UploadStore
from gsco.agent.page.uploads import MOST, PRESETS, preview, stored, window_of
from gsco.errors import ImageError, ImageMissing, ImageTooLarge, ImageUnsupported, StoreError

CT = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"


@pytest.fixture
def uploads(tmp_path):
    return UploadStore(tmp_path / "uploads")


@pytest.fixture
def upload(uploads, make_image):
    """``upload(name)``: the id of a new upload of ana's."""

    def make(name: str) -> str:
        buffer = BytesIO()
        if name.endswith(".png"):
            make_image("RGB").save(buffer, "PNG")
        return put(uploads, buffer.getvalue() or CT.read_bytes())

    return make


def put(uploads, content: bytes, user: str = "ana") -> str:
    with uploads.receive(user) as writer:
        writer.write(content)
    return writer.id


def test_uploads_go_into_the_store_and_are_removed(store, uploads, upload, tmp_path):
    ids = [upload("a.png"), upload("IM0001")]
    refs = stored(store, uploads, "ana", ids)
    assert [ref.width for ref in refs] == [48, 128] and all(store.get(ref) for ref in refs)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_the_window_is_for_dicom_only(store, uploads, upload):
    colour, wide = stored(store, uploads, "ana", [upload("a.png"), upload("IM0001")], 1000.0, 4000.0)
    (narrow,) = stored(store, uploads, "ana", [upload("IM0002")], 1000.0, 100.0)
    assert wide != narrow and store.get(colour).mode == "RGB"
    assert len(np.unique(np.asarray(store.get(wide)))) > len(np.unique(np.asarray(store.get(narrow))))


def test_what_cannot_be_used_is_removed_too(store, uploads, upload, tmp_path):
    ids = [put(uploads, b"%PDF-1.7"), upload("a.png")]
    with pytest.raises(ImageUnsupported, match="PDF"):
        stored(store, uploads, "ana", ids)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_only_so_many_at_once(store, uploads, upload, tmp_path):
    ids = [upload(f"{number}.png") for number in range(MOST + 1)]
    with pytest.raises(ImageTooLarge, match=f"{MOST} images"):
        stored(store, uploads, "ana", ids)
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.attack
def test_an_upload_of_another_user_is_neither_used_nor_removed(store, uploads, upload):
    id = upload("a.png")
    with pytest.raises(ImageMissing):
        stored(store, uploads, "ben", [id])
    assert stored(store, uploads, "ana", [id])


@pytest.mark.attack
@pytest.mark.parametrize("id", ["", "a.png", "../a.png", "/dev/zero", "upload-" + "0" * 32])
def test_what_was_not_issued_is_no_upload(store, uploads, id):
    with pytest.raises(ImageMissing, match="drop the image in again"):
        stored(store, uploads, "ana", [id])


def test_limits_hold_for_a_file_a_user_and_all(tmp_path):
    uploads = UploadStore(tmp_path, UploadLimits(file_bytes=10, user_bytes=15, total_bytes=20, user_files=3))
    assert put(uploads, b"x" * 10)
    for content, user, error in (
        (b"x" * 11, "ben", ImageTooLarge),
        (b"x" * 6, "ana", ImageTooLarge),
        (b"x" * 10, "cy", None),
        (b"x", "ben", StoreError),
    ):
        if error is None:
            put(uploads, content, user)
            continue
        with pytest.raises(error, match=r"GSCO_|bytes"):
            put(uploads, content, user)
    assert len(list(tmp_path.iterdir())) == 2
    uploads.close()
    for _ in range(3):
        put(uploads, b"x")
    with pytest.raises(ImageTooLarge, match="3 uploads"):
        put(uploads, b"x")


def test_what_is_never_sent_is_removed_after_an_hour(tmp_path, monkeypatch):
    uploads = UploadStore(tmp_path)
    id = put(uploads, b"x")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + LIFETIME + 1)
    with pytest.raises(ImageMissing):
        uploads.read("ana", id)
    assert list(tmp_path.iterdir()) == []
    left = tmp_path / "upload-of-an-earlier-process"
    left.write_bytes(b"x")
    os.utime(left, (1, 1))
    UploadStore(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize(("center", "width"), [(None, None), (40, 400), (-600, 1), (0, 400)])
def test_a_window_is_two_numbers(center, width):
    assert window_of(center, width) == (None if center is None else (float(center), float(width)))


def test_numbers_that_nobody_typed_block_no_question(store, uploads, upload):
    assert window_of(0, 0) is None, "an empty field of the page arrives as 0"
    (colour,) = stored(store, uploads, "ana", [upload("a.png")], 300.0, -5.0)
    assert store.get(colour).mode == "RGB", "a window is for DICOM images only"
    with pytest.raises(ImageError, match="at least 1"):
        stored(store, uploads, "ana", [upload("IM0001")], 300.0, -5.0)


@pytest.mark.parametrize(
    ("center", "width", "words"),
    [(40, None, "both"), (None, 400, "both"), (40, 0, "at least 1"), (40, -5, "at least 1")],
)
def test_half_a_window_is_none(center, width, words):
    with pytest.raises(ImageError, match=words):
        window_of(center, width)


def test_presets_are_windows():
    assert all(window is None or window_of(*window) == window for window in PRESETS.values())


def test_a_preview_of_the_first_dicom_image(store, uploads, upload):
    png, ct = upload("a.png"), upload("IM0001")
    assert preview(store, uploads, "ana", [png]) is None
    narrow = preview(store, uploads, "ana", [png, "gone", ct], 1000.0, 100.0)
    assert narrow.png != preview(store, uploads, "ana", [ct]).png
    assert uploads.read("ana", ct) == CT.read_bytes()
    assert preview(store, uploads, "ben", [ct]) is None

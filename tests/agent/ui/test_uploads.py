"""What visitors upload, within the limits."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from gsco.agent.ui.uploads import MOST, PRESETS, first_dicom, preview, stored, window_of
from gsco.errors import ImageError, ImageTooLarge, ImageUnsupported

CT = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"


@pytest.fixture
def upload(tmp_path, make_image):
    """``upload(name)``: a file as a browser sends it; DICOM without an extension."""

    def make(name: str) -> str:
        path = tmp_path / name
        if name.endswith(".png"):
            make_image("RGB").save(path)
        else:
            shutil.copy(CT, path)
        return str(path)

    return make


def test_uploads_go_into_the_store_and_are_removed(store, upload):
    files = [upload("a.png"), upload("IM0001")]
    refs = stored(store, files, None)
    assert [ref.width for ref in refs] == [48, 128] and all(store.get(ref) for ref in refs)
    assert not any(Path(file).exists() for file in files)


def test_the_window_is_for_dicom_only(store, upload):
    colour, wide = stored(store, [upload("a.png"), upload("IM0001")], (1000.0, 4000.0))
    (narrow,) = stored(store, [upload("IM0002")], (1000.0, 100.0))
    assert wide != narrow and store.get(colour).mode == "RGB"
    assert len(np.unique(np.asarray(store.get(wide)))) > len(np.unique(np.asarray(store.get(narrow))))


def test_what_cannot_be_used_is_removed_too(store, tmp_path, upload):
    file = tmp_path / "scan.png"
    file.write_bytes(b"%PDF-1.7")
    good = upload("a.png")
    with pytest.raises(ImageUnsupported, match="PDF"):
        stored(store, [str(file), good], None)
    assert not file.exists() and not Path(good).exists()


def test_only_so_many_at_once(store, upload):
    files = [upload(f"{number}.png") for number in range(MOST + 1)]
    with pytest.raises(ImageTooLarge, match=f"{MOST} images"):
        stored(store, files, None)
    assert not any(Path(file).exists() for file in files)


@pytest.mark.parametrize(("center", "width"), [(None, None), (40, 400), (-600, 1)])
def test_a_window_is_two_numbers(center, width):
    assert window_of(center, width) == (None if center is None else (float(center), float(width)))


@pytest.mark.parametrize(
    ("center", "width", "words"),
    [(40, None, "both"), (None, 400, "both"), (40, 0, "at least 1"), (40, -5, "at least 1")],
)
def test_half_a_window_is_none(center, width, words):
    with pytest.raises(ImageError, match=words):
        window_of(center, width)


def test_presets_are_windows():
    assert all(window is None or window_of(*window) == window for window in PRESETS.values())


def test_a_preview_of_the_first_dicom_image(store, upload):
    png, ct = upload("a.png"), upload("IM0001")
    assert first_dicom([png]) is None and first_dicom([png, ct, "gone"]) == ct
    assert preview(store, ct, (1000.0, 100.0)).png != preview(store, ct, None).png
    assert Path(ct).exists()

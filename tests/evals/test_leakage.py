"""What the case bank knows of the cases: certain leaks, and pictures that are the same to the eye."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from gsco.case import Case
from gsco.errors import ConfigurationError
from gsco.evals.leakage import Bank, check_leaks, find_leaks, read_bank, without_leaks
from gsco.images import ImageStore, read_image
from gsco.images.fingerprints import BITS, NEAR, fingerprint, twins
from gsco.models.mini.samples import samples
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Entry, KnownCase
from PIL import Image, ImageEnhance

TASKS = ("chest_xray", "busi", "brain_mri", "lung_histology")


def jpeg(picture: Image.Image, quality: int, side: int | None = None) -> bytes:
    picture = picture.convert("RGB")
    if side:
        picture.thumbnail((side, side))
    found = io.BytesIO()
    picture.save(found, "JPEG", quality=quality)
    return found.getvalue()


def same_to_the_eye(picture: Image.Image) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(jpeg(picture, 40))),
        picture.resize((picture.width // 2, picture.height // 2)),
        ImageEnhance.Brightness(picture).enhance(1.15),
        ImageEnhance.Contrast(picture).enhance(1.2),
        Image.open(io.BytesIO(jpeg(picture, 75, side=56))),
    ]


@pytest.fixture(scope="module")
def pictures() -> list[tuple[str, Path]]:
    return [(task, sample.path) for task in TASKS for sample in samples(task)]


class TestFingerprints:
    def test_a_picture_saved_again_is_the_same_and_another_is_not(self, pictures) -> None:
        found = [fingerprint(read_image(path)) for _, path in pictures]
        for (_, path), own in zip(pictures, found, strict=True):
            for changed in same_to_the_eye(read_image(path)):
                assert (fingerprint(changed) != own).sum() <= NEAR, path.name
        distances = [(a != b).sum() for place, a in enumerate(found) for b in found[:place]]
        assert min(distances) > NEAR

    def test_twins_are_the_nearest_as_counted_one_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        random = np.random.default_rng(0)
        known = random.random((70, BITS)) < 0.5
        asked = known[random.integers(0, 70, 40)] ^ (
            random.random((40, BITS)) < random.random((40, 1)) * 0.15
        )
        wanted = []
        for row, one in enumerate(asked):
            bits = (known != one).sum(1)
            if bits.min() <= NEAR:
                wanted.append((row, int(bits.argmin()), int(bits.min())))
        assert 5 < len(wanted) < 40
        assert twins(asked, known) == wanted
        monkeypatch.setattr("gsco.images.fingerprints._CHUNK", 150)
        assert twins(asked, known) == wanted
        assert twins(asked, known[:0]) == twins(asked[:0], known) == []


@pytest.fixture
def store(tmp_path: Path, pictures) -> EmbeddedStore:
    """A bank of the first sample of each task, with thumbnails; the last has none."""
    made = EmbeddedStore(tmp_path / "bank.sqlite")
    images = ImageStore(tmp_path / "known")
    vector = np.array([1, 0], dtype=np.float32)
    for number, (_, path) in enumerate(pictures[::6]):
        case = KnownCase(
            sha256=images.put(path).sha256,
            task="t",
            labels=("x",),
            group=f"patient-{number}",
            source=path.name,
        )
        thumbnail = jpeg(read_image(path), 75, side=56) if number else None
        made.add([Entry(case, {"e": vector}, thumbnail)])
    return made


def test_all_three_kinds_are_found_once_each(tmp_path: Path, store: EmbeddedStore, pictures) -> None:
    images = ImageStore(tmp_path / "asked")
    bank = read_bank(store, "t")
    assert len(bank.cases) == len(pictures[::6]) and len(bank.pictured) == len(bank.cases) - 1
    known, other = pictures[6][1], pictures[7][1]
    cases = [
        Case(id="itself", images=(images.put(known),), group="somebody"),
        Case(id="patient", images=(images.put(other),), group="patient-2"),
        Case(id="looks", images=(images.put(ImageEnhance.Brightness(read_image(known)).enhance(1.1)),)),
        Case(id="free", images=(images.put(pictures[8][1]),)),
    ]
    found = find_leaks(cases, bank, images)
    assert found.same_image == ("itself",) and found.same_group == ("patient",)
    assert [(one.case, one.source) for one in found.near_duplicates] == [("looks", known.name)]
    assert found.near_duplicates[0].distance <= NEAR
    assert (found.checked, found.unseen, found.any) == (4, 1, True)
    assert found.suspects == {"itself", "patient", "looks"}
    assert without_leaks(found).dropped == ("itself", "looks", "patient")
    with pytest.raises(ConfigurationError, match=r"1 are in the case bank and 1 share .*--leaks drop"):
        check_leaks(found, "refuse")
    check_leaks(found, "exclude")
    check_leaks(found, "drop")


def test_without_the_images_only_certain_leaks_are_found(tmp_path: Path, store, pictures) -> None:
    images = ImageStore(tmp_path / "asked")
    changed = images.put(ImageEnhance.Brightness(read_image(pictures[6][1])).enhance(1.1))
    found = find_leaks([Case(id="looks", images=(changed,))], read_bank(store, "t"))
    assert not found.suspects and found.unseen == found.bank


def test_a_case_that_only_looks_known_is_told_and_not_refused(tmp_path: Path, store, pictures) -> None:
    images = ImageStore(tmp_path / "asked")
    changed = images.put(ImageEnhance.Brightness(read_image(pictures[6][1])).enhance(1.1))
    found = find_leaks([Case(id="looks", images=(changed,))], read_bank(store, "t"), images)
    assert found.suspects == {"looks"} and not found.any
    check_leaks(found, "refuse")


def test_an_empty_bank_knows_nothing(tmp_path: Path, pictures) -> None:
    images = ImageStore(tmp_path / "asked")
    empty = Bank((), (), np.zeros((0, BITS), dtype=bool))
    found = find_leaks([Case(id="a", images=(images.put(pictures[0][1]),))], empty, images)
    assert (found.bank, found.suspects) == (0, frozenset())


def test_the_bundled_bank_knows_none_of_the_bundled_samples(tmp_path: Path, monkeypatch) -> None:
    from gsco.benchmarks.overlap import overlap, table, write_overlaps
    from gsco.settings import Settings

    folder = tmp_path / "shots"
    folder.mkdir()
    rows = []
    for sample in samples("busi"):
        (folder / sample.path.name).write_bytes(sample.path.read_bytes())
        rows.append(f"{sample.path.name},{sample.label},{sample.path.stem},test")
    (folder / "labels.csv").write_text("path,label,group,split\n" + "\n".join(rows), encoding="utf-8")
    name, found = overlap(folder, "busi", "test", Settings(home=tmp_path / "home"), quiet=True)
    assert name == "shots" and found.checked == len(rows) and found.bank > 400 and not found.suspects
    write_overlaps({name: found}, tmp_path / "out", "the command")
    written = json.loads((tmp_path / "out" / "leakage.json").read_text(encoding="utf-8"))
    assert written["sets"]["shots"]["checked"] == len(rows)
    assert f"| shots | {len(rows)} | {found.bank} | 0 | 0 | 0 | 0 |" in table({name: found})

"""The data report: each kind of finding on a set that has it, and none on a set that has not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gsco.agent.cli import app
from gsco.errors import ConfigurationError
from gsco.models.data.confounders import name_pattern
from gsco.models.data.duplicates import joined_groups
from gsco.models.data.image_facts import look_at
from gsco.models.data.report import DataReport, inspect
from PIL import Image, ImageEnhance
from pydicom.dataset import Dataset as Header
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from typer.testing import CliRunner

KINDS = (("stripes", "no lines"), ("spots", "lines"))


def picture(seed: int, kind: str = "stripes", size: tuple[int, int] = (96, 96)) -> Image.Image:
    """Stripes or spots of drawn place, width and angle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]] / 96
    angle, phase, width = rng.uniform(0, np.pi), rng.uniform(0, 6, 2), rng.uniform(20, 40)
    along = np.sin(width * (x * np.cos(angle) + y * np.sin(angle)) + phase[0])
    if kind != "stripes":
        along = along * np.sin(width * (y * np.cos(angle) - x * np.sin(angle)) + phase[1])
    shade = np.sin(3 * x + phase[0]) * np.sin(3 * y + phase[1])
    pixels = 128 + 60 * along + 40 * shade + rng.normal(0, 12, along.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def textures(folder: Path, count: int = 30, **kinds: str) -> Path:
    """``count`` pictures of each class."""
    for number, (label, kind) in enumerate((kinds or {"lines": "stripes", "spots": "spots"}).items()):
        for n in range(count):
            save(picture(1000 * number + n, kind), folder / label / f"{n}.png")
    return folder


def kinds(report: DataReport) -> set[str]:
    return {problem.kind for problem in report.problems}


def problem(report: DataReport, kind: str):
    return next(one for one in report.problems if one.kind == kind)


def looked(folder: Path, **options) -> DataReport:
    return inspect(folder, embed=False, quiet=True, **options)


def test_a_clean_set_has_no_findings(tmp_path):
    report = looked(textures(tmp_path))
    assert report.problems == ()
    assert report.usable.items == report.dataset.items
    assert report.table().endswith("no problems found")
    report.check()


def test_unreadable_images_are_left_out_and_named(tmp_path):
    textures(tmp_path)
    (tmp_path / "lines" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    report = looked(tmp_path)
    assert problem(report, "unreadable").paths == ("lines/bad.png",)
    assert len(report.usable.items) == 60
    report.check()


def test_mostly_unreadable_images_are_fatal(tmp_path):
    for label in ("a", "b"):
        for n in range(5):
            path = tmp_path / label / f"{n}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"\x89PNG\r\n\x1a\nbroken" + bytes([n]))
    report = looked(tmp_path)
    assert {one.kind for one in report.fatal} == {"unreadable", "too_few_labels"}
    with pytest.raises(ConfigurationError, match="10 of 10 images cannot be read"):
        report.check()


def test_one_image_in_two_classes_is_left_out_whatever_its_format(tmp_path):
    textures(tmp_path)
    save(Image.open(tmp_path / "lines" / "0.png"), tmp_path / "spots" / "other.tif")
    report = looked(tmp_path)
    found = problem(report, "contradictory_labels")
    assert set(found.paths) == {"lines/0.png", "spots/other.tif"}
    assert "lines/0.png (lines) and spots/other.tif (spots)" in found.text
    assert len(report.usable.items) == 59


def test_copies_and_near_copies_stay_in_one_split(tmp_path):
    textures(tmp_path)
    for n in range(12):
        image = Image.open(tmp_path / "lines" / f"{n}.png")
        brighter = ImageEnhance.Brightness(image).enhance(1.05).resize((80, 80))
        brighter.save(tmp_path / "lines" / f"copy{n}.jpg", quality=85)
    report = looked(tmp_path)
    assert len(problem(report, "near_duplicates").paths) == 24
    place = {item.path.stem: item for item in report.usable.items if item.labels == ("lines",)}
    assert all(place[str(n)].split == place[f"copy{n}"].split for n in range(12))
    assert len({item.split for item in report.usable.items}) == 3


def test_copies_in_given_splits_are_leakage_and_the_earlier_is_left_out(tmp_path):
    for number, split in enumerate(("train", "test")):
        for label, kind in (("lines", "stripes"), ("spots", "spots")):
            for n in range(12):
                save(picture(100 * number + n, kind), tmp_path / split / label / f"{n}.png")
    leaked = Image.open(tmp_path / "test" / "lines" / "3.png")
    ImageEnhance.Brightness(leaked).enhance(1.04).save(tmp_path / "train" / "lines" / "leak.jpg")
    shutil.copy(tmp_path / "test" / "spots" / "4.png", tmp_path / "train" / "spots" / "same.png")
    report = looked(tmp_path)
    assert set(problem(report, "leakage_of_copies").paths) == {"train/lines/leak.jpg", "test/lines/3.png"}
    assert "1 images of train or val share a group" in problem(report, "leakage").text
    stems = {item.path.stem for item in report.usable.items if item.split != "test"}
    assert not {"leak", "same"} & stems
    assert len(report.usable.split("test")) == 24


@pytest.mark.parametrize(("count", "kind"), [(1, "tiny_class"), (2, "tiny_class"), (5, "small_class")])
def test_classes_too_small_to_measure_are_named(tmp_path, count, kind):
    textures(tmp_path)
    for n in range(count):
        save(picture(9000 + n), tmp_path / "rare" / f"{n}.png")
    report = looked(tmp_path)
    assert problem(report, kind).labels == ("rare",)
    assert report.unmeasurable == (("rare",) if kind == "tiny_class" else ())


def test_five_copies_of_one_image_are_one_case(tmp_path):
    textures(tmp_path)
    for n in range(5):
        save(picture(9000), tmp_path / "rare" / f"{n}.png")
    assert looked(tmp_path).unmeasurable == ("rare",)


def test_a_typing_error_is_found(tmp_path):
    textures(tmp_path, 60, melanoma="stripes", nevus="spots")
    save(picture(9000), tmp_path / "melanomma" / "0.png")
    assert problem(looked(tmp_path), "label_spelling").labels == ("melanomma", "melanoma")


def test_odd_sizes_and_blank_images_are_named(tmp_path):
    textures(tmp_path)
    save(picture(1).resize((16, 16)), tmp_path / "lines" / "small.png")
    save(picture(2, size=(500, 40)), tmp_path / "lines" / "strip.png")
    save(Image.new("L", (96, 96), 7), tmp_path / "spots" / "blank.png")
    report = looked(tmp_path)
    assert set(problem(report, "odd_sizes").paths) == {"lines/small.png", "lines/strip.png"}
    assert problem(report, "blank_images").paths == ("spots/blank.png",)


def test_colour_among_grey_is_named(tmp_path):
    textures(tmp_path)
    for n in range(3):
        grey = np.asarray(picture(9000 + n))
        save(Image.fromarray(np.stack([grey, grey // 3, grey // 4], 2)), tmp_path / "lines" / f"c{n}.png")
    assert len(problem(looked(tmp_path), "colour_and_grey").paths) == 3


def dicom(path: Path, image: Image.Image, *, patient: str, modality: str, maker: str = "A") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = Header()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.PatientID, header.Modality, header.Manufacturer = patient, modality, maker
    header.Rows, header.Columns = image.height, image.width
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    header.PixelData = image.tobytes()
    header.save_as(path, enforce_file_format=True)


def test_dicom_modalities_and_devices(tmp_path):
    for label, maker in (("a", "Siemens"), ("b", "GE")):
        for n in range(15):
            dicom(
                tmp_path / label / f"IM{n}",
                picture(n + 50 * (label == "b")),
                patient=f"Quill-{label}-{n}",
                modality="CT" if n < 3 else "MR",
                maker=maker,
            )
    report = looked(tmp_path)
    assert "MR 24, CT 6" in problem(report, "several_modalities").text
    assert "the device named in the header alone" in problem(report, "confounder").text
    assert not any(item.group.startswith("Quill") for item in report.usable.items)
    assert "Quill" not in report.to_json()


def test_a_size_that_tells_the_class_is_a_confounder(tmp_path):
    rng = np.random.default_rng(0)
    for label, kind in (("lines", "stripes"), ("spots", "spots")):
        for n in range(40):
            large = (label == "lines") ^ (rng.random() < 0.1)
            size = (112, 96) if large else (96, 104)
            save(picture(1000 * (kind == "spots") + n, kind, size), tmp_path / label / f"{n}.png")
    assert "the size of the images alone" in problem(looked(tmp_path), "confounder").text


def test_markers_in_a_corner_are_a_confounder(tmp_path):
    for label in ("lines", "spots"):
        for n in range(40):
            image = np.asarray(picture(1000 * (label == "spots") + n)).copy()
            if label == "lines":
                image[4:14, 4:16] = 255
            save(Image.fromarray(image), tmp_path / label / f"{n}.png")
    assert "the corners of the images" in problem(looked(tmp_path), "confounder").text


def test_planted_wrong_labels_are_found(tmp_path):
    textures(tmp_path, 60)
    for n in range(3):
        (tmp_path / "lines" / f"{n}.png").rename(tmp_path / "spots" / f"planted{n}.png")
    report = inspect(tmp_path, quiet=True)
    planted = {f"spots/planted{n}.png" for n in range(3)}
    found = {one.path for one in report.suspects}
    assert len(found & planted) >= 2
    assert len(found & planted) >= 0.6 * len(found)
    assert all(one.suggested == "lines" for one in report.suspects if one.path in planted)
    seen = look_at([item.path for item in report.usable.items], quiet=True)
    hashes = [facts.pixels for facts in seen.facts if facts]
    known = report.features.known(seen.trunk, lambda: hashes)
    assert known is not None
    assert seen.embeddings is not None
    np.testing.assert_allclose(known, seen.embeddings, atol=1e-4)
    assert problem(report, "label_errors")


def test_wrong_labels_of_a_multilabel_set_are_found_for_each_label(tmp_path):
    rows = ["path,label"]
    for n in range(60):
        for number, kind in enumerate(("stripes", "spots")):
            name = f"{kind}{n}.png"
            save(picture(1000 * number + n, kind), tmp_path / name)
            labels = "lines+any" if (kind == "stripes") ^ (n < 2) else "any"
            rows.append(f"{name},{labels}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    report = inspect(tmp_path, quiet=True)
    told = {(one.path, one.given) for one in report.suspects}
    planted = {(f"{kind}{n}.png", given) for kind, given in KINDS for n in range(2)}
    assert len(planted & told) >= 3
    assert len(planted & told) >= 0.6 * len(told)


def test_groups_are_not_joined_without_end():
    groups = [str(n) for n in range(50)]
    chain = [(n, n + 1) for n in range(49)]
    joined = joined_groups(groups, chain, 20)
    assert max(joined.count(group) for group in joined) <= 20
    assert len(set(joined_groups(groups, chain[:3], 20))) == 47


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("benign (12).png", ""), ("siteA_benign_0012.png", "sitea"), ("NORMAL2-IM-0001.jpeg", "normal#im")],
)
def test_the_pattern_of_a_name_holds_no_label(name, pattern):
    assert name_pattern(Path(name), ["benign", "malignant"]) == pattern


def test_the_command_prints_the_table_first_and_writes_everything(tmp_path):
    textures(tmp_path / "set", 15)
    (tmp_path / "set" / "lines" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    out = tmp_path / "report.json"
    result = CliRunner().invoke(app, ["data", str(tmp_path / "set"), "--fast", "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("data set set: a folder per class")
    assert "WARNING  unreadable: 1 of 31 images" in result.output
    assert json.loads(out.read_text(encoding="utf-8"))["problems"][0]["paths"] == ["lines/bad.png"]


def test_the_command_ends_with_an_error_where_nothing_can_be_trained(tmp_path):
    textures(tmp_path / "set", 15, only="stripes")
    result = CliRunner().invoke(app, ["data", str(tmp_path / "set"), "--fast"])
    assert result.exit_code == 2
    assert "at least two labels are needed" in result.output

"""Every layout of the registry, on small made-up folders of exactly that form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gsco.errors import ConfigurationError
from gsco.evals.datasets import OpenDataset, entries, open_dataset
from gsco.evals.datasets.entry import Arrays, Labelled

from . import layouts


@pytest.fixture
def made(tmp_path: Path, monkeypatch) -> Callable[[str, str], OpenDataset]:
    """``made(name, edition)``: make the folder and open all of it."""
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))

    def make(name: str, edition: str) -> OpenDataset:
        layouts.PUBLISHED[name, edition](tmp_path / "sets" / name)
        return open_dataset(name, split="all", root=tmp_path / "sets", partial=True)

    return make


def test_there_is_a_made_up_folder_for_every_layout_that_is_not_on_disk() -> None:
    wanted = {
        (name, edition.name)
        for name, entry in entries().items()
        for edition in entry.editions
        if not isinstance(edition.layout, Arrays)
        and not (isinstance(edition.layout, Labelled) and "labels.csv" in edition.needs)
    }
    assert wanted == set(layouts.PUBLISHED)


def test_the_benchmarks_of_the_paper_are_all_there() -> None:
    roles = {name: entry.role for name, entry in entries().items()}
    internal = {
        "pcam200",
        "dermnet",
        "ham10000",
        "retoct",
        "vindr_spinexr",
        "vindr_pcxr",
        "vindr_mammo",
        "chestmnist",
        "slake",
        "vqa_rad",
        "path_vqa",
        "pmc_vqa",
        "mimic_cxr",
        "iu_xray",
    }
    external = {
        "pathmnist",
        "fmc_colon",
        "derm7pt",
        "octmnist",
        "pneumoniamnist",
        "fmc_chest",
        "cbis_ddsm_mass",
        "cbis_ddsm_calc",
        "breastmnist",
        "organamnist",
        "fmc_endo",
        "brset",
        "bcn20000",
        "rsna_pneumonia",
        "vqa_med_2019",
        "omnimedvqa",
    }
    assert {name for name, role in roles.items() if role == "internal"} == internal
    assert {name for name, role in roles.items() if role == "external"} == external


@pytest.mark.parametrize(("name", "edition"), layouts.PUBLISHED)
def test_a_published_layout_is_read(made, name: str, edition: str) -> None:
    opened = made(name, edition)
    assert opened.edition == edition
    assert opened.task.kind is entries()[name].kind
    assert all(image.is_file() for one in opened for image in one.images)
    assert all(one.group and one.split for one in opened)
    for one in opened:
        if opened.task.kind.closed:
            assert set(one.labels) <= set(opened.task.options)
        else:
            assert one.report or (one.question and all(one.answers))


@pytest.mark.parametrize(
    ("name", "edition"),
    [
        (name, one.name)
        for name, entry in entries().items()
        for one in entry.editions
        if one.counts and (name, one.name) in layouts.PUBLISHED
    ],
)
def test_a_set_that_is_not_whole_is_refused(tmp_path: Path, name: str, edition: str) -> None:
    layouts.PUBLISHED[name, edition](tmp_path / name)
    with pytest.raises(ConfigurationError, match=r"incomplete: .* of \d+ examples"):
        open_dataset(name, root=tmp_path)


def test_ham10000_finds_images_in_both_parts_and_keeps_lesions_together(made) -> None:
    opened = made("ham10000", "published")
    assert opened.labels() == {"benign keratosis": 2, "melanocytic nevus": 1, "melanoma": 1}
    assert {one.images[0].parent.name[-6:] for one in opened} == {"part_1", "part_2"}
    first = [one for one in opened if one.group == "HAM_0000118"]
    assert len(first) == 2 and len({one.split for one in first}) == 1
    assert first[0].extras == {"age": "80.0", "sex": "male", "localization": "scalp", "confirmed": "histo"}
    assert any("without splits" in note for note in opened.notes)


def test_bcn20000_asks_only_what_the_specialists_know(made) -> None:
    assert made("bcn20000", "figshare").labels() == {"melanocytic nevus": 1, "melanoma": 1}


def test_derm7pt_reads_splits_from_row_numbers_and_the_dermatoscopic_image(made) -> None:
    opened = made("derm7pt", "published")
    assert {one.split: one.labels for one in opened} == {
        "train": ("melanoma",),
        "val": ("miscellaneous",),
        "test": ("nevus",),
    }
    assert opened[0].id == "images/NEL/Nel029.jpg"


def test_brset_calls_unmarked_images_normal_and_keeps_patients_together(made) -> None:
    opened = made("brset", "published")
    assert opened.labels()["normal"] == 1 and opened.labels()["macular edema"] == 1
    groups = {one.group: set() for one in opened}
    for one in opened:
        groups[one.group].add(one.split)
    assert all(len(splits) == 1 for splits in groups.values())


def test_boxes_of_one_image_are_one_example(made) -> None:
    spine = {one.split: one.labels for one in made("vindr_spinexr", "published")}
    assert spine == {"train": ("No finding",), "test": ("Osteophytes", "Surgical implant")}
    chest = made("rsna_pneumonia", "published")
    assert chest.labels() == {"normal": 4, "pneumonia": 1}


def test_a_mammogram_is_malignant_if_any_abnormality_is(made) -> None:
    opened = made("cbis_ddsm_mass", "published")
    assert [one.labels for one in opened] == [("malignant",)] * 2
    assert opened[0].images[0].suffix == ".jpg"


def test_the_reference_meta_keeps_what_was_retrieved_and_said(made) -> None:
    one = made("pcam200", "meta")[0]
    assert one.labels == ("tumor",)
    assert one.extras["moed"] == "tumor|normal" and one.extras["rad"].count("tumor") == 10


def test_vqa_rad_is_open_or_closed_and_loses_training_questions_on_test_images(made) -> None:
    opened = made("vqa_rad", "train and test sets")
    assert {one.id: (one.answers, one.closed) for one in opened} == {
        "test/3": (("no",), True),
        "test/5": (("lung",), False),
        "train/2": (("4",), False),
    }
    assert any("1 examples left out" in note for note in opened.notes)


def test_slake_keeps_english_questions_only(made) -> None:
    opened = made("slake", "published")
    assert len(opened) == 6 and not any("这" in (one.question or "") for one in opened)
    assert opened.counts == {"train": 2, "val": 2, "test": 2}


def test_path_vqa_knows_yes_and_no_as_closed(made) -> None:
    test = [one for one in made("path_vqa", "vqa") if one.split == "test"]
    assert [(one.answers, one.closed) for one in test] == [(("yes",), True), (("epithelial cells",), False)]


def test_a_letter_stands_for_its_choice(made, tmp_path: Path) -> None:
    first = made("pmc_vqa", "version 1")[0]
    assert first.choices == ("skin", "bone", "liver", "lung") and first.answers == ("bone",) and first.closed
    layouts.pmc_vqa_2(tmp_path / "two" / "pmc_vqa")
    second = open_dataset("pmc_vqa", root=tmp_path / "two")[0]
    assert second.choices == ("skin", "bone", "liver", "lung") and second.answers == ("liver",)


def test_vqa_med_reads_text_without_headings(made) -> None:
    found = {one.split: one for one in made("vqa_med_2019", "published")}
    assert found["train"].answers == ("ct",) and not found["train"].closed
    assert found["test"].question == "is this a t1 weighted image?" and found["test"].closed
    assert found["test"].extras["question_type"] == "modality"


def test_omnimedvqa_takes_files_with_three_or_four_choices(made) -> None:
    found = {one.id: one for one in made("omnimedvqa", "published")}
    assert len(found["test/ACRIMA ACRIMA_0000"].choices) == 3
    assert len(found["test/ACRIMA CT_0000"].choices) == 4


def test_reports_come_with_all_images_of_their_study(made, tmp_path: Path) -> None:
    one = made("iu_xray", "R2Gen")[0]
    assert len(one.images) == 2 and one.report == "Lungs are clear."
    layouts.iu_openi(tmp_path / "xml" / "iu_xray")
    opened = open_dataset("iu_xray", root=tmp_path / "xml", split="all")
    assert len(opened) == 4 and len(opened[0].images) == 2
    assert opened[0].report == "Heart size normal. No acute disease." and opened[0].context == "Cough"
    assert opened.notes[0].startswith("1 studies without")


def test_the_kaggle_form_joins_reports_to_images(made) -> None:
    opened = made("iu_xray", "Kaggle")
    assert len(opened) == 8 and {one.report for one in opened} == {"Clear. Normal."}
    assert "2 rows without a report left out" in opened.notes


def test_conversations_of_a_report_task_are_reports_by_patient(made) -> None:
    opened = made("mimic_cxr", "conversations")
    assert {one.group for one in opened} == {"10000032", "10000033", "10000034"}
    assert {one.split for one in opened} == {"test"}
    assert opened[0].report == "Clips project over the left lung."

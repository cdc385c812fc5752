"""Small made-up folders of exactly the layouts in which data sets are published."""

from __future__ import annotations

import csv
import json
import pickle
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def draw(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(path, format="PNG" if path.suffix in (".dicom", ".dcm") else None)
    return path


def table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def lists(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def pickled(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))


def arrays(path: Path, classes: int, *, several: bool = False, size: int = 28) -> None:
    random = np.random.default_rng(0)
    content = {}
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        content[f"{split}_images"] = random.integers(0, 255, (count, size, size), dtype=np.uint8)
        labels = random.integers(0, 2, (count, classes)) if several else np.arange(count)[:, None] % classes
        content[f"{split}_labels"] = labels.astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **content)


def classes(root: Path, names: Sequence[str], suffix: str = ".jpg") -> None:
    for split in ("train", "val", "test"):
        for place, name in enumerate(names):
            draw(root / split / name / f"{place}{suffix}", seed=zlib.crc32(f"{split}/{name}".encode()))


def ham10000(root: Path) -> None:
    columns = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    table(
        root / "HAM10000_metadata.csv",
        columns,
        [
            ("HAM_0000118", "ISIC_0027419", "bkl", "histo", "80.0", "male", "scalp"),
            ("HAM_0000118", "ISIC_0025030", "bkl", "histo", "80.0", "male", "scalp"),
            ("HAM_0002730", "ISIC_0026769", "nv", "follow_up", "", "female", "back"),
            ("HAM_0001466", "ISIC_0031633", "mel", "histo", "75.0", "male", "ear"),
        ],
    )
    for part, names in ((1, ("ISIC_0027419", "ISIC_0025030")), (2, ("ISIC_0026769", "ISIC_0031633"))):
        for name in names:
            draw(root / f"HAM10000_images_part_{part}" / f"{name}.jpg")


def bcn20000(root: Path) -> None:
    columns = ("bcn_filename", "age_approx", "anatom_site_general", "diagnosis", "lesion_id", "sex")
    rows = [
        ("BCN_0000000001.jpg", "55.0", "anterior torso", "MEL", "BCN_0003884", "male"),
        ("BCN_0000000003.jpg", "50.0", "anterior torso", "NV", "BCN_0000019", "female"),
        ("BCN_0000000004.jpg", "85.0", "head/neck", "SCC", "BCN_0003499", "male"),
    ]
    table(root / "bcn_20k_train.csv", columns, rows)
    for row in rows:
        draw(root / "BCN_20k_train" / "bcn_20k_train" / row[0])


def derm7pt(root: Path) -> None:
    rows = [
        (1, "blue nevus", "NEL/Nel026.jpg", "NEL/Nel027.jpg", "male", "back"),
        (2, "melanoma (in situ)", "NEL/Nel028.jpg", "NEL/Nel029.jpg", "female", "arm"),
        (3, "vascular lesion", "NFL/Nfl003.jpg", "NFL/Nfl004.jpg", "female", "head neck"),
    ]
    columns = ("case_num", "diagnosis", "clinic", "derm", "sex", "location")
    table(root / "meta" / "meta.csv", columns, rows)
    for name, index in (("train", 1), ("valid", 2), ("test", 0)):
        table(root / "meta" / f"{name}_indexes.csv", ("indexes",), [(index,)])
    for row in rows:
        draw(root / "images" / str(row[2]))
        draw(root / "images" / str(row[3]), seed=1)


def brset(root: Path) -> None:
    marks = (
        "diabetic_retinopathy",
        "macular_edema",
        "scar",
        "nevus",
        "amd",
        "vascular_occlusion",
        "hypertensive_retinopathy",
        "drusens",
        "hemorrhage",
        "retinal_detachment",
        "myopic_fundus",
        "increased_cup_disc",
        "other",
    )
    columns = ("image_id", "patient_id", "camera", "patient_age", "patient_sex", "quality", *marks)
    rows = []
    for number in range(6):
        given = [int(place == number) for place in range(len(marks))] if number else [0] * len(marks)
        rows.append((f"img{number:05}", number // 2, "Canon CR", 40 + number, 1, "Adequate", *given))
        draw(root / "fundus_photos" / f"img{number:05}.jpg", seed=number)
    table(root / "labels_brset.csv", columns, rows)


def rsna(root: Path) -> None:
    columns = ("patientId", "x", "y", "width", "height", "Target")
    rows = [("00436515", 264, 152, 213, 379, 1), ("00436515", 562, 152, 256, 453, 1)]
    rows += [(f"0004cfab{number}", "", "", "", "", 0) for number in range(4)]
    table(root / "stage_2_train_labels.csv", columns, rows)
    for name in {str(row[0]) for row in rows}:
        draw(root / "stage_2_train_images" / f"{name}.dcm")


def vindr_pcxr(root: Path) -> None:
    names = (
        "No finding",
        "Bronchitis",
        "Brocho-pneumonia",
        "Other disease",
        "Bronchiolitis",
        "Situs inversus",
        "Pneumonia",
        "Pleuro-pneumonia",
        "Diagphramatic hernia",
        "Tuberculosis",
        "Congenital emphysema",
        "CPAM",
        "Hyaline membrane disease",
        "Mediastinal tumor",
        "Lung tumor",
    )
    for split, marked in (("train", ("Bronchitis", "Pneumonia")), ("test", ("No finding",))):
        marks = ["1.0" if name in marked else "0.0" for name in names]
        table(
            root / f"image_labels_{split}.csv",
            ("image_id", "rad_ID", *names),
            [(f"{split}image", "R1", *marks)],
        )
        draw(root / split / f"{split}image.dicom")


def vindr_spinexr(root: Path) -> None:
    columns = ("study_id", "series_id", "image_id", "rad_id", "lesion_type", "xmin", "ymin", "xmax", "ymax")
    rows = {
        "train": [("s1", "e1", "i1", "r1", "No finding", "", "", "", "")],
        "test": [
            ("s2", "e2", "i2", "r1", "Osteophytes", 1, 2, 3, 4),
            ("s2", "e2", "i2", "r1", "Surgical implant", 1, 2, 3, 4),
            ("s2", "e2", "i2", "r1", "Osteophytes", 5, 6, 7, 8),
        ],
    }
    for split, some in rows.items():
        table(root / "annotations" / f"{split}.csv", columns, some)
        draw(root / f"{split}_images" / f"{some[0][2]}.dicom")


def vindr_mammo(root: Path) -> None:
    columns = (
        "study_id",
        "series_id",
        "image_id",
        "laterality",
        "view_position",
        "height",
        "width",
        "breast_birads",
        "breast_density",
        "split",
    )
    rows = [
        ("st1", "se1", "im1", "L", "CC", 3518, 2800, "BI-RADS 2", "DENSITY C", "training"),
        ("st2", "se2", "im2", "R", "MLO", 3518, 2800, "BI-RADS 5", "DENSITY C", "test"),
    ]
    table(root / "breast-level_annotations.csv", columns, rows)
    for row in rows:
        draw(root / "images" / str(row[0]) / f"{row[2]}.dicom")


def cbis_ddsm(root: Path) -> None:
    columns = (
        "patient_id",
        "breast_density",
        "left or right breast",
        "image view",
        "abnormality id",
        "pathology",
        "image file path",
    )
    for kind, name in (("mass", "Mass"), ("calc", "Calc")):
        for split, title in (("train", "Training"), ("test", "Test")):
            series = f"1.3.6.1.4.1.9590.{len(kind)}.{len(split)}"
            path = f"{name}-{title}_P_00001_LEFT_CC/1.3.6.1.4.1.1/{series}/000000.dcm"
            rows = [
                (f"P_{split}", 3, "LEFT", "CC", 1, "BENIGN_WITHOUT_CALLBACK", path),
                (f"P_{split}", 3, "LEFT", "CC", 2, "MALIGNANT", path + "\n"),
            ]
            table(root / "csv" / f"{kind}_case_description_{split}_set.csv", columns, rows)
            draw(root / "jpeg" / series / "1-263.jpg", seed=len(kind + split))


def fmc(root: Path) -> None:
    chest = (
        "pleural_effusion",
        "nodule",
        "pneumonia",
        "cardiomegaly",
        "hilar_enlargement",
        "fracture_old",
        "fibrosis",
        "aortic_calcification",
        "tortuous_aorta",
        "thickened_pleura",
        "TB",
        "pneumothorax",
        "emphysema",
        "atelectasis",
        "calcification",
        "pulmonary_edema",
        "increased_lung_markings",
        "elevated_diaphragm",
        "consolidation",
    )
    train = root / "MedFMC_train"
    rows = [(f"P{n}.png", f"S{n}", *(int(place == n) for place in range(19))) for n in range(6)]
    table(train / "chest" / "chest_train.csv", ("img_id", "study_id", *chest), rows)
    endo = [(f"E{n}.png", f"S{n // 2}", *(int(place in (n, n - 1)) for place in range(4))) for n in range(6)]
    table(
        train / "endo" / "endo_train.csv",
        ("img_id", "study_id", "ulcer", "erosion", "polyp", "tumor"),
        endo,
    )
    colon = [(f"2019-0984{n // 2}_{n}-{n}00-0_0.png", f"S{n}", n % 2) for n in range(6)]
    table(train / "colon" / "colon_train.csv", ("img_id", "study_id", "tumor"), colon)
    for part, names in (("chest", rows), ("endo", endo), ("colon", colon)):
        for number, row in enumerate(names):
            draw(train / part / "images" / str(row[0]), seed=number)


def pcam200(root: Path) -> None:
    lists(
        root / "pcam200_meta.json",
        [
            {"image": "images/a.png", "label": "tumor", "rad": ["tumor"] * 10, "moed": ["tumor", "normal"]},
            {"image": "images/b.png", "label": "normal", "rad": ["normal"] * 10, "moed": ["normal"]},
        ],
    )
    draw(root / "images" / "a.png")
    draw(root / "images" / "b.png", seed=1)


def vqa_rad(root: Path) -> None:
    def question(qid: int, image: str, answer: Any, kind: str) -> Mapping[str, Any]:
        return {
            "qid": qid,
            "image_name": image,
            "image_organ": "CHEST",
            "answer": answer,
            "answer_type": kind,
            "question_type": "PRES",
            "question": f"Question {qid}?",
            "phrase_type": "freeform",
        }

    train = [question(1, "a.jpg", "Yes", "CLOSED "), question(2, "b.jpg", 4, "OPEN")]
    lists(root / "trainset.json", train)
    lists(root / "testset.json", [question(3, "c.jpg", "no", "CLOSED"), question(5, "a.jpg", "lung", "OPEN")])
    for number, name in enumerate("abc"):
        draw(root / "images" / f"{name}.jpg", seed=number)


def vqa_rad_public(root: Path) -> None:
    rows = [
        {
            "qid": str(number),
            "phrase_type": phrase,
            "image_name": f"{number}.jpg",
            "image_organ": "HEAD",
            "question": "Is it?",
            "question_type": "PRES",
            "answer": "Yes",
            "answer_type": "CLOSED",
        }
        for number, phrase in enumerate(("freeform", "para", "test_freeform", "test_para"))
    ]
    lists(root / "VQA_RAD Dataset Public.json", rows)
    for number in range(4):
        draw(root / "VQA_RAD Image Folder" / f"{number}.jpg", seed=number)


def slake(root: Path) -> None:
    for number, split in enumerate(("train", "validate", "test")):
        rows = [
            {
                "img_id": number,
                "img_name": f"xmlab{number}/source.jpg",
                "question": question,
                "answer": answer,
                "q_lang": language,
                "location": "Abdomen",
                "modality": "MRI",
                "answer_type": kind,
                "base_type": "vqa",
                "content_type": "Modality",
                "triple": ["vhead", "_", "_"],
                "qid": place,
            }
            for place, (question, answer, language, kind) in enumerate(
                (
                    ("What modality is used to take this image?", "MRI", "en", "OPEN"),
                    ("Does the picture contain liver?", "Yes", "en", "CLOSED"),
                    ("这是什么模态?", "MRI", "zh", "OPEN"),
                )
            )
        ]
        lists(root / f"{split}.json", rows)
        draw(root / "imgs" / f"xmlab{number}" / "source.jpg", seed=number)


def path_vqa(root: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        rows = [
            {
                "answer_type": "yes/no",
                "img_id": f"{split}_0001",
                "label": {"yes": 1},
                "question_id": number,
                "question_type": "is",
                "sent": "is this a tumour?",
            },
            {
                "answer_type": "other",
                "img_id": f"{split}_0001",
                "label": {"epithelial cells": 1},
                "question_id": number + 10,
                "question_type": "what",
                "sent": "what is shown?",
            },
        ]
        pickled(root / "qas" / f"{split}_vqa.pkl", rows)
        draw(root / "images" / split / f"{split}_0001.jpg", seed=number)


def path_qa(root: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        rows = [{"image": f"{split}_0001", "question": "is this a tumour?", "answer": "no"}]
        pickled(root / "qas" / split / f"{split}_qa.pkl", rows)
        draw(root / "images" / split / f"{split}_0001.jpg", seed=number)


def pmc_vqa(root: Path) -> None:
    columns = (
        "Figure_path",
        "Question",
        "Answer",
        "Choice A",
        "Choice B",
        "Choice C",
        "Choice D",
        "Answer_label",
    )
    row = ("PMC1_F1.jpg", "What is it? ", " bone ", " A:skin ", " B:bone ", " C:liver ", " D:lung ", "B")
    table(root / "test.csv", columns, [row])
    draw(root / "images" / "PMC1_F1.jpg")


def pmc_vqa_2(root: Path) -> None:
    columns = (
        "index",
        "Figure_path",
        "Caption",
        "Question",
        " Choice A",
        " Choice B",
        " Choice C",
        " Choice D",
        "Answer",
        "split",
    )
    row = (
        0,
        "PMC1_F1.jpg",
        "A caption",
        "What is it?",
        "A: skin",
        "B: bone",
        "C: liver",
        "D: lung",
        "C",
        "test",
    )
    table(root / "test_2.csv", columns, [row])
    draw(root / "figures" / "PMC1_F1.jpg")


def vqa_med(root: Path) -> None:
    places = {
        "ImageClef-2019-VQA-Med-Training": ("All_QA_Pairs_train.txt", "Train_images", "synpic1|what?|ct"),
        "ImageClef-2019-VQA-Med-Validation": ("All_QA_Pairs_val.txt", "Val_images", "synpic2|is it mri?|no"),
        "VQAMed2019Test": (
            "VQAMed2019_Test_Questions_w_Ref_Answers.txt",
            "VQAMed2019_Test_Images",
            "synpic3|modality|is this a t1 weighted image?|yes",
        ),
    }
    for number, (folder, (name, images, line)) in enumerate(places.items()):
        draw(root / folder / images / f"synpic{number + 1}.jpg", seed=number)
        (root / folder / name).write_text(line + "\n", encoding="utf-8")


def omnimedvqa(root: Path) -> None:
    row = {
        "dataset": "ACRIMA",
        "question_id": "ACRIMA_0000",
        "question_type": "Disease Diagnosis",
        "question": "What is it?",
        "gt_answer": "Glaucoma",
        "image_path": "Images/ACRIMA/Im553.png",
        "option_A": "Normal",
        "option_B": "Glaucoma",
        "option_C": "Myopia",
        "modality_type": "Fundus",
    }
    lists(root / "QA_information" / "Open-access" / "ACRIMA.json", [row])
    odd = {**row, "question_id": "CT_0000", "modality": "CT", "option_D": "Cataract"}
    del odd["modality_type"]
    lists(root / "QA_information" / "Open-access" / "Chest CT Scan.json", [odd])
    draw(root / "Images" / "ACRIMA" / "Im553.png")


def iu_r2gen(root: Path) -> None:
    content = {
        split: [
            {
                "id": f"CXR{number}_IM-{number}",
                "report": "Lungs are clear.",
                "image_path": [f"CXR{number}_IM-{number}/{view}.png" for view in (0, 1)],
                "split": split,
            }
        ]
        for number, split in enumerate(("train", "val", "test"))
    }
    lists(root / "annotation.json", content)
    for number in range(3):
        for view in (0, 1):
            draw(root / "images" / f"CXR{number}_IM-{number}" / f"{view}.png", seed=number * 2 + view)


_STUDY = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">{indication}</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">No acute disease.</AbstractText>
</Abstract></Article></MedlineCitation>
{images}
</eCitation>
"""


def iu_openi(root: Path) -> None:
    for number in range(5):
        names = [f"CXR{number}_1_IM-0001-{view}001" for view in (3, 4)] if number else []
        images = "".join(f'<parentImage id="{name}"><caption>x</caption></parentImage>' for name in names)
        text = _STUDY.format(indication="Cough", findings="Heart size normal.", images=images)
        path = root / "ecgen-radiology" / f"{number}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        for place, name in enumerate(names):
            draw(root / "NLMCXR_png" / f"{name}.png", seed=number * 2 + place)


def iu_kaggle(root: Path) -> None:
    table(
        root / "indiana_reports.csv",
        ("uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"),
        [
            (n, "normal", "normal", "Xray", "Cough", "None", *(("", "") if n == 4 else ("Clear.", "Normal.")))
            for n in range(5)
        ],
    )
    rows = [(n, f"{n}_IM-000{n}-{view}001.dcm.png", "Frontal") for n in range(5) for view in (1, 2)]
    table(root / "indiana_projections.csv", ("uid", "filename", "projection"), rows)
    for number, row in enumerate(rows):
        draw(root / "images" / "images_normalized" / str(row[1]), seed=number)


def iu_meddr(root: Path) -> None:
    rows = [
        {
            "id": n,
            "split": "test",
            "image": f"images/CXR30_IM-1/{n}.png",
            "text": "Clear.",
            "question_id": n,
            "answer": "Clear.",
        }
        for n in (0, 1)
    ]
    (root).mkdir(parents=True, exist_ok=True)
    (root / "iu_mrg_meta.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for number in (0, 1):
        draw(root / "images" / "CXR30_IM-1" / f"{number}.png", seed=number)


def mimic_r2gen(root: Path) -> None:
    content = {
        split: [
            {
                "id": f"02aa804e-{number}",
                "study_id": 50414267,
                "subject_id": 10000032 + number,
                "report": "No focal consolidation.",
                "split": split,
                "image_path": [f"p10/p1000003{number}/s50414267/02aa804e-{number}.jpg"],
            }
        ]
        for number, split in enumerate(("train", "val", "test"))
    }
    lists(root / "annotation.json", content)
    for number in range(3):
        draw(root / "images" / f"p10/p1000003{number}/s50414267/02aa804e-{number}.jpg", seed=number)


def mimic_conversations(root: Path) -> None:
    rows = []
    for number in range(3):
        image = f"files/p10/p1000003{number}/s5/{number}.jpg"
        rows.append(
            {
                "id": number,
                "study_id": 5,
                "subject_id": 10000032 + number,
                "split": "test",
                "image": image,
                "conversations": [
                    {"from": "human", "value": "<image>\nYou are required to generate a summary report."},
                    {"from": "gpt", "value": "Clips project over the left lung."},
                ],
            }
        )
        draw(root / image, seed=number)
    lists(root / "meddr.json", rows)


OCT = ("AMD", "CNV", "CSR", "DME", "DR", "DRUSEN", "MH", "NORMAL")

PUBLISHED: Mapping[tuple[str, str], Callable[[Path], object]] = {
    ("ham10000", "published"): ham10000,
    ("bcn20000", "figshare"): bcn20000,
    ("derm7pt", "published"): derm7pt,
    ("dermnet", "published"): lambda root: [
        draw(root / split / "Eczema Photos" / f"{split}.jpg", seed=len(split)) for split in ("train", "test")
    ],
    ("retoct", "nested"): lambda root: classes(root / "RetinalOCT_Dataset" / "RetinalOCT_Dataset", OCT),
    ("retoct", "published"): lambda root: classes(root / "RetinalOCT_Dataset", OCT),
    ("retoct", "bare"): lambda root: classes(root, OCT),
    ("brset", "published"): brset,
    ("rsna_pneumonia", "published"): rsna,
    ("vindr_pcxr", "published"): vindr_pcxr,
    ("vindr_spinexr", "published"): vindr_spinexr,
    ("vindr_mammo", "published"): vindr_mammo,
    ("cbis_ddsm_mass", "published"): cbis_ddsm,
    ("cbis_ddsm_calc", "published"): cbis_ddsm,
    ("fmc_chest", "published"): fmc,
    ("fmc_colon", "published"): fmc,
    ("fmc_endo", "published"): fmc,
    ("pcam200", "meta"): pcam200,
    ("pcam200", "folders"): lambda root: classes(root, ("0", "1"), ".png"),
    ("vqa_rad", "train and test sets"): vqa_rad,
    ("vqa_rad", "published"): vqa_rad_public,
    ("slake", "published"): slake,
    ("path_vqa", "vqa"): path_vqa,
    ("path_vqa", "qa"): path_qa,
    ("pmc_vqa", "version 1"): pmc_vqa,
    ("pmc_vqa", "version 2"): pmc_vqa_2,
    ("vqa_med_2019", "published"): vqa_med,
    ("omnimedvqa", "published"): omnimedvqa,
    ("iu_xray", "R2Gen"): iu_r2gen,
    ("iu_xray", "Open-i"): iu_openi,
    ("iu_xray", "Kaggle"): iu_kaggle,
    ("iu_xray", "MedDr"): iu_meddr,
    ("mimic_cxr", "R2Gen"): mimic_r2gen,
    ("mimic_cxr", "conversations"): mimic_conversations,
}
"""By name and edition of the registry; arrays and sets with a ``labels.csv`` have tests of their own."""

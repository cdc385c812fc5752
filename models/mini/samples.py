"""The bundled sample images: chosen from the test splits, copied with their origin and licence.

``python -m gsco.models.mini.samples DATASETS`` writes them anew. The choice depends on nothing but
the data: within a class the images are ordered by a hash of their name, and each of the chosen
ones comes from another group (patient, source tile) that lies wholly in the test split.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...case import Record

FOLDER = Path(__file__).parent / "samples"
PER_CLASS = 3


class Sample(Record):
    """One bundled image with its known diagnosis."""

    file: str
    """Path below the samples folder."""
    task: str
    label: str
    sha256: str
    """Hash of the file's bytes."""
    source: str
    """Data set and the image's path in it."""
    group: str
    """Patient or source tile in the data set."""
    licence: str
    attribution: str

    @property
    def path(self) -> Path:
        """Where the file is."""
        return FOLDER / self.file


@dataclass(frozen=True)
class SampleOrigin:
    """Where a data set comes from and on what terms its images may be passed on."""

    title: str
    licence: str
    attribution: str
    remark: str = ""


ORIGINS: Mapping[str, SampleOrigin] = {
    "chest_xray": SampleOrigin(
        title="Paediatric chest X-rays (224 px)",
        licence="CC BY 4.0",
        attribution="Kermany, Zhang and Goldbaum 2018, Mendeley Data, doi:10.17632/rscbjbr9sj",
    ),
    "brain_mri": SampleOrigin(
        title="Brain MRI (192 px)",
        licence="CC0 1.0",
        attribution="Nickparvar, Brain Tumor MRI Dataset, drawn from figshare, SARTAJ and Br35H",
        remark="CC0 is what the collection states; its own sources are the three named ones.",
    ),
    "busi": SampleOrigin(
        title="Breast ultrasound (256 px)",
        licence="CC BY 4.0",
        attribution="Al-Dhabyani et al. 2020, Dataset of breast ultrasound images, Data in Brief 28",
        remark="CC BY 4.0 is the licence of the derivative that MedMNIST publishes; other copies of "
        "the data set state other terms.",
    ),
    "lung_histology": SampleOrigin(
        title="Lung histopathology, H&E (224 px)",
        licence="free use, as stated by its authors",
        attribution="Borkowski et al. 2019, LC25000, arXiv:1912.12142",
        remark="The authors make the images freely available to be used in any way.",
    ),
}


def samples(task: str | None = None) -> list[Sample]:
    """List the bundled samples, of one task or of all.

    Raises:
        FileNotFoundError: the list is not there: the installation is incomplete.
    """
    entries = json.loads((FOLDER / "samples.json").read_text(encoding="utf-8"))
    found = [Sample.model_validate(entry) for entry in entries]
    return [sample for sample in found if task in (None, sample.task)]


def choose(rows: Sequence[Mapping[str, str]], per_class: int = PER_CLASS) -> list[Mapping[str, str]]:
    """Pick test images of each class, each from another group, the same ones for the same data.

    Args:
        rows: a ``labels.csv`` with the columns path, label, group and split.
        per_class: how many of each class.
    """
    seen_elsewhere = {row["group"] for row in rows if row["split"] != "test"}
    chosen: list[Mapping[str, str]] = []
    taken: dict[str, set[str]] = {}
    for row in sorted(rows, key=lambda row: hashlib.sha256(row["path"].encode()).hexdigest()):
        groups = taken.setdefault(row["label"], set())
        if len(groups) < per_class and row["group"] not in seen_elsewhere | groups:
            groups.add(row["group"])
            chosen.append(row)
    return sorted(chosen, key=lambda row: (row["label"], row["path"]))


def build(datasets: Path, folder: Path = FOLDER) -> list[Sample]:
    """Copy the samples of every bundled task out of the data sets and write their list.

    Args:
        datasets: the folder that holds one folder per task, each with a ``labels.csv``.
        folder: what to write; it is replaced as a whole.
    """
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    written = [sample for task in ORIGINS for sample in _copy(task, datasets / task, fresh)]
    listing = json.dumps([sample.model_dump() for sample in written], indent=1, ensure_ascii=False)
    (fresh / "samples.json").write_text(listing + "\n", encoding="utf-8")
    (fresh / "LICENCES.md").write_text(_licences(), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)
    return written


def _copy(task: str, dataset: Path, folder: Path) -> Iterator[Sample]:
    (folder / task).mkdir(parents=True)
    with (dataset / "labels.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    for number, row in enumerate(choose(rows), start=1):
        content = (dataset / row["path"]).read_bytes()
        file = f"{task}/{number:02}{Path(row['path']).suffix}"
        (folder / file).write_bytes(content)
        yield Sample(
            file=file,
            task=task,
            label=row["label"],
            sha256=hashlib.sha256(content).hexdigest(),
            source=f"{task}/{row['path']}",
            group=row["group"],
            licence=ORIGINS[task].licence,
            attribution=ORIGINS[task].attribution,
        )


def _licences() -> str:
    lines = [
        "# Where the sample images come from",
        "",
        "Files from the test splits, copied unchanged; `samples.json` names each one's source.",
        "",
    ]
    for task, origin in ORIGINS.items():
        lines += [f"## {task}: {origin.title}", "", f"{origin.attribution}.", f"Licence: {origin.licence}."]
        lines += [origin.remark, ""] if origin.remark else [""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m gsco.models.mini.samples DATASETS")
    print(f"{len(build(Path(sys.argv[1])))} sample images in {FOLDER}")

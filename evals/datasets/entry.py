"""What the registry knows of a data set: its task, its licence, where it is, and how it lies on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from ...case import Record, Task, TaskKind

Access = Literal["open", "registration", "agreement", "not published"]
"""``agreement``: a data use agreement or credentials are asked for."""
Role = Literal["internal", "external", "open"]
"""In the paper: trained on by MedDr, or not; ``open``: one of the sets that this project runs on."""


class Labelled(Record):
    """A folder per class, or a ``labels.csv``; see ``models.dataset.read_dataset``."""

    kind: Literal["labelled"] = "labelled"
    folder: str = "."
    """Where the classes' folders are, relative to the set's folder."""
    values: Mapping[str, str] = Field(default_factory=dict)
    """Names of folders or labels to the task's options, where they differ."""
    split: str = ""
    """What all of it is, where it has no splits of its own; empty: they are drawn."""


class Arrays(Record):
    """One ``.npz`` of images and labels, as MedMNIST publishes them; see ``models.arrays``."""

    kind: Literal["arrays"] = "arrays"
    file: str
    """The 28-pixel file's name; those of other sizes (``NAME_64.npz``) are taken where it is absent."""


class TableLayout(Record):
    """Rows of CSV, TSV, JSON, JSON lines or plain pickles that name images.

    A pattern holds column names in braces: ``images/{image_id}.jpg``.
    """

    kind: Literal["table"] = "table"
    files: Mapping[str, tuple[str, ...]]
    """Patterns of files by split, or by ``all``. A JSON object of lists by split is read as such."""
    columns: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Of files without a heading line, separated by ``|``: their columns, by split."""
    derived: Mapping[str, tuple[str, str]] = Field(default_factory=dict)
    """Further columns: (column, regular expression), the first group of the match."""
    join: tuple[str, str] | None = None
    """Another table and the column by which its rows are added to these."""
    where: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Only rows with one of these values."""
    image: str
    """Pattern of the image's path; a list in a column means several images; ``*`` is a wildcard."""
    folders: tuple[str, ...] = (".",)
    """Folders in which images may lie, tried in this order."""
    id: str = ""
    """Pattern; empty means the first image's path."""
    group: str = ""
    """Pattern; empty means the first image's path."""
    split: str = ""
    """Column that names the split."""
    splits: Mapping[str, str] = Field(default_factory=dict)
    """Its values, where they are not train, val and test in some spelling."""
    indexes: Mapping[str, str] = Field(default_factory=dict)
    """Files by split that list row numbers, from 0, in their first column."""
    label: str = ""
    """Column of the label."""
    marks: Mapping[str, str] = Field(default_factory=dict)
    """Columns of 0 and 1 that each stand for one option."""
    otherwise: str = ""
    """Option of rows in which nothing is marked."""
    values: Mapping[str, str] = Field(default_factory=dict)
    """The label column's values to options, where they differ; a value that maps to nothing is left out."""
    merge: bool = False
    """Several rows are about one image: their labels are put together."""
    priority: tuple[str, ...] = ()
    """Which one label remains of merged rows: the first of these that any row has."""
    question: str = ""
    answer: str = ""
    """Column of the answer; a mapping in it means that each of its keys is accepted."""
    choices: tuple[str, ...] = ()
    """Columns of the choices; an answer that is a letter stands for one of them."""
    report: tuple[str, ...] = ()
    """Columns whose texts make up the report."""
    extras: Mapping[str, str] = Field(default_factory=dict)
    """Name to column of what else is kept."""


class Conversations(Record):
    """Instruction data of InternVL and MedDr; see ``models.generalist.conversations``."""

    kind: Literal["conversations"] = "conversations"
    files: tuple[str, ...]
    root: str = "."
    """Folder that the images' paths are relative to."""


class OpenI(Record):
    """The Indiana chest X-rays as the National Library of Medicine has them: one XML file per study."""

    kind: Literal["openi"] = "openi"
    reports: tuple[str, ...] = ("ecgen-radiology", "NLMCXR_reports/ecgen-radiology")
    images: tuple[str, ...] = ("NLMCXR_png", "images", ".")


class Dicom(Record):
    """A folder of DICOM files, and a table that labels them by an identifier of their headers."""

    kind: Literal["dicom"] = "dicom"
    folder: str = "."
    table: str = "labels.csv"
    """Columns: ``label``, perhaps ``split``, and one of ``path``, ``SOPInstanceUID``,
    ``SeriesInstanceUID``, ``StudyInstanceUID``, ``PatientID``."""


Layout = Annotated[
    Labelled | Arrays | TableLayout | Conversations | OpenI | Dicom, Field(discriminator="kind")
]


class Edition(Record):
    """One of the forms in which a set is published."""

    name: str = "published"
    needs: tuple[str, ...]
    """Patterns of files or folders by which it is recognised; all must match something."""
    layout: Layout
    counts: Mapping[str, int] = Field(default_factory=dict)
    """Examples of each split as published (``all``: where splits are drawn); empty where that is unknown."""
    checked: str
    """How the layout is known, or what about it could not be checked."""


class DatasetEntry(Record):
    """A data set of the registry."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    title: str
    kind: TaskKind
    modality: str
    options: tuple[str, ...] = ()
    negative: str | None = None
    role: Role
    metric: str
    """By which it is usually judged."""
    licence: str
    access: Access
    source: str
    """Where to get it."""
    folders: tuple[str, ...] = ()
    """Names that its folder may have inside ``GSCO_DATASETS``, beside its own."""
    task: str = ""
    """Built-in task card that is asked; empty: one is made from this entry."""
    editions: Annotated[tuple[Edition, ...], Field(min_length=1)]
    notes: str = ""

    def card(self) -> Task:
        """Return the task that it asks."""
        from ...tasks import builtin_tasks

        if self.task:
            return builtin_tasks()[self.task]
        return Task(
            name=self.name,
            kind=self.kind,
            title=self.title,
            modality=self.modality,
            options=self.options,
            negative=self.negative,
            licence=self.licence,
            source=self.source,
        )

"""Data sets in one file of arrays, as MedMNIST publishes them: unpacked once into images and a table.

A file holds ``train_images``, ``train_labels`` and the same of ``val`` and ``test``: images uint8
``(n, height, width)`` or ``(n, height, width, 3)``, labels class indices ``(n, 1)`` or 0/1 ``(n, classes)``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..disk import DAMAGED_ZIP, file_hash
from ..errors import ConfigurationError
from .splits import SPLITS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .._support.progress import Progress

    Array = npt.NDArray[np.uint8]

ARRAYS = ".npz"
_MALFORMED = (*DAMAGED_ZIP, OSError, KeyError)
"""What zipfile and numpy raise for files that are damaged or made up."""
NAMES = "labels.json"
"""File beside the arrays that names the classes of a set that is not known here: a list."""

_ORGANS = (
    "bladder",
    "left femur",
    "right femur",
    "heart",
    "left kidney",
    "right kidney",
    "liver",
    "left lung",
    "right lung",
    "pancreas",
    "spleen",
)

CLASSES: Mapping[str, tuple[str, ...]] = {
    "pathmnist": (
        "adipose",
        "background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    ),
    "chestmnist": (
        "atelectasis",
        "cardiomegaly",
        "effusion",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "pneumothorax",
        "consolidation",
        "edema",
        "emphysema",
        "fibrosis",
        "pleural thickening",
        "hernia",
    ),
    "dermamnist": (
        "actinic keratosis",
        "basal cell carcinoma",
        "benign keratosis",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevus",
        "vascular lesion",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal or benign"),
    "bloodmnist": (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocyte",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}
"""Classes of the MedMNIST sets by file name, in the order of the indices; no name holds a comma."""


def unpack(source: Path, folder: Path | None = None) -> Path:
    """Write a file's images into a folder with a ``labels.csv``, unless they lie there already.

    Args:
        source: the file of arrays. It is one of ``CLASSES`` (a size, as in ``pathmnist_64.npz``, is allowed
            for), or there is a ``labels.json`` beside it.
        folder: where unpacked sets go; None means ``unpacked`` in ``GSCO_HOME``. A set's own folder is named
            by the file's hash and classes.

    Returns:
        The set's folder.

    Raises:
        ConfigurationError: the file cannot be read, or is not of this form, or its classes are not known.
    """
    names = _classes_of(source)
    if folder is None:
        from ..settings import Settings

        folder = Settings().home / "unpacked"
    target = folder / _key(source, names) / source.stem
    if target.is_dir():
        return target
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _write(source, names, fresh)
        if not target.is_dir():
            fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def only_arrays(folder: Path) -> Path | None:
    """Return the file of arrays that is all that a folder holds, if that is so."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    arrays = [entry for entry in entries if entry.suffix == ARRAYS]
    others = [entry for entry in entries if entry.suffix != ARRAYS and entry.name != NAMES]
    return arrays[0] if len(arrays) == 1 and not others else None


def _classes_of(source: Path) -> tuple[str, ...]:
    beside = source.with_name(NAMES)
    if beside.is_file():
        try:
            names = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigurationError(f"{beside} is not JSON: {error}") from error
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise ConfigurationError(f"{beside} must be a list of the classes' names")
        return tuple(names)
    name = re.sub(r"_(28|64|128|224)$", "", source.stem.lower())
    if name not in CLASSES:
        raise ConfigurationError(
            f"the classes of {source.name} are not known: it is not one of {', '.join(CLASSES)}; "
            f"write their names, in the order of the indices, as a list into {NAMES} beside it"
        )
    return CLASSES[name]


def _key(source: Path, names: Sequence[str]) -> str:
    try:
        content = file_hash(source)
    except OSError as error:
        raise ConfigurationError(f"cannot read {source}: {error.strerror}") from error
    return hashlib.sha256(json.dumps([content, list(names)]).encode()).hexdigest()[:16]


def _write(source: Path, names: Sequence[str], folder: Path) -> None:
    from .._support.progress import Progress

    folder.mkdir(parents=True)
    splits = dict(_splits(source, names))
    total = sum(len(images) for images, _ in splits.values())
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "label", "split"))
        with Progress(f"unpacking {source.name}", total) as progress:
            for split, (images, labels) in splits.items():
                (folder / split).mkdir()
                table.writerows(
                    (path, label, split)
                    for path, label in zip(_pictures(images, folder, split, progress), labels, strict=True)
                )


def _pictures(images: Array, folder: Path, split: str, progress: Progress) -> Iterator[str]:
    from PIL import Image

    for number, pixels in enumerate(images):
        path = f"{split}/{number:06d}.png"
        Image.fromarray(pixels).save(folder / path)
        progress.advance()
        yield path


def _splits(source: Path, names: Sequence[str]) -> Iterator[tuple[str, tuple[Array, list[str]]]]:
    """Yield images and labels of each split; several labels are joined by a plus, as in a csv."""
    import numpy as np

    try:
        with source.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            wanted = [f"{split}_{part}" for split in SPLITS for part in ("images", "labels")]
            if missing := [name for name in wanted if name not in arrays.files]:
                raise ConfigurationError(f"{source.name} lacks the arrays {', '.join(missing)}")
            _check_memory(source)
            for split in SPLITS:
                images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
                _check(images, labels, names, f"{source.name}, {split}")
                yield split, (images, _spelt(labels, names))
    except _MALFORMED as error:
        raise ConfigurationError(f"{source} is not a file of plain arrays: {error}") from error


def _check_memory(source: Path) -> None:
    """Refuse arrays larger than half of the memory before one is made: a few kilobytes can claim terabytes.

    Raises:
        ValueError: one is, or is no array.
    """
    from numpy.lib import format as npy

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**36
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                shape, _, dtype = headers[npy.read_magic(file)](file)
            size = max(math.prod(shape) * dtype.itemsize, entry.file_size)
            if size > memory // 2:
                raise ValueError(f"{entry.filename} has {size} bytes, more than half of the memory")


def _check(images: Array, labels: npt.NDArray[np.integer], names: Sequence[str], place: str) -> None:
    planes = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    if images.dtype != "uint8" or not planes:
        raise ConfigurationError(
            f"{place}: images must be uint8 (n, height, width) or (n, height, width, 3), "
            f"not {images.dtype} {images.shape}; volumes are not supported"
        )
    if labels.ndim not in (1, 2) or len(labels) != len(images) or labels.dtype.kind not in "iu":
        raise ConfigurationError(f"{place}: {len(images)} images need as many whole-numbered labels")
    single = labels.ndim == 1 or labels.shape[1] == 1
    if not single and labels.shape[1] != len(names):
        raise ConfigurationError(f"{place}: {labels.shape[1]} label columns, but {len(names)} classes")
    if len(labels) and (labels.min() < 0 or labels.max() >= (len(names) if single else 2)):
        raise ConfigurationError(f"{place}: a label is not one of the {len(names)} classes")


def _spelt(labels: npt.NDArray[np.integer], names: Sequence[str]) -> list[str]:
    if labels.ndim == 2 and labels.shape[1] > 1:
        return ["+".join(name for name, true in zip(names, row, strict=True) if true) for row in labels]
    return [names[int(index)] for index in labels.reshape(-1)]

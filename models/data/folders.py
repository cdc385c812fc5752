"""Classes and splits by folders, as people and Kaggle lay them out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...disk import file_hash
from ...errors import ConfigurationError
from ..splits import Split
from .files import image_files, is_junk
from .rows import DatasetLayout, LabelledRow, split_named

_NEUTRAL = frozenset(
    {"image", "images", "img", "imgs", "picture", "pictures", "jpg", "jpeg", "png", "dicom", "dcm"}
)
_SHOWN = 5
_STRAY = 0.2


@dataclass(frozen=True)
class _Placed:
    """An image, its split, and the folders that may be its class, outermost first."""

    file: PurePosixPath
    split: Split | None
    before: tuple[str, ...]
    """Folders in front of the split's."""
    names: tuple[str, ...]


def read_folders(folder: Path, spelling: Mapping[str, str] | None = None) -> DatasetLayout:
    """Read images whose folders say class and split, in any order and depth.

    Args:
        folder: the data set.
        spelling: accepted labels in small letters, where a task is known; they decide which level of folders
            is the classes'.

    Raises:
        ConfigurationError: there are no images in folders, or two levels of folders may be the classes.
    """
    layout = DatasetLayout([], "a folder per class")
    placed = _placed(image_files(folder, layout))
    placed = _without_copies(folder, placed, layout)
    placed = _without_strays(placed, layout)
    classed = [one for one in placed if one.names]
    for one in placed:
        if not one.names:
            layout.leave_out("in no class folder", str(one.file))
    if not classed:
        raise ConfigurationError(
            f"{folder} holds neither a labels.csv nor sub-folders with images, one per class"
        )
    level = _class_level([one.names for one in classed], spelling)
    if any(one.split for one in classed):
        layout.kind = "a folder per split and class"
    if level:
        layout.notes.append("classes are the innermost folders")
    layout.rows = [
        LabelledRow(str(one.file), (one.names[level].strip(),), split=one.split) for one in classed
    ]
    _note_empty(folder, layout)
    return layout


def _placed(files: Sequence[PurePosixPath]) -> list[_Placed]:
    splits = _split_folders(files)
    found = []
    for file in files:
        place = next((parent for parent in reversed(file.parents) if parent in splits), None)
        names = [
            parent.name
            for parent in reversed(file.parents[:-1])
            if parent != place and parent.name.casefold() not in _NEUTRAL
        ]
        before = place.parts[:-1] if place is not None else ()
        found.append(_Placed(file, splits[place] if place is not None else None, before, tuple(names)))
    return _unwrapped(found)


def _split_folders(files: Iterable[PurePosixPath]) -> dict[PurePosixPath, Split]:
    """Folders that are splits: siblings that name two different ones, or all siblings name one."""
    children: dict[PurePosixPath, set[PurePosixPath]] = defaultdict(set)
    for file in files:
        for parent in file.parents[:-1]:
            children[parent.parent].add(parent)
    found: dict[PurePosixPath, Split] = {}
    for siblings in children.values():
        named: dict[PurePosixPath, Split] = {
            place: split for place in siblings if (split := split_named(place.name))
        }
        if len(set(named.values())) > 1 or len(named) == len(siblings):
            found |= named
    return found


def _unwrapped(placed: list[_Placed]) -> list[_Placed]:
    """Take away outer folders that all images share, as archives have them."""
    while placed and all(len(one.names) > 1 for one in placed) and len({one.names[0] for one in placed}) == 1:
        placed = [_Placed(one.file, one.split, one.before, one.names[1:]) for one in placed]
    return placed


def _without_copies(folder: Path, placed: list[_Placed], layout: DatasetLayout) -> list[_Placed]:
    """Leave out a second copy of a set with splits inside of it, as Kaggle's chest X-rays have one."""
    places = sorted({one.before for one in placed if one.split}, key=len)
    inner = [place for place in places if any(place[: len(o)] == o and place != o for o in places)]
    if not inner:
        return placed
    outer = [one for one in placed if one.split and one.before not in inner]
    known = {file_hash(folder / one.file) for one in outer}
    kept = []
    for one in placed:
        if not any(one.file.parts[: len(place)] == place for place in inner):
            kept.append(one)
        elif file_hash(folder / one.file) in known:
            layout.leave_out(f"copies inside {'/'.join(inner[0])}/", str(one.file))
        else:
            raise ConfigurationError(
                f"{folder} holds a data set with splits of its own in {'/'.join(inner[0])}, which is not a "
                "copy of the outer one; name the one that you mean"
            )
    # Without the copies an outer folder may be shared by all.
    return _placed([one.file for one in kept])


def _without_strays(placed: list[_Placed], layout: DatasetLayout) -> list[_Placed]:
    """Leave out the few images that lie beside the folders of the splits."""
    strays = [one for one in placed if one.split is None]
    if not strays or len(strays) == len(placed):
        return placed
    if len(strays) > _STRAY * len(placed):
        examples = ", ".join(str(one.file) for one in strays[:3])
        raise ConfigurationError(
            f"{len(strays)} of {len(placed)} images lie outside the folders of the splits, for example "
            f"{examples}; move them, or read the folders one by one"
        )
    for one in strays:
        layout.leave_out("outside the folders of the splits", str(one.file))
    return [one for one in placed if one.split]


def _class_level(names: Sequence[tuple[str, ...]], spelling: Mapping[str, str] | None) -> int:
    """Which folder is the class: 0 for the outermost, -1 for the innermost.

    Raises:
        ConfigurationError: both may be.
    """
    outer, inner = ({one[level] for one in names} for level in (0, -1))
    if spelling is not None:
        for level, found in ((0, outer), (-1, inner)):
            if all(name.strip().casefold() in spelling for name in found):
                return level
    if min(len(one) for one in names) < 2:
        return 0
    # Folders of patients or studies are numbered.
    numbered = sum(any(letter.isdigit() for letter in name) for name in inner)
    repeated = len({(one[0], one[-1]) for one in names}) > len(inner)
    if not repeated and 2 * numbered > len(inner):
        return 0
    if not repeated:
        return -1
    raise ConfigurationError(
        f"two levels of folders may be the classes: {_listed(outer)}; or {_listed(inner)}. Name a task whose "
        "options they are (--task), or write a labels.csv"
    )


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:_SHOWN]) + (f" … ({len(names)})" if len(names) > _SHOWN else "")


def _note_empty(folder: Path, layout: DatasetLayout) -> None:
    full = {parent for row in layout.rows for parent in PurePosixPath(row.path).parents}
    other = {
        parent
        for paths in layout.left_out.values()
        for path in paths
        for parent in PurePosixPath(path).parents
    }
    empty = [
        relative
        for path in sorted(folder.rglob("*"))
        if path.is_dir()
        and (relative := PurePosixPath(path.relative_to(folder).as_posix())) not in full | other
        and not any(is_junk(part) for part in relative.parts)
    ]
    if empty:
        layout.notes.append(f"{len(empty)} empty folders, for example {empty[0]}")

"""The data report: what is wrong with a data set, before anything is trained on it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ...case import Task
from ...errors import ConfigurationError
from ..dataset import Columns, Dataset, read_dataset, regrouped
from ..specialist.feature_cache import FeatureCache
from ..splits import Shares
from .confounders import Confounder, find_confounders, simple_properties
from .duplicates import equal_images, joined_groups, near_pairs
from .image_facts import ImageFacts, LookedAt, look_at
from .label_errors import find_label_errors
from .labels import near_spellings

Severity = Literal["fatal", "warning", "note"]

MEASURABLE = 3
"""A class of fewer groups than splits cannot be trained, chosen and measured on different patients."""
SMALL = 10
"""A class of fewer groups than this has intervals too wide to compare anything."""
_IMBALANCED = 20
_UNREADABLE = 0.5
_JOINED = 0.02
_CONFOUNDED = {"size": 0.3, "format": 0.3, "device": 0.3, "colour": 0.5, "border": 0.4, "corners": 0.4}
"""Skill of a property alone (see ``Confounder``) from which it is reported."""
_CROSS_CHECKED = 20
"""Images under which neither confounders nor label errors are looked for."""
_SMALL_SIDE = 32
_SHOWN = 3


@dataclass(frozen=True)
class DataProblem:
    """One finding."""

    kind: str
    """A fixed word, such as ``unreadable``, ``near_duplicates`` or ``tiny_class``: see docs/datasets.md."""
    severity: Severity
    text: str
    """What was found and what to do about it; names at most a few files."""
    paths: tuple[str, ...] = ()
    """Every file concerned, relative to the data set's folder."""
    labels: tuple[str, ...] = ()
    """Every label concerned."""


@dataclass(frozen=True)
class SuspectLabel:
    """An image whose label is likely wrong."""

    path: str
    """Relative to the data set's folder."""
    given: str
    """For a multi-label set ``no LABEL`` stands for a missing label."""
    suggested: str
    confidence: float
    """Probability of the given label, out of fold."""


@dataclass(frozen=True)
class DataReport:
    """A data set as it was understood, and what is wrong with it."""

    dataset: Dataset
    """As read."""
    usable: Dataset
    """To train on: without unreadable images and contradictory ones, copies in one group."""
    problems: tuple[DataProblem, ...]
    """The worst first."""
    suspects: tuple[SuspectLabel, ...] = ()
    """Likely label errors, the likeliest first."""
    confounders: tuple[Confounder, ...] = ()
    """How well each simple property predicts the label by itself, reported or not."""
    features: FeatureCache = field(default_factory=FeatureCache, repr=False, compare=False)
    """What the bundled frozen backbone made of the images; empty where that was not wanted."""

    @property
    def fatal(self) -> tuple[DataProblem, ...]:
        """The problems with which nothing can be trained."""
        return tuple(problem for problem in self.problems if problem.severity == "fatal")

    @property
    def unmeasurable(self) -> tuple[str, ...]:
        """Labels of too few groups to state an accuracy."""
        return next((one.labels for one in self.problems if one.kind == "tiny_class"), ())

    def check(self) -> None:
        """Make sure that something can be trained.

        Raises:
            ConfigurationError: the first fatal problem.
        """
        if self.fatal:
            raise ConfigurationError(f"data set {self.dataset.name}: {self.fatal[0].text}")

    def table(self) -> str:
        """The data set as a table, then the findings, in plain text."""
        lines = [self.dataset.table(), ""]
        if not self.problems:
            return "\n".join([*lines, "no problems found"])
        lines.append(f"findings: {len(self.problems)}")
        names = {"fatal": "ERROR", "warning": "WARNING", "note": "note"}
        lines += [f"  {names[one.severity]:<8} {one.kind}: {one.text}" for one in self.problems]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Every finding with all its files and labels, as indented JSON."""
        content = {
            "dataset": self.dataset.name,
            "layout": self.dataset.layout,
            "sha256": self.dataset.sha256,
            "counts": self.dataset.counts(),
            "images": len(self.dataset.items),
            "usable": len(self.usable.items),
            "left_out": dict(self.dataset.left_out),
            "problems": [asdict(problem) for problem in self.problems],
            "likely_label_errors": [asdict(suspect) for suspect in self.suspects],
            "confounders": [asdict(confounder) for confounder in self.confounders],
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def inspect(
    source: Path | Dataset,
    *,
    task: Task | None = None,
    columns: Columns | None = None,
    seed: int = 0,
    shares: Shares = (0.8, 0.1, 0.1),
    embed: bool = True,
    quiet: bool = False,
) -> DataReport:
    """Read a data set, look at every image once, and report what is wrong.

    Args:
        source: see ``read_dataset``; or a data set that is read already.
        task: whose options the labels must be.
        columns: of a table that names them otherwise.
        seed: draws splits and folds.
        shares: of the images that go to train, val and test, for drawn splits.
        embed: whether to look for label errors too, which needs the bundled backbone: about 50 images a
            second on two cores, most of the time that a report takes.
        quiet: show no progress.

    Raises:
        ConfigurationError: the layout cannot be read, or a label does not fit the task.

    Example:
        >>> report = inspect(Path("skin"))  # doctest: +SKIP
        >>> print(report.table())  # doctest: +SKIP
        >>> report.check()  # doctest: +SKIP
    """
    dataset = (
        source
        if isinstance(source, Dataset)
        else read_dataset(source, seed=seed, shares=shares, task=task, columns=columns, draw_validation=True)
    )
    return _Inspection(dataset, look_at([i.path for i in dataset.items], embed=embed, quiet=quiet)).report(
        seed, shares
    )


class _Inspection:
    """A data set with what its images say; each method yields the findings of one kind."""

    def __init__(self, dataset: Dataset, seen: LookedAt) -> None:
        self.dataset, self.seen, self.items = dataset, seen, dataset.items
        self.readable = [place for place, facts in enumerate(seen.facts) if facts is not None]
        self.equal = equal_images([facts.pixels if facts else None for facts in seen.facts])
        self.near = self._near()

    def _near(self) -> list[tuple[int, int]]:
        facts = self.facts(self.readable)
        if not facts:
            return []
        pairs = near_pairs(
            np.stack([one.fingerprint for one in facts]), np.array([one.spread for one in facts])
        )
        return [
            (self.readable[one], self.readable[other])
            for one, other in pairs
            if facts[one].pixels != facts[other].pixels
        ]

    def facts(self, places: Sequence[int]) -> list[ImageFacts]:
        return [facts for place in places if (facts := self.seen.facts[place]) is not None]

    def path(self, place: int) -> str:
        return self.items[place].path.relative_to(self.dataset.folder).as_posix()

    def label(self, place: int) -> str:
        return "+".join(self.items[place].labels) or "no label"

    def named(self, place: int) -> str:
        return f"{self.path(place)} ({self.label(place)})"

    def paths(self, places: Sequence[int]) -> tuple[str, ...]:
        return tuple(map(self.path, places))

    def report(self, seed: int, shares: Shares) -> DataReport:
        dataset = self.dataset
        torn = {place for several in self._torn() for place in several}
        keep = [place not in torn and facts is not None for place, facts in enumerate(self.seen.facts)]
        largest = max(20, int(_JOINED * len(self.items)))
        pairs = [*(pair for several in self.equal for pair in combinations(several, 2)), *self.near]
        groups = joined_groups([item.group for item in self.items], pairs, largest)
        usable = regrouped(dataset, keep, groups, seed=seed, shares=shares)
        rows = {item.path: place for place, item in enumerate(self.items)}
        kept = [rows[item.path] for item in usable.items]
        confounders = tuple(self._confounders(kept, groups, seed))
        suspects = tuple(self._suspects(kept, groups, seed))
        problems = [
            *self._unreadable(),
            *self._too_few_labels(usable),
            *self._contradictions(),
            *self._leakage(),
            *self._copies(),
            *self._tiny(usable),
            *self._spelling(),
            *self._modalities(),
            *self._sizes(),
            *self._confounded(confounders),
            *self._suspected(suspects),
        ]
        order = ("fatal", "warning", "note")
        return DataReport(
            dataset,
            usable,
            tuple(sorted(problems, key=lambda one: order.index(one.severity))),
            suspects,
            confounders,
            self._features(kept),
        )

    def _features(self, places: Sequence[int]) -> FeatureCache:
        cache = FeatureCache()
        if self.seen.embeddings is not None:
            hashes = [facts.pixels for facts in self.facts(places)]
            cache.add(self.seen.trunk, hashes, self.seen.embeddings[list(places)])
        return cache

    def _unreadable(self) -> Iterator[DataProblem]:
        errors = self.seen.errors
        if not errors:
            return
        first = next(iter(errors))
        share = len(errors) / len(self.items)
        yield DataProblem(
            "unreadable",
            "fatal" if share > _UNREADABLE else "warning",
            f"{len(errors)} of {len(self.items)} images cannot be read and are left out, for example "
            f"{self.path(first)}: {errors[first]}",
            self.paths(list(errors)),
        )

    def _too_few_labels(self, usable: Dataset) -> Iterator[DataProblem]:
        if len(usable.labels) < 2:
            found = ", ".join(usable.labels) or "none"
            yield DataProblem(
                "too_few_labels",
                "fatal",
                f"at least two labels are needed, and the usable images have: {found}",
                labels=usable.labels,
            )

    def _torn(self) -> list[list[int]]:
        return [several for several in self.equal if len({self.items[n].labels for n in several}) > 1]

    def _contradictions(self) -> Iterator[DataProblem]:
        torn = self._torn()
        if torn:
            one = torn[0][0]
            other = next(n for n in torn[0] if self.items[n].labels != self.items[one].labels)
            yield DataProblem(
                "contradictory_labels",
                "warning",
                f"the same image under different labels, left out ({len(torn)}): for example "
                f"{self.named(one)} and {self.named(other)}; keep the right one",
                self.paths([place for several in torn for place in several]),
            )
        pairs = [pair for pair in self.near if len({self.items[n].labels for n in pair}) > 1]
        if pairs:
            one, other = pairs[0]
            yield DataProblem(
                "near_duplicates_with_different_labels",
                "warning",
                f"images that look the same and have different labels ({_pairs(len(pairs))}): for example "
                f"{self.named(one)} and {self.named(other)}",
                self.paths(sorted({place for pair in pairs for place in pair})),
            )

    def _leakage(self) -> Iterator[DataProblem]:
        if self.dataset.drawn:
            return
        pairs = [
            *(pair for several in self.equal for pair in combinations(several, 2)),
            *self.near,
        ]
        torn = [pair for pair in pairs if len({self.items[n].split for n in pair}) > 1]
        if self.dataset.dropped:
            yield DataProblem(
                "leakage",
                "warning",
                f"{self.dataset.dropped} images of train or val share a group or content with a later split; "
                "they are left out, so that the later split stays what it was",
            )
        if torn:
            one, other = torn[0]
            yield DataProblem(
                "leakage_of_copies",
                "warning",
                f"images that are the same, or look it, in different splits ({_pairs(len(torn))}): for "
                f"example {self.path(one)} ({self.items[one].split}) and {self.path(other)} "
                f"({self.items[other].split}); those of the earlier split are left out",
                self.paths(sorted({place for pair in torn for place in pair})),
            )

    def _copies(self) -> Iterator[DataProblem]:
        torn = self._torn()
        copies = [several for several in self.equal if several not in torn]
        if copies:
            extra = sum(len(several) - 1 for several in copies)
            one, other = copies[0][:2]
            yield DataProblem(
                "equal_images",
                "note",
                f"copies of another image, pixel by pixel ({extra}): for example {self.path(one)} and "
                f"{self.path(other)}; copies stay in one split",
                self.paths([place for several in copies for place in several]),
            )
        if self.near:
            one, other = self.near[0]
            yield DataProblem(
                "near_duplicates",
                "note",
                f"images that look the same ({_pairs(len(self.near))}): for example {self.path(one)} and "
                f"{self.path(other)}; they stay in one split",
                self.paths(sorted({place for pair in self.near for place in pair})),
            )

    def _tiny(self, usable: Dataset) -> Iterator[DataProblem]:
        groups: dict[str, set[str]] = {label: set() for label in self.dataset.labels}
        images: Counter[str] = Counter()
        for item in usable.items:
            for label in item.labels:
                groups[label].add(item.group)
                images[label] += 1
        tiny = tuple(label for label, found in groups.items() if len(found) < MEASURABLE)
        small = tuple(label for label, found in groups.items() if MEASURABLE <= len(found) < SMALL)
        if tiny:
            told = ", ".join(f"{label!r} {images[label]}" for label in tiny)
            yield DataProblem(
                "tiny_class",
                "warning",
                f"too few independent images to measure anything: {told}; no accuracy can be stated for "
                "these classes: add images, join classes, or leave them out",
                labels=tiny,
            )
        if small:
            told = ", ".join(f"{label!r} {images[label]}" for label in small)
            yield DataProblem(
                "small_class",
                "warning",
                f"fewer than {SMALL} independent images: {told}; their accuracy will have a wide interval",
                labels=small,
            )
        most = max(images.values(), default=0)
        rare = tuple(label for label in groups if 0 < _IMBALANCED * images[label] < most)
        if rare:
            yield DataProblem(
                "imbalance",
                "note",
                f"the largest class has more than {_IMBALANCED} times the images of {', '.join(rare)}; read "
                "balanced accuracy, not accuracy",
                labels=rare,
            )

    def _spelling(self) -> Iterator[DataProblem]:
        counts = Counter(label for item in self.items for label in item.labels)
        for label, other in near_spellings(counts):
            yield DataProblem(
                "label_spelling",
                "warning",
                f"label {label!r} ({counts[label]} images) may be a typing error of {other!r} "
                f"({counts[other]}); rename it, or name a task with --task",
                labels=(label, other),
            )

    def _modalities(self) -> Iterator[DataProblem]:
        facts = self.facts(self.readable)
        told = Counter(one.modality for one in facts if one.modality)
        if len(told) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in told.most_common())
            yield DataProblem(
                "several_modalities",
                "warning",
                f"the DICOM files are of several modalities: {listed}; build one task for each",
            )
        coloured = [place for place in self.readable if (one := self.seen.facts[place]) and one.colour > 0.05]
        grey = sorted({*self.readable} - {*coloured})
        fewer = min(coloured, grey, key=len)
        if fewer and len(fewer) >= max(2, 0.01 * len(self.readable)):
            what = "colour" if fewer is coloured else "grey"
            yield DataProblem(
                "colour_and_grey",
                "warning" if what == "grey" or len(fewer) < 0.2 * len(facts) else "note",
                f"{len(fewer)} of {len(facts)} images are in {what} and the others are not, for example "
                f"{self.path(fewer[0])}; perhaps several modalities lie in one folder",
                self.paths(fewer),
            )

    def _sizes(self) -> Iterator[DataProblem]:
        facts = self.facts(self.readable)
        if not facts:
            return
        middle = float(np.median([min(one.width, one.height) for one in facts]))
        odd = [
            place
            for place, one in zip(self.readable, facts, strict=True)
            if min(one.width, one.height) < max(_SMALL_SIDE, middle / 4)
            or max(one.width, one.height) > 4 * min(one.width, one.height)
        ]
        if odd and len(odd) < 0.5 * len(facts):
            one = self.facts(odd[:1])[0]
            yield DataProblem(
                "odd_sizes",
                "note",
                f"images much smaller or narrower than the others ({len(odd)}): for example "
                f"{self.path(odd[0])} with {one.width} × {one.height}",
                self.paths(odd),
            )
        elif odd:
            yield DataProblem(
                "small_images",
                "note",
                f"most images are small or narrow: the median of the shorter side is {middle:.0f} pixels",
            )
        flat = [place for place, one in zip(self.readable, facts, strict=True) if one.spread < 1]
        if flat:
            yield DataProblem(
                "blank_images",
                "warning",
                f"images that show nothing ({len(flat)}): for example {self.path(flat[0])}",
                self.paths(flat),
            )

    def _targets(self, places: Sequence[int]) -> dict[str, npt.NDArray[np.integer]]:
        """One vector of classes, or for a multi-label set one of 0 and 1 per label."""
        if not self.dataset.multilabel:
            number = {label: n for n, label in enumerate(self.dataset.labels)}
            return {"": np.array([number[self.items[place].labels[0]] for place in places], dtype=int)}
        return {
            label: np.array([label in self.items[place].labels for place in places], dtype=int)
            for label in self.dataset.labels
        }

    def _confounders(self, places: Sequence[int], groups: Sequence[str], seed: int) -> Iterator[Confounder]:
        if len(places) < _CROSS_CHECKED:
            return
        paths = [self.items[place].path for place in places]
        properties = simple_properties(self.facts(places), paths, self.dataset.labels)
        found: dict[str, list[Confounder]] = defaultdict(list)
        for truth in self._targets(places).values():
            for one in find_confounders(properties, truth, [groups[place] for place in places], seed=seed):
                found[one.name].append(one)
        for several in found.values():
            yield max(several, key=lambda one: one.skill)

    def _confounded(self, confounders: Sequence[Confounder]) -> Iterator[DataProblem]:
        meaning = {
            "size": "the size of the images",
            "format": "file format and compression",
            "device": "the device named in the header",
            "colour": "whether an image has colour",
            "border": "the border of the images",
            "corners": "the corners of the images (markers, text)",
        }
        for one in sorted(confounders, key=lambda one: -one.skill):
            if one.skill >= _CONFOUNDED.get(one.name, np.inf) and one.beyond_content:
                yield DataProblem(
                    "confounder",
                    "warning",
                    f"{meaning[one.name]} alone predicts the label with balanced accuracy {one.accuracy:.2f} "
                    f"(chance {one.chance:.2f}); a model may learn that in place of the disease: take images "
                    "of all classes from the same source, or cut it away",
                )
            elif one.name == "file name" and one.skill >= 0.5:
                yield DataProblem(
                    "source",
                    "note",
                    f"the names of the files tell the label (balanced accuracy {one.accuracy:.2f}) beyond "
                    "the label's own words; the classes may come from different sources",
                )

    def _suspects(self, places: Sequence[int], groups: Sequence[str], seed: int) -> Iterator[SuspectLabel]:
        if self.seen.embeddings is None or len(places) < _CROSS_CHECKED:
            return
        embeddings = self.seen.embeddings[list(places)]
        kept = [groups[place] for place in places]
        for label, truth in self._targets(places).items():
            names = (f"no {label}", label) if label else self.dataset.labels
            for found in find_label_errors(embeddings, truth, kept, seed=seed):
                yield SuspectLabel(
                    self.path(places[found.place]),
                    names[found.given],
                    names[found.suggested],
                    found.confidence,
                )

    def _suspected(self, suspects: Sequence[SuspectLabel]) -> Iterator[DataProblem]:
        if suspects:
            told = "; ".join(
                f"{one.path} is {one.given}, looks like {one.suggested}" for one in suspects[:_SHOWN]
            )
            yield DataProblem(
                "label_errors",
                "warning",
                f"labels that are likely wrong ({len(suspects)}): {told}; the list is in the report",
                tuple(one.path for one in suspects),
            )


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"

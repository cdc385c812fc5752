"""Out-of-fold twins of a panel: specialists trained anew, by their own recipes, without a fold of the images.

A specialist's opinion on an image that it was trained on is better than what it says of a new one. The
generalist must learn from opinions as it will meet them, so each training image is judged by twins that
have never seen its group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...._support.progress import Progress
from ....errors import ConfigurationError
from ...dataset import Dataset, Item, read_dataset
from ...specialist.card import SpecialistCard
from ...specialist.panel import Panel
from ...specialist.recipe import TrainingConfig
from ...specialist.training import train_specialist
from .real_evidence import RealEvidence, judged, read_evidence, write_evidence

if TYPE_CHECKING:
    from PIL.Image import Image

    from .config import GeneralistTraining
    from .pixels import Images

IMAGES_AT_ONCE = 64
Floats = npt.NDArray[np.float32]


def fold_datasets(dataset: Dataset, folds: int, seed: int) -> list[Dataset]:
    """Split the training images into folds that no group crosses.

    Returns:
        One data set per fold: trained on the other folds, the fold itself as test split, the same
        validation images.

    Raises:
        ConfigurationError: there are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    train = dataset.split("train")
    groups = [item.group for item in train]
    if len(set(groups)) < folds:
        raise ConfigurationError(f"{dataset.name} has fewer groups in training than {folds} folds")
    targets = [item.labels[0] for item in train]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = []
    for number, (_, outside) in enumerate(splitter.split(np.zeros(len(train)), targets, groups)):
        held = {train[index].path for index in outside}
        items = tuple(
            replace(item, split="test") if item.path in held else item
            for item in dataset.items
            if item.split != "test"
        )
        name = f"{dataset.sha256} fold {number} of {folds} seed {seed}"
        found.append(replace(dataset, items=items, sha256=hashlib.sha256(name.encode()).hexdigest()))
    return found


class PanelEvidence:
    """What a panel says of its own training and validation images.

    Args:
        config: folds, known cases, neighbours, seed; its work folder keeps the twins.
        panel: folder of the specialists, ``PANEL/TASK/NAME``.
        images: the training images of one source.
    """

    def __init__(self, config: GeneralistTraining, panel: Path, images: Images) -> None:
        self._settings, self._seed, self._panel = config.evidence, config.seed, panel
        self._task, self._images = images.source.name, images
        self._folder, self._work = config.data / images.source.folder, config.work / "twins"

    @property
    def version(self) -> str:
        """Eight hex digits over all that the evidence depends on beside the images."""
        weights = sorted(member.card.weights.sha256 for member in self._real().members.values())
        settings = [self._settings.folds, self._settings.bank, self._settings.neighbours[1], self._seed]
        return hashlib.sha256(str([weights, settings]).encode()).hexdigest()[:8]

    def kept(self, images: Images, split: str) -> RealEvidence:
        """Read what an earlier run kept, or judge the images and keep it.

        Args:
            images: of the same source.
            split: of these images.

        Raises:
            ConfigurationError: as ``of``, or a file is damaged.
        """
        name = f"{self._task}-{images.sha256[:8]}-{self.version}-{split}.npz"
        path = self._work.with_name("evidence") / name
        if self._settings.known is not None and (self._settings.known / name).is_file():
            path = self._settings.known / name
        if not path.is_file():
            write_evidence(self.of(split), path)
        return read_evidence(path, len(images), len(images.labels))

    def of(self, split: str) -> RealEvidence:
        """Judge the images of ``train`` (by twins) or another split (by the panel itself).

        Raises:
            ConfigurationError: the panel is empty or was trained on other data, or there are too few groups.
        """
        dataset = read_dataset(self._folder, seed=self._seed)
        known = draw_bank(dataset.split("train"), self._settings.bank, self._seed)
        if split != "train":
            return judge(self._real(), dataset.split(split), known, self._settings.neighbours[1])
        folds = fold_datasets(dataset, self._settings.folds, self._seed)
        row = {item.path: index for index, item in enumerate(dataset.split("train"))}
        parts = []
        for number, fold in enumerate(folds):
            queries, known = (
                fold.split("test"),
                draw_bank(fold.split("train"), self._settings.bank, self._seed),
            )
            found = judge(self._twins(number, fold, dataset), queries, known, self._settings.neighbours[1])
            parts.append(([row[item.path] for item in queries], found))
        return _merged(parts, len(row))

    def _real(self) -> Panel:
        panel = Panel.load(self._task, [self._panel])
        if not panel.members:
            raise ConfigurationError(
                f"{self._panel / self._task} holds no specialists; train them first, or set real = 0"
            )
        return panel

    def _twins(self, number: int, fold: Dataset, dataset: Dataset) -> Panel:
        """Train the twins of one fold, or recognise those that are trained."""
        real, out = self._real(), self._work / f"fold-{number}"
        for member in real.members.values():
            train_specialist(_recipe(member.card, dataset), out, dataset=fold, command="out-of-fold twin")
        twins = Panel.load(self._task, [out])
        return Panel(self._task, twins.members, retriever=real.retriever)


def judge(panel: Panel, queries: Sequence[Item], known: Sequence[Item], neighbours: int) -> RealEvidence:
    """What a panel says of images, and which known images its retriever finds most similar."""
    labels, retriever = panel.labels, panel.members[panel.retriever]
    forwards = _forward(panel, queries, f"{panel.task}: opinions")
    alone = Panel(panel.task, {panel.retriever: retriever})
    vectors = _forward(alone, known, f"{panel.task}: known cases")[panel.retriever][1]
    reliabilities = np.array([member.card.reliability or 0.0 for member in panel.members.values()])
    return judged(
        tuple(panel.members),
        np.stack([forwards[name][0] for name in panel.members]),
        np.repeat(reliabilities.astype(np.float32)[:, None], len(queries), axis=1),
        forwards[panel.retriever][1],
        vectors,
        np.array([labels.index(item.labels[0]) for item in known], dtype=np.int64),
        neighbours,
    )


def draw_bank(items: Sequence[Item], per_label: int, seed: int) -> list[Item]:
    """Draw the known cases: so many of each label."""
    random = np.random.default_rng([seed, 11])
    kept: list[Item] = []
    for label in sorted({item.labels[0] for item in items}):
        members = [item for item in items if item.labels[0] == label]
        chosen = sorted(random.permutation(len(members))[:per_label])
        kept += [members[index] for index in chosen]
    return kept


def _recipe(card: SpecialistCard, dataset: Dataset) -> TrainingConfig:
    given: dict[str, Any] = {
        name: value for name, value in card.training.items() if name in TrainingConfig.model_fields
    }
    if card.data is not None and card.data.sha256 != dataset.sha256:
        raise ConfigurationError(
            f"specialist {card.task}/{card.name} was not trained on {dataset.name}; train it again"
        )
    return TrainingConfig.model_validate({**given, "data": dataset.folder})


def _forward(panel: Panel, items: Sequence[Item], title: str) -> dict[str, tuple[Floats, Floats]]:
    """Probabilities and embeddings per member, (n, labels) and (n, d)."""
    parts: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in panel.members}
    with Progress(title, len(items)) as progress:
        for images in _images(items):
            for name, found in panel.forward(images).items():
                parts[name].append((found.probabilities, found.embeddings))
            progress.advance(len(images))
    return {
        name: (np.concatenate([p for p, _ in found]), np.concatenate([e for _, e in found]))
        for name, found in parts.items()
    }


def _images(items: Sequence[Item]) -> Iterator[list[Image]]:
    from ....images import read_image

    for start in range(0, len(items), IMAGES_AT_ONCE):
        yield [read_image(item.path) for item in items[start : start + IMAGES_AT_ONCE]]


def _merged(parts: Sequence[tuple[list[int], RealEvidence]], count: int) -> RealEvidence:
    first = parts[0][1]
    members, labels = len(first.members), first.probabilities.shape[2]
    merged = RealEvidence(
        first.members,
        np.zeros((members, count, labels), dtype=np.float32),
        np.zeros((members, count), dtype=np.float32),
        np.zeros((count, first.neighbours.shape[1]), dtype=np.int64),
        np.zeros((count, first.neighbours.shape[1]), dtype=np.float32),
    )
    for rows, part in parts:
        merged.probabilities[:, rows] = part.probabilities
        merged.reliabilities[:, rows] = part.reliabilities
        merged.neighbours[rows] = part.neighbours
        merged.similarities[rows] = part.similarities
    return merged

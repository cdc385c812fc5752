"""From a data set to a specialist: train, calibrate, measure, write."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..._support.progress import Progress
from ...case import TaskKind
from ...disk import replacing
from ...errors import SpecialistError
from ..dataset import Dataset, Item, read_dataset
from .assessment import Outputs, assess, calibrate, measured, outputs_of
from .backbone import initialise, read_backbone
from .card import CARD_FILE, Base, DataSummary, SpecialistCard, Transform, Weights, read_card, write_card
from .device import choose_device
from .fitting import Examples, Fitting
from .network import check_split, create_network, load_state, reset_classifier, trunk_hash
from .pixels import ImageTensors
from .probe import Probe, embed_pixels, fit_probe, set_classifier
from .recipe import TrainingConfig
from .specialist import TimmSpecialist, transform_of
from .weights import overlay_of, round_state, write_weights

if TYPE_CHECKING:
    from pydantic import JsonValue
    from torch import Tensor, nn

    from .feature_cache import FeatureCache

WORK = ".training"
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class _Job:
    """One training, with everything it needs resolved."""

    config: TrainingConfig
    dataset: Dataset
    network: nn.Module
    transform: Transform
    base: Base | None
    base_state: dict[str, Tensor]
    encoder: str
    width: int
    fingerprint: str
    work: Path
    quiet: bool
    cache: FeatureCache | None = None

    @property
    def multilabel(self) -> bool:
        return self.dataset.multilabel

    def mirrored(self) -> _Job:
        """The same, looking at mirror images too."""
        transform = self.transform.model_copy(update={"mirrored": True})
        return replace(self, transform=transform, encoder=f"{self.encoder}+mirror")

    def examples(self, split: str) -> Examples:
        """Decode a split."""
        items = self.dataset.split(split)
        pixels = ImageTensors(
            [item.path for item in items], self.transform, memory=self.config.memory_mib * 2**20
        )
        # A head looks at each image once, so that nothing is gained by keeping them.
        if self.config.trainable != "head":
            with Progress(f"reading {split} images", len(items), quiet=self.quiet) as progress:
                pixels.load(progress)
        return Examples(pixels, targets_of(items, self.dataset.labels))


@dataclass(frozen=True)
class _Learnt:
    """What a training left beside the weights."""

    history: dict[str, JsonValue]
    out_of_fold: Outputs | None = None
    """Of a head, what was said of images that fitted nothing of it."""
    validation: npt.NDArray[np.floating] | None = None
    """Of a head, the embeddings of the validation images that it did not learn from."""
    rows: npt.NDArray[np.intp] | None = None
    """Of a head, the places of the images of ``out_of_fold``, those for training counted first."""
    mirrored: bool = False
    """Whether a head looks at mirror images too."""


def train_specialist(
    config: TrainingConfig,
    out: Path,
    *,
    dataset: Dataset | None = None,
    bases: Path | None = None,
    restart: bool = False,
    command: str = "",
    cache: FeatureCache | None = None,
    out_of_fold: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Train a specialist, or finish the training that was interrupted.

    After each epoch a checkpoint is written to ``OUT/.training``; the same call goes on from it and
    ends with the same weights as an uninterrupted one (same machine and number of threads). The
    specialist's folder appears only when it is complete. A finished training is not repeated.

    Args:
        config: the recipe and the place of the data.
        out: folder of specialists; the result goes to ``OUT/TASK/NAME``.
        dataset: in place of ``config.data``, for splits of your own.
        bases: folder of shared backbones; None means the bundled one.
        restart: discard an unfinished training, or replace a finished one of another configuration.
        command: written to the card, for readers who want to repeat it.
        cache: remembers the embeddings that a head is trained on.
        out_of_fold: file for what a head said of images without them: ``rows`` (n,), their places with those
            for training counted first, and ``logits`` (n, labels), as ``.npz``.
        quiet: show no progress.

    Returns:
        The specialist's folder.

    Raises:
        ConfigurationError: the data set is wrong.
        SpecialistError: the network cannot be built or trained, or OUT holds another training of this
            name and ``restart`` is not set.
    """
    import torch

    dataset = dataset or read_dataset(config.data, seed=config.seed)
    dataset.check_trainable()
    target = out / config.task / config.name
    work = out / WORK / f"{config.task}--{config.name}"
    fingerprint = config.fingerprint(dataset.sha256, _initial_hash(config, bases))
    if restart:
        shutil.rmtree(work, ignore_errors=True)
    if (target / CARD_FILE).is_file() and not restart:
        if read_card(target, SpecialistCard).fingerprint == fingerprint:
            return target
        raise SpecialistError(
            f"{target} was trained with another configuration or other data; "
            "choose another name, or replace it with --restart"
        )
    with torch.random.fork_rng(devices=[]):
        job = replace(_prepare(config, dataset, bases, fingerprint, work, quiet), cache=cache)
        learnt = _learn(job)
        if learnt.mirrored:
            job = job.mirrored()
        if out_of_fold is not None:
            _write_out_of_fold(learnt, out_of_fold)
        _publish(job, learnt, target, command)
    shutil.rmtree(work, ignore_errors=True)
    return target


def targets_of(items: Sequence[Item], labels: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return 1 where an item carries a label, float32 (n, labels)."""
    place = {label: index for index, label in enumerate(labels)}
    targets = np.zeros((len(items), len(labels)), dtype=np.float32)
    for row, item in enumerate(items):
        targets[row, [place[label] for label in item.labels]] = 1
    return targets


def _initial_hash(config: TrainingConfig, bases: Path | None) -> str:
    """Hash of the weights that training starts from, as far as they lie on this machine."""
    if config.init in ("scratch", "timm"):
        return config.init
    if "/" in config.init or Path(config.init).suffix:
        try:
            return hashlib.sha256(Path(config.init).read_bytes()).hexdigest()
        except OSError as error:
            raise SpecialistError(
                f"the initial weights {config.init} cannot be read: {error.strerror}"
            ) from error
    return read_backbone(config.init, bases)[0].weights.sha256


def _prepare(
    config: TrainingConfig, dataset: Dataset, bases: Path | None, fingerprint: str, work: Path, quiet: bool
) -> _Job:
    import torch

    torch.manual_seed(config.seed)
    network = create_network(
        config.architecture,
        len(dataset.labels),
        pretrained=config.init == "timm",
        dropout=config.dropout,
        image_size=config.image_size,
    )
    base = initialise(network, config.init, bases)
    transform = transform_of(network, config.image_size)
    encoder, base_state = f"{config.task}/{config.name}", {}
    if base is not None:
        backbone, base_state = read_backbone(base.name, bases)
        transform = backbone.transform.model_copy(update={"size": config.image_size})
        if config.trainable == "head":
            same = transform == backbone.transform
            encoder = backbone.name if same else f"{backbone.name}@{config.image_size}"
    width = check_split(network, config.image_size)
    reset_classifier(network)
    return _Job(
        config, dataset, network, transform, base, base_state, encoder, width, fingerprint, work, quiet
    )


def _learn(job: _Job) -> _Learnt:
    """Train the network in place."""
    train, validation = job.examples("train"), job.examples("val")
    if job.config.trainable == "head":
        return _learn_head(job, train, validation)
    fitting = Fitting(job.network, job.config, job.transform, train, validation, multilabel=job.multilabel)
    state = fitting.run(job.work / CHECKPOINT, job.fingerprint, quiet=job.quiet)
    best = {
        name: round(value, 5) for name, value in state.history[state.best_epoch - 1].items() if value == value
    }
    return _Learnt({"epochs": state.epoch, "best_epoch": state.best_epoch, **best})


def _learn_head(job: _Job, train: Examples, validation: Examples) -> _Learnt:
    groups = [item.group for split in ("train", "val") for item in job.dataset.split(split)]
    targets = np.concatenate([train.targets, validation.targets])
    learning = len(targets) if job.config.refit else len(train.targets)
    embeddings, probe = _fitted_head(job, train, validation, targets, groups, learning)
    mirrored = False
    if job.config.mirror:
        found = _fitted_head(job.mirrored(), train, validation, targets, groups, learning)
        if mirrored := found[1].numbers["oof_loss"] < probe.numbers["oof_loss"]:
            embeddings, probe = found
    set_classifier(job.network, probe.weight, probe.bias)
    said = probe.out_of_fold
    outputs = Outputs(
        said.logits.astype(np.float32),
        said.targets.astype(np.int64) if job.multilabel else said.targets.argmax(1),
        tuple(groups[row] for row in said.rows),
    )
    numbers: dict[str, JsonValue] = {name: round(value, 6) for name, value in probe.numbers.items()}
    return _Learnt(numbers, outputs, None if job.config.refit else embeddings[1], said.rows, mirrored)


def _fitted_head(
    job: _Job,
    train: Examples,
    validation: Examples,
    targets: npt.NDArray[np.floating],
    groups: Sequence[str],
    learning: int,
) -> tuple[list[npt.NDArray[np.floating]], Probe]:
    """The embeddings of both splits, and the head that is fitted on them."""
    embeddings = [_embedded(job, train.pixels, "train"), _embedded(job, validation.pixels, "val")]
    rows = np.concatenate(embeddings)
    return embeddings, fit_probe(rows, targets, groups, learning, job.config, multilabel=job.multilabel)


def _embedded(job: _Job, pixels: ImageTensors, split: str) -> npt.NDArray[np.floating]:
    """The trunk's embeddings (n, d) of a split."""
    key = trunk_hash(job.network, job.transform)
    if job.cache is not None and (rows := job.cache.known(key, pixels.hashes)) is not None:
        return rows
    rows = embed_pixels(
        job.network,
        pixels.seen_by(job.transform),
        # Named by what decides an embedding, so that a changed configuration cannot reuse a wrong one.
        job.work / f"{key[:16]}-{job.dataset.sha256[:16]}" / split,
        batch_size=job.config.batch_size,
        device=choose_device(job.config.device),
        title=f"{job.config.task}/{job.config.name} embedding {split}",
        quiet=job.quiet,
    )
    if job.cache is not None:
        job.cache.add(key, pixels.hashes(), rows)
    return rows


def _write_out_of_fold(learnt: _Learnt, path: Path) -> None:
    if learnt.out_of_fold is None or learnt.rows is None:
        return
    with replacing(path) as fresh:
        np.savez(fresh, rows=learnt.rows, logits=learnt.out_of_fold.logits)


def _publish(job: _Job, learnt: _Learnt, target: Path, command: str) -> None:
    """Calibrate and measure the weights as they will be stored, then let the folder appear."""
    config = job.config
    trained = {name: tensor.detach().cpu() for name, tensor in job.network.state_dict().items()}
    overlay = overlay_of(trained, job.base_state) if job.base is not None else trained
    # Where training changed nearly everything, a reference to the base would only be a burden.
    is_overlay = job.base is not None and _size(overlay) < 0.995 * _size(trained)
    stored = overlay if is_overlay else trained
    state = {**trained, **round_state(stored, config.storage)}
    result = job.work / "result"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir(parents=True)
    weights = write_weights(result, stored, config.storage)
    load_state(job.network, state, source="the trained weights")
    card = _card(job, learnt.history, weights, job.base if is_overlay else None, command)
    device = choose_device(config.device)
    card = calibrate(
        TimmSpecialist(card, job.network, device=device), job.dataset, config, learnt.out_of_fold
    )
    final = TimmSpecialist(card, job.network, device=device)
    metrics = {}
    if learnt.validation is not None:
        items = job.dataset.split("val")
        outputs = outputs_of(final.logits(learnt.validation.astype(np.float32)), items, card)
        metrics["val"] = measured(card, outputs, seed=config.seed)
    if learnt.out_of_fold is not None:
        # More images than the validation split has, and none of them fitted what was said of it.
        metrics["out of fold"] = measured(card, learnt.out_of_fold, seed=config.seed)
    splits = [] if metrics else ["val"]
    splits += ["test"] if config.evaluate_test and job.dataset.split("test") else []
    metrics |= assess(final, job.dataset, splits, seed=config.seed, quiet=job.quiet)
    reliability = metrics["out of fold" if "out of fold" in metrics else "val"]["balanced_accuracy"].value
    write_card(result, card.model_copy(update={"metrics": metrics, "reliability": reliability}))
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    result.replace(target)


def _size(state: dict[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in state.values())


def _card(
    job: _Job, history: dict[str, JsonValue], weights: Weights, base: Base | None, command: str
) -> SpecialistCard:
    from ... import __version__

    config, dataset = job.config, job.dataset
    return SpecialistCard(
        name=config.name,
        task=config.task,
        kind=TaskKind.MULTILABEL if dataset.multilabel else TaskKind.DIAGNOSIS,
        architecture=config.architecture,
        labels=dataset.labels,
        transform=job.transform,
        encoder=job.encoder,
        embedding_width=job.width,
        training=config.record(),
        fingerprint=job.fingerprint,
        history=history,
        data=DataSummary(name=dataset.name, sha256=dataset.sha256, counts=dataset.counts()),
        seed=config.seed,
        licence=config.licence,
        source=config.source,
        weights=weights,
        base=base,
        command=command,
        gsco=__version__,
    )

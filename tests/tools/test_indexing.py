from __future__ import annotations

import csv
import io
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gsco.case import SimilarCase, Task, TaskKind
from gsco.errors import ConfigurationError, ImageUnreadable, StoreError
from gsco.images import pixel_hash, read_image
from gsco.models.dataset import Dataset, Item, read_dataset
from gsco.models.specialist.card import Transform
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.tools import pictures as pictures_module
from gsco.tools.indexing import IndexReport, build_index, choose_retriever, spread
from gsco.tools.pictures import read_pictures
from gsco.tools.retriever import label_agreement
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Entry, Exclusion, Filter, KnownCase
from PIL import Image
from PIL.PngImagePlugin import PngInfo

LABELS = ("bright", "dark")
TASK = Task(name="shade", modality="grey picture", options=LABELS, licence="CC0-1.0")


def _specialist(architecture: str, name: str, *, task: str = "shade", seed: int = 0) -> TimmSpecialist:
    torch.manual_seed(seed)
    return TimmSpecialist.from_timm(architecture, LABELS, task=task, name=name, transform=Transform(size=32))


@pytest.fixture(scope="module")
def one() -> TimmSpecialist:
    return _specialist("test_resnet", "one")


@pytest.fixture(scope="module")
def two() -> TimmSpecialist:
    return _specialist("test_efficientnet", "two")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "cases.sqlite") as store:
        yield store


def _picture(label: str, seed: int, size: tuple[int, int] = (90, 70)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 90, (size[1], size[0]), dtype=np.uint8)
    return Image.fromarray(noise + (160 if label == "bright" else 0))


def _make_set(folder: Path, rows: Sequence[tuple[str, str, str, str]]) -> Dataset:
    """A data set of rows (file, label, group, split); the picture depends on file and label."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (file, label, _, _) in enumerate(rows):
        _picture(label, number).save(folder / file)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group", "split"), *rows])
    return read_dataset(folder)


def _rows(train: int = 20, val: int = 6) -> list[tuple[str, str, str, str]]:
    splits = ["train"] * train + ["val"] * val + ["test"] * 4
    return [(f"{n}.png", LABELS[n % 2], f"p{n // 2}", split) for n, split in enumerate(splits)]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return _make_set(tmp_path / "shades", _rows())


def _build(
    dataset: Dataset, specialists: Sequence[TimmSpecialist], store: EmbeddedStore, **options: object
) -> IndexReport:
    return build_index(dataset, TASK, specialists, store, quiet=True, **{"batch_size": 8, **options})  # pyright: ignore


# Building


def test_the_store_holds_the_training_split(
    dataset: Dataset, one: TimmSpecialist, two: TimmSpecialist, store: EmbeddedStore
) -> None:
    report = _build(dataset, [one, two], store)
    assert report == IndexReport(selected=20, added=20, encoders=("shade/one", "shade/two"))
    assert store.tasks() == {"shade": 20}
    found = {entry.case.sha256: entry for entry in store.scan()}
    for item in dataset.split("train"):
        image = read_image(item.path)
        entry = found[pixel_hash(image)]
        assert entry.case == KnownCase(
            sha256=pixel_hash(image),
            task="shade",
            labels=item.labels,
            modality="grey picture",
            group=item.group,
            source=f"shades/{item.path.name}",
            licence="CC0-1.0",
        )
        for specialist in (one, two):
            vector = specialist.embed([image])[0]
            assert float(entry.vectors[specialist.card.encoder] @ vector) > 0.99999
        assert entry.thumbnail is not None
        small = Image.open(io.BytesIO(entry.thumbnail))
        assert (small.format, small.size) == ("JPEG", (64, 50))


def test_a_known_image_is_found_by_its_own_vector(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    _build(dataset, [one], store)
    images = [read_image(item.path) for item in dataset.split("train")]
    found = store.search(one.embed(images), "shade/one", 1)
    assert [cases[0].sha256 for cases in found] == [pixel_hash(image) for image in images]


def test_reports_come_along(tmp_path: Path, one: TimmSpecialist, store: EmbeddedStore) -> None:
    dataset = _make_set(tmp_path / "set", [("a.png", "dark", "p", "train")])
    told = Dataset(
        dataset.folder,
        (Item(dataset.items[0].path, ("dark",), "p", "train", "No finding."),),
        ("dark",),
        "0" * 64,
    )
    _build(told, [one], store)
    assert [entry.case.report for entry in store.scan()] == ["No finding."]


@pytest.mark.parametrize("size", [0, 16])
def test_thumbnails_are_as_large_as_asked(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore, size: int
) -> None:
    _build(dataset, [one], store, thumbnail=size)
    for entry in store.scan():
        assert (entry.thumbnail is None) == (size == 0)
        assert not entry.thumbnail or max(Image.open(io.BytesIO(entry.thumbnail)).size) == size


def test_thumbnails_carry_nothing_of_the_file(
    tmp_path: Path, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    dataset = _make_set(tmp_path / "set", [("a.jpg", "dark", "p", "train"), ("b.png", "dark", "q", "train")])
    exif = Image.Exif()
    exif[0x010E] = "JANE DOE"
    _picture("dark", 1).save(dataset.items[0].path, comment=b"JANE DOE", exif=exif)
    text = PngInfo()
    text.add_text("Comment", "JANE DOE")
    _picture("dark", 2).save(dataset.items[1].path, pnginfo=text)
    assert _build(dataset, [one], store).added == 2
    for entry in store.scan():
        assert entry.thumbnail is not None
        assert b"JANE" not in entry.thumbnail


class _Counted:
    """A specialist that counts the images it embeds."""

    def __init__(self, specialist: TimmSpecialist) -> None:
        self.card = specialist.card
        self.images = 0
        self.largest = 0
        self._specialist = specialist

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.images += len(images)
        self.largest = max(self.largest, len(images))
        return self._specialist.embed(images)


def test_what_is_there_is_not_embedded_again(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    counted = _Counted(one)
    _build(dataset, [counted], store)  # pyright: ignore[reportArgumentType]
    assert (counted.images, counted.largest) == (20, 8)
    before = list(map(str, store.scan()))
    report = _build(dataset, [counted], store)  # pyright: ignore[reportArgumentType]
    assert report == IndexReport(selected=20, kept=20, encoders=("shade/one",))
    assert counted.images == 21, "one image is embedded to see that the weights are still the same"
    assert list(map(str, store.scan())) == before


def test_another_specialist_completes_the_cases(
    dataset: Dataset, one: TimmSpecialist, two: TimmSpecialist, store: EmbeddedStore
) -> None:
    _build(dataset, [one], store)
    assert _build(dataset, [one, two], store) == IndexReport(
        selected=20, completed=20, encoders=("shade/one", "shade/two")
    )
    assert all(entry.vectors.keys() == {"shade/one", "shade/two"} for entry in store.scan())


def test_specialists_that_share_an_encoder_run_once(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    first, second = _Counted(one), _Counted(one)
    _build(dataset, [first, second], store)  # pyright: ignore[reportArgumentType]
    assert (first.images, second.images) == (20, 0)
    assert list(store.encoders()) == ["shade/one"]


def test_other_weights_under_the_same_name_are_refused(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    _build(dataset, [one], store)
    with pytest.raises(StoreError, match="other weights"):
        _build(dataset, [_specialist("test_resnet", "one", seed=5)], store)
    assert store.count() == 20


def test_other_weights_are_refused_though_new_cases_come_first(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    late = replace(dataset, items=tuple(item for item in dataset.items if item.split == "train")[-2:])
    _build(late, [one], store)
    with pytest.raises(StoreError, match="other weights"):
        _build(dataset, [_specialist("test_resnet", "one", seed=5)], store, batch_size=4)


def test_two_tasks_share_a_store(dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore) -> None:
    _build(dataset, [one], store)
    other = Task(name="light", modality="picture", options=LABELS)
    build_index(dataset, other, [one], store, quiet=True)
    assert store.tasks() == {"light": 20, "shade": 20}


# What does not go well


def test_broken_images_are_reported_and_skipped(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset.folder / "3.png").write_bytes(b"no image")
    (dataset.folder / "12.png").write_bytes((dataset.folder / "12.png").read_bytes()[:100])
    (dataset.folder / "5.png").unlink()
    report = build_index(dataset, TASK, [one], store, batch_size=8)
    assert report.added == 17
    assert sorted(broken.path for broken in report.broken) == ["12.png", "3.png", "5.png"]
    assert all(broken.reason for broken in report.broken)
    assert "skipped 3.png" in capsys.readouterr().err


def test_a_set_of_broken_images_is_an_error(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    for item in dataset.split("train"):
        item.path.write_bytes(b"no image")
    with pytest.raises(ImageUnreadable, match="none of the 20"):
        _build(dataset, [one], store)


def test_duplicates_are_one_case(tmp_path: Path, one: TimmSpecialist, store: EmbeddedStore) -> None:
    rows = [
        ("a.png", "dark", "p", "train"),
        ("b.bmp", "dark", "q", "train"),
        ("c.png", "bright", "r", "train"),
    ]
    dataset = _make_set(tmp_path / "set", rows)
    for item in dataset.items:
        _picture("dark", 7).save(item.path)
    report = _build(dataset, [one], store)
    assert (report.added, report.duplicates, report.relabelled) == (1, 2, ("set/c.png",))
    assert [entry.case.labels for entry in store.scan()] == [("dark",)]


def test_new_labels_of_known_cases_are_reported(
    tmp_path: Path, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    _build(_make_set(tmp_path / "set", [("a.png", "dark", "p", "train")]), [one], store)
    corrected = _make_set(tmp_path / "set", [("a.png", "dark", "p", "train")])
    item = Item(corrected.items[0].path, ("bright",), "p", "train", None)
    report = _build(Dataset(corrected.folder, (item,), ("bright",), "0" * 64), [one], store)
    assert (report.kept, report.relabelled) == (1, ("set/a.png",))
    assert [entry.case.labels for entry in store.scan()] == [("dark",)]


def test_labels_must_be_the_tasks(dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore) -> None:
    task = Task(name="shade", modality="picture", options=("bright", "grey"))
    with pytest.raises(ConfigurationError, match="dark"):
        build_index(dataset, task, [one], store, quiet=True)
    assert store.count() == 0
    report_task = Task(name="shade", kind=TaskKind.REPORT, modality="picture")
    assert build_index(dataset, report_task, [one], store, quiet=True).added == 20


def test_there_must_be_something_to_index(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    with pytest.raises(ConfigurationError, match="at least one specialist"):
        _build(dataset, [], store)
    train_only = Dataset(dataset.folder, tuple(dataset.split("train")), LABELS, "0" * 64)
    with pytest.raises(ConfigurationError, match="'val'"):
        _build(train_only, [one], store, split="val")


# Choosing cases


def test_a_cap_is_spread_over_groups(tmp_path: Path, one: TimmSpecialist, store: EmbeddedStore) -> None:
    rows = [(f"{n}.png", "dark", "crowd" if n < 10 else f"p{n}", "train") for n in range(15)]
    rows += [(f"b{n}.png", "bright", f"b{n}", "train") for n in range(3)]
    dataset = _make_set(tmp_path / "set", rows)
    chosen = spread(dataset.split("train"), 6, seed=0)
    assert Counter(item.labels[0] for item in chosen) == {"dark": 6, "bright": 3}
    assert Counter(item.group for item in chosen)["crowd"] == 1
    assert spread(dataset.split("train"), 6, seed=0) == chosen
    assert any(
        spread(dataset.split("train"), 2, seed=seed) != spread(dataset.split("train"), 2, 0)
        for seed in range(9)
    )
    report = _build(dataset, [one], store, per_label=6)
    assert (report.selected, report.added) == (9, 9)


def test_a_cap_counts_every_label_of_an_item() -> None:
    def item(n: int, *labels: str) -> Item:
        return Item(Path(f"{n}.png"), labels, f"p{n}", "train", None)

    items = [item(n, "a", "b") for n in range(10)] + [item(10 + n, "a") for n in range(10)] + [item(99, "c")]
    chosen = spread(items, 4, seed=1)
    counts = Counter(label for item in chosen for label in item.labels)
    assert counts["c"] == 1
    assert counts["a"] >= 4
    assert counts["b"] >= 4
    assert len(chosen) <= 9


@pytest.mark.parametrize(("at_once", "largest"), [(10**9, 8), (90 * 70, 4)])
def test_images_are_read_batch_by_batch(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, at_once: int, largest: int
) -> None:
    monkeypatch.setattr(pictures_module, "PIXELS_AT_ONCE", at_once)
    items = dataset.split("train")
    batches = [batch for batch, _ in read_pictures(items, dataset.folder, 8, None)]
    assert max(map(len, batches)) == largest
    assert [picture.item for batch in batches for picture in batch] == items


# Interruption

INDEXER = """
import sys
import torch
torch.set_num_threads(1)
from dataclasses import replace
from pathlib import Path
from gsco.case import Task
from gsco.models.dataset import read_dataset
from gsco.models.specialist.card import Transform
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.tools.indexing import build_index
from gsco.tools.stores.embedded import EmbeddedStore

class Loud(EmbeddedStore):
    def add(self, entries):
        added = super().add(entries)
        print("added", added, flush=True)
        return added

torch.manual_seed(0)
labels = ("bright", "dark")
one = TimmSpecialist.from_timm("test_resnet", labels, task="shade", name="one", transform=Transform(size=32))
task = Task(name="shade", modality="grey picture", options=labels, licence="CC0-1.0")
dataset = read_dataset(Path(sys.argv[1]))
with Loud(sys.argv[2]) as store:
    print(build_index(dataset, task, [one], store, batch_size=8, per_label=70, quiet=True))
"""


def _index_in_a_process(dataset: Dataset, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", INDEXER, str(dataset.folder), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_after_a_kill_the_same_call_goes_on(tmp_path: Path, one: TimmSpecialist) -> None:
    dataset = _make_set(tmp_path / "shades", _rows(train=160))
    killed = tmp_path / "killed.sqlite"
    process = _index_in_a_process(dataset, killed)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == ["added 8\n"] * 3
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with EmbeddedStore(killed) as store, EmbeddedStore(tmp_path / "whole.sqlite") as whole:
        kept = store.count()
        assert 24 <= kept < 140
        report = _build(dataset, [one], store, per_label=70)
        assert (report.selected, report.kept, report.added) == (140, kept, 140 - kept)
        _build(dataset, [one], whole, per_label=70)
        for ours, theirs in zip(store.scan(), whole.scan(), strict=True):
            assert (ours.case, ours.thumbnail) == (theirs.case, theirs.thumbnail)
            np.testing.assert_allclose(ours.vectors["shade/one"], theirs.vectors["shade/one"], atol=2e-4)


# Choosing the retriever


def _fill(
    store: EmbeddedStore, dataset: Dataset, vectors: Callable[[int, Image.Image], dict[str, np.ndarray]]
) -> None:
    for number, item in enumerate(dataset.items):
        image = read_image(item.path)
        known = KnownCase(sha256=pixel_hash(image), task="shade", labels=item.labels, group=item.group)
        store.add([Entry(known, vectors(number, image))])


def test_the_encoder_that_finds_the_right_labels_is_chosen(
    dataset: Dataset, one: TimmSpecialist, two: TimmSpecialist, store: EmbeddedStore
) -> None:
    train = Dataset(dataset.folder, tuple(dataset.split("train")), LABELS, "0" * 64)
    images = [read_image(item.path) for item in train.items]
    # The second encoder's vectors stand with the wrong cases: what it finds has the other label.
    swapped = two.embed(images)[np.arange(20) ^ 1]
    _fill(store, train, lambda n, image: {"shade/one": one.embed([image])[0], "shade/two": swapped[n]})
    choice = choose_retriever(dataset, [two, one], store, k=3, quiet=True)
    assert (choice.retriever, choice.k, choice.queries) == ("one", 3, 6)
    best, worst = choice.scores
    assert (best.specialist, best.encoder, worst.specialist) == ("one", "shade/one", "two")
    assert best.agreement > worst.agreement
    assert best.vote >= worst.vote


def test_agreement_is_counted_without_the_own_group(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    _fill(store, dataset, lambda n, image: {"shade/one": one.embed([image])[0]})
    choice = choose_retriever(dataset, [one], store, k=4, quiet=True)
    expected: dict[str, list[float]] = {label: [] for label in LABELS}
    for item in dataset.split("val"):
        image = read_image(item.path)
        exclude = [Exclusion(frozenset([pixel_hash(image)]), frozenset([item.group]))]
        (found,) = store.search(one.embed([image]), "shade/one", 4, where=Filter(("shade",)), exclude=exclude)
        assert len(found) == 4
        expected[item.labels[0]].append(sum(case.labels == item.labels for case in found) / 4)
    mean = np.mean([np.mean(expected[label]) for label in LABELS])
    assert choice.scores[0].agreement == pytest.approx(mean)


def test_agreement_of_several_labels_is_their_overlap() -> None:
    def similar(*labels: str) -> SimilarCase:
        return SimilarCase(id="x", sha256="0" * 64, task="t", labels=labels, similarity=1, encoder="e")

    assert label_agreement(("a", "b"), [similar("a"), similar("a", "b"), similar("c"), similar()]) == 1.5 / 4
    assert label_agreement(("a",), []) == 0


def test_choosing_needs_something_to_choose_by(
    dataset: Dataset, one: TimmSpecialist, store: EmbeddedStore
) -> None:
    train = Dataset(dataset.folder, tuple(dataset.split("train")), LABELS, "0" * 64)
    for broken, specialists, k in ((train, [one], 3), (dataset, [], 3), (dataset, [one], 0)):
        with pytest.raises(ConfigurationError):
            choose_retriever(broken, specialists, store, k=k, quiet=True)
    _build(dataset, [one], store)
    with pytest.raises(StoreError, match="shade/other"):
        choose_retriever(dataset, [_specialist("test_resnet", "other")], store, quiet=True)
    for item in dataset.split("val"):
        item.path.write_bytes(b"")
    with pytest.raises(ImageUnreadable):
        choose_retriever(dataset, [one], store, quiet=True)


def test_a_file_name_that_is_not_utf8_fits_a_record(tmp_path):
    from gsco.case import SimilarCase
    from gsco.tools.pictures import relative_name

    name = relative_name(tmp_path / "a\udcff.png", tmp_path)
    made = SimilarCase(
        id="a", sha256="0" * 64, task="t", labels=("x",), similarity=0.5, encoder="e", source=name
    )
    assert name == "a?.png" and '"a?.png"' in made.model_dump_json()

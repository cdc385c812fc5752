"""Tiny real parts of a run: images on disk, two networks, a bank, and a generalist that reads its prompt.

As a script it replays them: ``python bench.py FOLDER OUT SECONDS TIMES``, where the generalist takes so
many seconds for each question.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gsco.agent.api import GSCo
from gsco.case import Answer, Task
from gsco.errors import AnswerUnparsed, GeneralistError
from gsco.evals.plan import Plan
from gsco.evals.runner import Finished, RunContext, replay
from gsco.graphs.collaboration_fit import CollaborationFit
from gsco.images import ImageStore, pixel_hash, read_image
from gsco.models.dataset import Dataset, read_dataset
from gsco.models.generalist.protocol import Choice
from gsco.tasks import TaskBook
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Entry, KnownCase
from PIL import Image

SHADE = Task(name="shade", modality="grey square", options=("dark", "bright"), abstain_below=0.6)
SIZE = 32
PLAN = Plan(gate="off", neighbours=3, concurrency=4, retry_wait=0.01)


class Reader:
    """A generalist that says the option which its prompt names most often, and tells images by their id."""

    name, version, batch_size = "reader", "1", 8

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked = 0
        self.gone_for: frozenset[str] = frozenset()
        """Ids of images for which it cannot be reached."""
        self.mumbles_for: frozenset[str] = frozenset()
        """Ids of images for which its answer cannot be read."""
        self.fails: float = 0.0
        """Share of its answers that do not come, the same ones each time."""

    def choose(self, requests: Sequence[Choice]) -> list[Answer | GeneralistError]:
        time.sleep(self.seconds * len(requests))
        return [self._reached(request) for request in requests]

    def _reached(self, request: Choice) -> Answer | GeneralistError:
        self.asked += 1
        if int(hashlib.sha256(f"call {self.asked}".encode()).hexdigest(), 16) % 1000 < 1000 * self.fails:
            return GeneralistError("the connection broke")
        return self._answer(request)

    def _answer(self, request: Choice) -> Answer | GeneralistError:
        contents = [message.content for message in request.messages if isinstance(message.content, list)]
        blocks = [block for content in contents for block in content if isinstance(block, dict)]
        image = next(block["file_id"] for block in blocks if "file_id" in block)
        if image in self.gone_for:
            return GeneralistError("cannot be reached")
        if image in self.mumbles_for:
            return AnswerUnparsed("matches no option")
        text = " ".join(block["text"] for block in blocks if "text" in block)
        own = int(hashlib.sha256(image.encode()).hexdigest(), 16) % 1000 / 1000
        first, second = request.options
        weights = {first: text.count(first) + own, second: text.count(second) + 1 - own}
        shares = {option: weight / sum(weights.values()) for option, weight in weights.items()}
        return Answer(labels=(max(shares, key=lambda option: shares[option]),), probabilities=shares)

    def generate(self, requests, *, max_new_tokens=256):
        raise NotImplementedError

    def stream(self, messages, *, max_new_tokens=256):
        raise NotImplementedError

    def call_tools(self, messages, tools):
        raise NotImplementedError

    def chat_model(self):
        raise NotImplementedError


def write_dataset(folder: Path, *, train: int = 6, val: int = 1, test: int = 5, seed: int = 0) -> Path:
    """Write noisy grey squares, per label so many; two test images share a group."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for split, count in (("train", train), ("val", val), ("test", test)):
        for label, level in (("dark", 80), ("bright", 170)):
            for number in range(count):
                random = np.random.default_rng([seed, len(rows)])
                pixels = np.clip(random.normal(level, 40, (SIZE, SIZE)), 0, 255).astype(np.uint8)
                name = f"images/{len(rows):03}.png"
                Image.fromarray(pixels).save(folder / name)
                group = f"{split}-{label}-{number // 2 if split == 'test' else number}"
                rows.append((name, label, group, split))
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group", "split"), *rows])
    return folder


def make_panel():
    """Two networks with random weights: what they say is arbitrary and always the same."""
    import torch
    from gsco.models.specialist.card import Transform
    from gsco.models.specialist.panel import Panel
    from gsco.models.specialist.specialist import TimmSpecialist

    members = {}
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        transform = Transform(size=SIZE)
        members[name] = TimmSpecialist.from_timm(
            "test_resnet", SHADE.options, task="shade", name=name, transform=transform
        )
        card = members[name].card
        # Random weights say the same of everything: a bias in the middle of what they say splits it.
        members[name].card = card.model_copy(update={"bias": middle(members[name])})
    return Panel("shade", members, retriever="one")


def middle(specialist) -> tuple[float, ...]:
    grey = [Image.fromarray(np.full((SIZE, SIZE), level, np.uint8)) for level in (80, 170)]
    logits = specialist.logits(specialist.features(grey))
    return (0.0, float((logits[:, 0] - logits[:, 1]).mean()))


def make_store(path: Path, dataset: Dataset, panel, *, splits: Sequence[str] = ("train",)) -> EmbeddedStore:
    """A bank of the data set's splits."""
    store = EmbeddedStore(path)
    member = panel.members[panel.retriever]
    for item in [item for split in splits for item in dataset.split(split)]:
        image = read_image(item.path)
        named = {"sha256": pixel_hash(image), "labels": item.labels, "group": item.group}
        known = KnownCase(task="shade", report="a private text", **named)
        store.add([Entry(known, {member.card.encoder: member.embed([image])[0]})])
    return store


class Bench:
    """Everything that a run takes, in one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        seconds: float = 0.0,
        splits: Sequence[str] = ("train",),
        val: int = 1,
        test: int = 5,
    ) -> None:
        source = folder / "squares"
        self.dataset = read_dataset(source if source.exists() else write_dataset(source, val=val, test=test))
        self.generalist = Reader(seconds=seconds)
        panel = make_panel()
        store = make_store(folder / f"{'-'.join(splits)}.sqlite", self.dataset, panel, splits=splits)
        self.fits: dict[str, CollaborationFit] = {}
        """What was fitted, by task."""
        self.gsco = GSCo(
            tasks=TaskBook(None),
            panels={"shade": panel},
            store=store,
            generalist=self.generalist,
            images=ImageStore(folder / "store"),
            fits=self.fits.get,
        )

    def on(self, dataset: Dataset, store: EmbeddedStore | None = None) -> Bench:
        """The same bench with another data set, and perhaps another bank."""
        other = copy.copy(self)
        other.dataset = dataset
        if store is not None:
            mine = self.gsco
            other.gsco = GSCo(
                tasks=mine.tasks,
                panels=mine.panels,
                store=store,
                generalist=self.generalist,
                images=mine.images,
            )
        return other

    def replay(self, out: Path, plan: Plan = PLAN) -> Finished:
        context = RunContext(self.gsco, self.generalist)
        return replay(context, self.dataset, SHADE, out, plan=plan, quiet=True)

    def image(self, name: str) -> str:
        """Id of an image of the data set."""
        return self.gsco.images.put(self.dataset.folder / name).id


def build(folder: Path) -> GSCo:
    """Put the parts of a bench together in a process of its own."""
    import torch

    torch.set_num_threads(1)
    source = folder / "squares"
    panel = make_panel()
    here = folder / f"actor-{os.getpid()}"
    here.mkdir()
    return GSCo(
        tasks=TaskBook(None),
        panels={"shade": panel},
        store=make_store(here / "train.sqlite", read_dataset(source), panel),
        generalist=Reader(),
        images=ImageStore(here / "store"),
    )


def attempt(folder: Path, out: Path, seconds: float, times: int) -> None:
    """Run the same replay so many times, each in a fresh process that is announced by its id."""
    import gsco.graphs.diagnosis
    import timm
    import torch

    assert gsco.graphs.diagnosis and timm
    torch.set_num_threads(1)
    for _ in range(times):
        # Forked, because importing torch takes longer than all the rest.
        pid = os.fork()
        if not pid:
            Bench(folder, seconds=seconds).replay(out)
            os._exit(0)
        print(pid, flush=True)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    attempt(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))

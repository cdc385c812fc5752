"""A small installation: real networks, store and generalist, all tiny, untrained and made on the fly.

A folder whose tests need it imports the fixtures in its ``conftest.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = 32

CARDS = {
    "shade": 'name = "shade"\nmodality = "grey square"\noptions = ["dark", "bright"]\nabstain_below = 0.0\n',
    "stripes": 'name = "stripes"\nmodality = "striped square"\noptions = ["lying", "standing"]\n'
    "abstain_below = 0.0\n",
    "marks": 'name = "marks"\nkind = "multilabel_diagnosis"\nmodality = "grey square"\n'
    'options = ["clean", "dot", "cross"]\nnegative = "clean"\n',
}
OPTIONS = {"shade": ("dark", "bright"), "stripes": ("lying", "standing"), "marks": ("clean", "dot", "cross")}
MEMBERS = (("one", "test_resnet"), ("two", "test_resnet"), ("own", "test_efficientnet"))


@dataclass(frozen=True)
class Pictures:
    """Made-up images of three modalities that even an untrained network tells apart."""

    def shade(self, label: str, seed: int) -> Image.Image:
        """A grey picture, dark or bright."""
        level = 60 if label == "dark" else 190
        values = np.random.default_rng(seed).normal(level, 12, (40, 40))
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))

    def stripes(self, label: str, seed: int) -> Image.Image:
        """A red and blue picture with lines that lie or stand."""
        rng = np.random.default_rng(1000 + seed)
        wave = 127 + 120 * np.sin(np.arange(40) * rng.uniform(0.9, 1.1) + rng.uniform(0, 6))
        plane = np.broadcast_to(wave[:, None] if label == "lying" else wave[None], (40, 40))
        return Image.fromarray(np.stack([plane, np.zeros_like(plane), 255 - plane], axis=2).astype(np.uint8))

    def checks(self, seed: int) -> Image.Image:
        """A green chequered picture, which belongs to no task."""
        squares = np.kron(np.random.default_rng(2000 + seed).integers(0, 2, (10, 10)), np.ones((4, 4))) * 255
        plane = np.zeros_like(squares)
        return Image.fromarray(np.stack([plane, squares, plane], axis=2).astype(np.uint8))


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    """Where images come from."""
    return Pictures()


@pytest.fixture(scope="session")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of task cards."""
    folder = tmp_path_factory.mktemp("cards")
    for name, text in CARDS.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def specialist_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``TASK/NAME`` folders: for each task two heads on one shared trunk, and a network of its own."""
    from gsco.models.specialist.panel import write_panel

    root = tmp_path_factory.mktemp("specialists")
    for number, task in enumerate(OPTIONS):
        for place, (name, architecture) in enumerate(MEMBERS):
            _save_specialist(root, task, name, architecture, seed=10 * number + place)
        write_panel(root / task, "own")
    return root


def _save_specialist(root: Path, task: str, name: str, architecture: str, seed: int) -> None:
    """Write a specialist with a trunk that all of its architecture share, and a head of its own."""
    import timm
    import torch
    from gsco.models.specialist.card import Transform, write_card
    from gsco.models.specialist.network import classifier_of
    from gsco.models.specialist.specialist import TimmSpecialist
    from gsco.models.specialist.weights import write_weights

    torch.set_num_threads(1)
    torch.manual_seed(7)
    network = timm.create_model(architecture)
    torch.manual_seed(seed)
    network.reset_classifier(len(OPTIONS[task]))  # type: ignore[operator]
    torch.nn.init.normal_(classifier_of(network)[1].weight, std=1.0)
    card = TimmSpecialist.from_timm(
        architecture,
        OPTIONS[task],
        task=task,
        name=name,
        transform=Transform(size=SIZE),
        multilabel=task == "marks",
    ).card
    folder = root / task / name
    folder.mkdir(parents=True)
    changes = {
        "weights": write_weights(folder, network.state_dict(), "float32"),
        "encoder": f"{task}/own" if name == "own" else "efficientnet_lite0",
        "reliability": 0.8,
    }
    write_card(folder, card.model_copy(update=changes))


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures, specialist_folders: Path) -> Path:
    """A case store with 30 known cases of ``shade`` and of ``stripes``, and 8 of ``marks``."""
    from gsco.tools.stores.embedded import EmbeddedStore

    known = {
        "shade": [
            (pictures.shade(label, n), label, f"shade-{n}") for n in range(15) for label in ("dark", "bright")
        ],
        "stripes": [
            (pictures.stripes(label, n), label, "") for n in range(15) for label in ("lying", "standing")
        ],
        "marks": [(pictures.shade("dark", 500 + n), "dot", "") for n in range(8)],
    }
    path = tmp_path_factory.mktemp("bank") / "cases.sqlite"
    with EmbeddedStore(path) as store:
        for task, rows in known.items():
            _add_cases(store, specialist_folders, task, rows)
    return path


def _add_cases(store, folders: Path, task: str, rows: list[tuple[Image.Image, str, str]]) -> None:
    from gsco.images import pixel_hash
    from gsco.models.specialist.specialist import TimmSpecialist
    from gsco.tools.stores.protocol import Entry, KnownCase

    embedders = [TimmSpecialist.load(folders / task / name) for name in ("one", "own")]
    vectors = {each.card.encoder: each.embed([image for image, _, _ in rows]) for each in embedders}
    for place, (image, label, group) in enumerate(rows):
        known = KnownCase(
            sha256=pixel_hash(image), task=task, labels=(label,), group=group, report=f"Looks {label}."
        )
        store.add([Entry(known, {encoder: rows[place] for encoder, rows in vectors.items()})])


@pytest.fixture(scope="session")
def generalist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generalist of the bundled one's architecture, smaller still, with random weights."""
    from gsco.models.generalist.training.architecture import build_model, save_generalist
    from gsco.models.generalist.training.config import Architecture
    from gsco.models.generalist.training.tokenizer import train_tokenizer

    sizes = Architecture(
        image_size=28,
        patch_size=14,
        vision_width=16,
        vision_layers=1,
        vision_heads=2,
        width=32,
        layers=1,
        heads=2,
        key_value_heads=1,
        mlp_width=64,
        vocabulary=400,
        context=2048,
    )
    tokenizer = train_tokenizer(["dark bright lying standing yes no", "The possible diagnoses are"] * 4, 400)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_generalist(build_model(sizes, tokenizer, seed=3), tokenizer, sizes, folder, {"name": "tiny"})
    return folder


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``chest_xray_report/writer`` and ``report/writer``: a report writer of two tiny layers, untrained."""
    import torch
    from gsco.models.specialist.report import adopt_report_model
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertConfig,
        PreTrainedTokenizerFast,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
    )

    words = ["<pad>", "<s>", "</s>", "the", "heart", "lungs", "are", "is", "clear", "normal", "small"]
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model = VisionEncoderDecoderModel(
        VisionEncoderDecoderConfig.from_encoder_decoder_configs(
            ViTConfig(image_size=32, patch_size=16, **tiny), BertConfig(vocab_size=len(words), **tiny)
        )
    )
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 1
    model.config.pad_token_id = model.generation_config.pad_token_id = 0
    with torch.no_grad():
        model.get_parameter("decoder.cls.predictions.bias")[:3] = -1e4
    vocabulary = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<pad>"))
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    source, folder = tmp_path_factory.mktemp("writer"), tmp_path_factory.mktemp("reports")
    model.save_pretrained(source)
    PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="<pad>").save_pretrained(source)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(source)
    for task in ("report", "chest_xray_report"):
        adopt_report_model(str(source), folder, task=task, name="writer", max_new_tokens=8)
    return folder

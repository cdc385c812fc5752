"""Specialists that draft a report: any transformers image-to-text checkpoint."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...case import Opinion, TaskKind
from ...disk import file_hash
from ...errors import SpecialistError
from .card import SpecialistCard, Weights, read_card, write_card
from .specialist import Floats, Forward, TimmSpecialist

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import BatchFeature, PreTrainedModel

_SPARE = 1_000_000
"""Numbers that a model may have beside its weights, such as tables of positions."""
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class ReportSpecialist(TimmSpecialist):
    """An image-to-text model whose opinion is a draft report instead of a label.

    It takes the place of a specialist in a panel: what it makes of an image, its ``features``, are the
    token ids of the report; ``head`` reads them. It has no labels and no embedding.

    Args:
        card: of kind ``report``.
        model: a transformers model that generates text from images.
        processor: its processor, or its image processor.
        tokenizer: its tokenizer.
        device: where it runs.
    """

    def __init__(
        self,
        card: SpecialistCard,
        model: Any,
        processor: Any,
        tokenizer: Any,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        import torch

        self.card = card
        self.device = torch.device(device)
        self.network = model.eval().to(self.device)
        self.processor, self.tokenizer = processor, tokenizer

    @classmethod
    def load(
        cls, folder: Path, *, bases: Path | None = None, device: str | torch.device = "cpu"
    ) -> ReportSpecialist:
        """Load a folder that ``adopt_report_model`` wrote.

        Raises:
            SpecialistError: card or model are missing, damaged or do not fit together.
        """
        card = read_card(Path(folder), SpecialistCard)
        found = _weights(Path(folder))
        if found != card.weights:
            raise SpecialistError(
                f"the weights of {card.name!r} are not those of its card; adopt the model again"
            )
        _check_size(Path(folder))
        return cls(card, *_load_parts(str(folder)), device=device)

    @cached_property
    def trunk_key(self) -> str:
        """Hash of the weights and the prompt: it shares its pass with no other specialist."""
        return hashlib.sha256(f"{self.card.weights.sha256} {self._prompt}".encode()).hexdigest()

    @property
    def _prompt(self) -> str:
        return str(self.card.training.get("prompt", ""))

    @property
    def _length(self) -> int:
        return int(str(self.card.training.get("max_new_tokens", 256)))

    def features(self, images: Sequence[Image], batch_size: int = 8) -> Floats:
        """Write the reports: token ids as float32 (n, tokens), -1 after the end."""
        import torch

        rows = np.full((len(images), self._length), -1, dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                batch = [image.convert("RGB") for image in images[start : start + batch_size]]
                tokens = self._generate(batch)[:, : self._length]
                rows[start : start + len(batch), : tokens.shape[1]] = tokens
        return rows

    def head(self, features: Floats) -> Forward:
        """Read the reports."""
        empty = np.zeros((len(features), 0), np.float32)
        texts = [
            self.tokenizer.decode(row[row >= 0].astype(int).tolist(), skip_special_tokens=True)
            for row in features
        ]
        decisions: list[tuple[str, ...]] = [()] * len(texts)
        return Forward(empty, empty, decisions, tuple(" ".join(text.split()) for text in texts))

    def opinion(self, forward: Forward, index: int) -> Opinion:
        """Return the draft report of one image."""
        return Opinion(
            specialist=self.card.name,
            architecture=self.card.architecture,
            reliability=self.card.reliability,
            text=forward.texts[index],
            version=self.card.weights.sha256[:12],
        )

    def _generate(self, images: Sequence[Image]) -> npt.NDArray[np.integer]:
        inputs = self._inputs(images).to(self.device)
        tokens = self.network.generate(**inputs, max_new_tokens=self._length, do_sample=False)  # pyright: ignore[reportCallIssue]
        # Encoder-decoders begin with their start token, decoder-only models repeat their prompt.
        prompt = inputs.get("input_ids", tokens[:, :0])
        skipped = 1 if self.network.config.is_encoder_decoder else prompt.shape[1]
        return tokens[:, skipped:].cpu().numpy()

    def _inputs(self, images: Sequence[Image]) -> BatchFeature:
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "text", "text": self._prompt}]
            chats = [
                [{"role": "user", "content": [{"type": "image", "image": image}, *content]}]
                for image in images
            ]
            return self.processor.apply_chat_template(
                chats,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                padding=True,
            )
        inputs = self.processor(images=list(images), return_tensors="pt")
        if self._prompt:
            inputs.update(
                self.tokenizer([self._prompt] * len(images), return_tensors="pt", add_special_tokens=False)
            )
        return inputs


def adopt_report_model(
    source: str,
    folder: Path,
    *,
    task: str,
    name: str,
    prompt: str = "",
    max_new_tokens: int = 256,
    licence: str = "",
) -> SpecialistCard:
    """Copy an image-to-text model into a folder of specialists: ``FOLDER/TASK/NAME``.

    Args:
        source: folder or hub id; only safetensors are read and no code of the repository runs.
        folder: of specialists.
        task: that it serves.
        name: of the specialist.
        prompt: text that precedes the report, or the question for models with a chat template.
        max_new_tokens: longest report.
        licence: of the weights.

    Raises:
        SpecialistError: transformers cannot load it, or the target exists.
    """
    target, work = folder / task / name, folder / task / f".{name}"
    if target.exists():
        raise SpecialistError(f"{target} exists; choose another name or delete it")
    model, processor, tokenizer = _load_parts(source)
    shutil.rmtree(work, ignore_errors=True)
    for part in (model, tokenizer, processor):
        part.save_pretrained(work)
    card = _report_card(model, task, name, prompt, _weights(work), max_new_tokens)
    card = card.model_copy(update={"licence": licence, "source": Path(source).name})
    write_card(work, card)
    work.replace(target)
    return card


def _report_card(
    model: PreTrainedModel, task: str, name: str, prompt: str, weights: Weights, max_new_tokens: int
) -> SpecialistCard:
    from ... import __version__

    return SpecialistCard(
        name=name,
        task=task,
        kind=TaskKind.REPORT,
        architecture=model.config.model_type,
        training={"prompt": prompt, "max_new_tokens": max_new_tokens},
        weights=weights,
        gsco=__version__,
    )


def _load_parts(source: str) -> tuple[Any, Any, Any]:
    """Load model, processor and tokenizer."""
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    try:
        # What a folder's files name is not fetched.
        options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": Path(source).is_dir()}
        model = AutoModelForImageTextToText.from_pretrained(source, use_safetensors=True, **options)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        try:
            processor = AutoProcessor.from_pretrained(source, **options)
        except (OSError, ValueError):
            processor = None
        # Plain encoder-decoders have no joint processor.
        if getattr(processor, "image_processor", None) is None:
            processor = AutoImageProcessor.from_pretrained(source, **options)
    except Exception as error:  # the hub client and the loaders raise anything; the caller gets one type
        reason = f"{type(error).__name__}: {error}"
        raise SpecialistError(
            f"transformers cannot load {source!r} as an image-to-text model: {reason}"
        ) from error
    return model, processor, tokenizer


def _check_size(folder: Path) -> None:
    """Refuse a configuration that is of a much larger model than the weights beside it.

    The model is outlined on torch's ``meta`` device, so that nothing is allocated for it.

    Raises:
        SpecialistError: they do not fit, or the configuration cannot be read.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            outline = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
        stored = 0
        for path in folder.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                stored += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except Exception as error:  # as in _load_parts
        reason = f"{type(error).__name__}: {error}"
        raise SpecialistError(f"the model in {folder.name!r} cannot be read: {reason}") from error
    wanted = sum(parameter.numel() for parameter in outline.parameters())
    if wanted > 2 * stored + _SPARE:
        raise SpecialistError(
            f"the configuration in {folder.name!r} is of a model with {wanted:,} numbers, its weights have "
            f"{stored:,}; adopt the model again"
        )


def _weights(folder: Path) -> Weights:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return Weights(file=name, sha256=file_hash(folder / name))
    raise SpecialistError(f"{folder.name!r} holds no {_WEIGHTS[0]}")

"""Reading a generalist's checkpoint: a folder in the transformers layout, or a hub id."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import GeneralistError
from ..vision_imports import import_torchvision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ProcessorMixin

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NEEDED = ("config.json", "tokenizer_config.json")
_WHOLE_HASH_BYTES = 4 * 2**30


@dataclass(frozen=True)
class GeneralistCheckpoint:
    """A loaded model with its processor, and what to call it in results."""

    model: PreTrainedModel
    processor: ProcessorMixin
    name: str
    version: str
    converses: bool = True
    """Whether it can discuss a case in words of its own; its card may say that it cannot."""


def load_checkpoint(source: str | Path, device: str = "auto", dtype: str = "auto") -> GeneralistCheckpoint:
    """Load a model for evaluation. Nothing is downloaded for a folder, and no remote code runs ever.

    Args:
        source: a folder, or a hub id ``owner/name``.
        device: a torch device, or ``auto`` for the GPU where there is one.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto``: bfloat16 on a GPU, float32 else.

    Raises:
        GeneralistError: the folder is missing or incomplete, or the weights do not fit the model.
    """
    import torch

    import_torchvision()
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = Path(source).expanduser()
    local = folder.is_dir()
    if local:
        _check_files(folder)
    elif not _HUB_ID.fullmatch(str(source)):
        raise GeneralistError(
            f"no model folder at {source}; give one in the transformers layout, or a hub id"
        )
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    precision = _dtype(dtype, place)
    where = str(folder if local else source)
    options: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    try:
        with without_bars():
            processor = AutoProcessor.from_pretrained(where, **options)
            loaded: Any = AutoModelForImageTextToText.from_pretrained(
                where, dtype=precision, use_safetensors=True, output_loading_info=True, **options
            )
    except Exception as error:  # transformers, safetensors, tokenizers and the hub client each have their own
        raise GeneralistError(f"cannot load the generalist from {source}: {_first_line(error)}") from error
    model, report = loaded
    _check_weights(source, report)
    card = _card(folder) if local else {}
    name = card.get("name")
    commit = getattr(model.config, "_commit_hash", None)
    version = weights_version(folder) if local else str(commit or source)[:12]
    return GeneralistCheckpoint(
        model.to(place).eval(),
        processor,
        str(name or folder.name),
        version,
        converses=card.get("converses") is not False,
    )


def weights_version(folder: Path) -> str:
    """First twelve hex digits of the sha256 over the safetensors files.

    Above 4 GiB only each file's name, size and first MiB (which holds all names and shapes) are read.
    """
    files = sorted(folder.glob("*.safetensors"))
    whole = sum(file.stat().st_size for file in files) <= _WHOLE_HASH_BYTES
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            if not whole:
                digest.update(f"{file.name} {file.stat().st_size}".encode())
                digest.update(stream.read(2**20))
            while whole and (block := stream.read(2**22)):
                digest.update(block)
    return digest.hexdigest()[:12]


def _check_files(folder: Path) -> None:
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if not any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")):
        missing.append("processor_config.json")
    if missing:
        raise GeneralistError(f"the model folder {folder} lacks {', '.join(missing)}; copy it again")


def _check_weights(source: str | Path, report: dict[str, Any]) -> None:
    wrong = [str(key) for kind in ("missing_keys", "mismatched_keys") for key in report.get(kind, ())]
    if wrong:
        raise GeneralistError(
            f"{len(wrong)} weights of {source} are missing or have another shape than its config says, "
            f"first {sorted(wrong)[0]}; the checkpoint is damaged or was made for another model class"
        )


def _dtype(name: str, place: torch.device) -> torch.dtype:
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        return torch.bfloat16 if place.type == "cuda" else torch.float32
    if name not in known:
        raise GeneralistError(f"unknown dtype {name!r}; choose one of {', '.join(known)}")
    return known[name]


def _card(folder: Path) -> dict[str, Any]:
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise GeneralistError(f"{folder / 'card.json'} is not valid JSON: {error}") from error
    return card if isinstance(card, dict) else {}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


@contextmanager
def without_bars() -> Generator[None]:
    """Hold back transformers' progress bars over the weights of a model that loads in a second."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

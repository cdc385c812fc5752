"""What keeps a checkpoint in MedDr's layout from being served rightly, found before anything is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError

ARCHITECTURE = "InternVLChatModel"
_INDEX = "model.safetensors.index.json"
_ADAPTED = re.compile(r"\.(lora_[AB]|base_layer)\.|\.base_model\.")
_NEEDED_WEIGHTS = (
    "vision_model.embeddings.class_embedding",
    "mlp1.0.weight",
    "language_model.model.embed_tokens.weight",
)


@dataclass(frozen=True)
class CheckpointLayout:
    """A checkpoint folder as read from its small files."""

    folder: Path
    config: Mapping[str, Any]
    weights: frozenset[str]
    tokenizer: Mapping[str, object]
    """``tokenizer_config.json``."""


def is_meddr(folder: Path) -> bool:
    """Whether a folder holds a checkpoint in MedDr's layout: InternVL-Chat before version 1.5."""
    try:
        config = _json(folder / "config.json")
    except ConfigurationError:
        return False
    language = config.get("llm_config") or {}
    return (
        ARCHITECTURE in (config.get("architectures") or ())
        and config.get("ps_version", "v1") == "v1"
        and language.get("model_type", "llama") == "llama"
    )


def read_layout(folder: Path) -> CheckpointLayout:
    """Read what the checks need; no weight is loaded.

    Raises:
        ConfigurationError: a file is missing or cannot be read.
    """
    config = _json(folder / "config.json")
    tokenizer = _json(folder / "tokenizer_config.json")
    return CheckpointLayout(folder, config, frozenset(_weights(folder)), tokenizer)


def check(layout: CheckpointLayout) -> None:
    """Refuse a checkpoint that would not load, or would answer wrongly.

    Raises:
        ConfigurationError: with everything that was found, and what to do about each.
    """
    found = list(faults(layout))
    if found:
        raise ConfigurationError(f"{layout.folder} cannot be served as it is: " + "; ".join(found))


def faults(layout: CheckpointLayout) -> Iterator[str]:
    """Everything that is wrong."""
    config, vision = layout.config, layout.config.get("vision_config") or {}
    if ARCHITECTURE not in (config.get("architectures") or ()):
        yield f"it is of {config.get('architectures')}, not of {ARCHITECTURE}; serve it without this profile"
    if adapted := sorted(name for name in layout.weights if _ADAPTED.search(name)):
        yield (
            f"it holds an unmerged adapter ({adapted[0]} and {len(adapted) - 1} more);"
            f" run: gsco train merge {layout.folder} --out MERGED, and serve that"
        )
    elif missing := [name for name in _NEEDED_WEIGHTS if name not in layout.weights]:
        yield f"it lacks the weights {', '.join(missing)}; copy it again"
    size = vision.get("image_size")
    if config.get("force_image_size", size) != size:
        yield f"its images are {config['force_image_size']} pixels wide, its tower's {size}; fix config.json"
    if config.get("pad2square"):
        yield "it was trained on padded images (pad2square), which vLLM does not make"


def _weights(folder: Path) -> Iterator[str]:
    """Names of all weights, from the index or the files' headers; a missing file is an error."""
    files = sorted(folder.glob("*.safetensors"))
    if (folder / _INDEX).is_file():
        named = _json(folder / _INDEX)["weight_map"]
        if missing := sorted(set(named.values()) - {path.name for path in files}):
            raise ConfigurationError(f"{folder} lacks {', '.join(missing)}; copy it again")
    if not files:
        raise ConfigurationError(f"{folder} holds no safetensors files; convert it, pickles are not loaded")
    for path in files:
        yield from _header(path)


def _header(path: Path) -> Iterator[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            yield from file.keys()
    except SafetensorError as error:
        raise ConfigurationError(f"{path} is damaged ({error}); copy it again") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path} holds no JSON object")
    return value

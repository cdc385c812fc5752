"""Putting an adapter into its checkpoint, one file at a time, in the checkpoint's own layout."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...._support.progress import Progress
from ....disk import replacing
from ....errors import ConfigurationError
from .layout import INDEX, shards

if TYPE_CHECKING:
    from torch import Tensor

_OWN = re.compile(r"(?:base_model\.model\.)?(?P<module>.*)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight")
_WRAPPED = re.compile(r"\.base_model\.model\b|\.base_layer\b")


@dataclass(frozen=True)
class LowRankUpdate:
    """A low-rank change of one module's weight: scale · b · a."""

    a: Tensor
    b: Tensor

    def of(self, weight: Tensor, scale: float) -> Tensor:
        """The changed weight, in the weight's own type."""
        return (weight.float() + scale * (self.b.float() @ self.a.float())).to(weight.dtype)


def merge(checkpoint: Path, adapter: Path | None, out: Path) -> Path:
    """Write the checkpoint with its adapter merged, all of it or nothing.

    Args:
        checkpoint: folder in MedDr's layout.
        adapter: peft's folder; None for a checkpoint that holds the adapter's weights itself.
        out: the new folder, which must not exist.

    Returns:
        ``out``.

    Raises:
        ConfigurationError: a folder is wrong, or a change fits no weight.
    """
    if out.exists():
        raise ConfigurationError(f"{out} already exists; name another folder, or remove it")
    files = shards(checkpoint)
    changes, scale = _of_adapter(adapter) if adapter else _of_checkpoint(checkpoint, files)
    if not changes:
        raise ConfigurationError(f"{adapter or checkpoint} holds no adapter to merge")
    with replacing(out) as fresh:
        fresh.mkdir()
        unused = _write(files, fresh, changes, scale)
        if unused:
            raise ConfigurationError(f"the adapter changes {unused[0]}, which {checkpoint} does not have")
        _copy_rest(checkpoint, fresh)
    return out


def _write(files: list[Path], fresh: Path, changes: Mapping[str, LowRankUpdate], scale: float) -> list[str]:
    """Write the shards; returns the modules whose change found no weight."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    waiting = set(changes)
    with Progress("merging", len(files)) as progress:
        for path in files:
            kept: dict[str, Tensor] = {}
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - no mapping
                    if _OWN.fullmatch(name):
                        continue
                    plain = _WRAPPED.sub("", name)
                    module = plain.removesuffix(".weight")
                    weight = file.get_tensor(name)
                    if module in waiting and plain.endswith(".weight"):
                        weight = changes[module].of(weight, scale)
                        waiting.discard(module)
                    kept[plain] = weight.contiguous()
            save_file(kept, fresh / path.name, metadata={"format": "pt"})
            progress.advance()
    return sorted(waiting)


def _of_adapter(folder: Path) -> tuple[dict[str, LowRankUpdate], float]:
    """Changes and scale of peft's folder."""
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{folder} holds no adapter: {error}") from error
    if config.get("use_dora") or config.get("rank_pattern") or config.get("alpha_pattern"):
        raise ConfigurationError(f"{folder} is not a plain LoRA adapter; merge it with peft")
    divisor = config["r"] ** 0.5 if config.get("use_rslora") else config["r"]
    return _paired(weights.items()), config["lora_alpha"] / divisor


def _of_checkpoint(folder: Path, files: list[Path]) -> tuple[dict[str, LowRankUpdate], float]:
    """Changes that a checkpoint holds itself; InternVL's alpha is twice the rank ``use_llm_lora``."""
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys() if _OWN.fullmatch(name)}  # noqa: SIM118
    return _paired(found.items()), 2.0


def _paired(weights: Iterable[tuple[str, Tensor]]) -> dict[str, LowRankUpdate]:
    sides: dict[str, dict[str, Tensor]] = {}
    for name, weight in weights:
        found = _OWN.fullmatch(name)
        if found is None:
            raise ConfigurationError(f"{name} is not a weight of a LoRA adapter")
        module = _WRAPPED.sub("", found["module"])
        sides.setdefault(module, {})[found["side"]] = weight
    if halves := [module for module, pair in sides.items() if len(pair) < 2]:
        raise ConfigurationError(f"the adapter has only one half of {halves[0]}")
    return {module: LowRankUpdate(pair["A"], pair["B"]) for module, pair in sides.items()}


def _copy_rest(checkpoint: Path, fresh: Path) -> None:
    """Everything but weights; configuration and index speak of no adapter any more."""
    for path in _others(checkpoint):
        shutil.copy2(path, fresh / path.name)
    config = json.loads((fresh / "config.json").read_text(encoding="utf-8"))
    if config.get("use_llm_lora"):
        config["use_llm_lora"] = 0
        (fresh / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if (fresh / INDEX).is_file():
        index = json.loads((fresh / INDEX).read_text(encoding="utf-8"))
        index["weight_map"] = {
            _WRAPPED.sub("", name): file
            for name, file in index["weight_map"].items()
            if not _OWN.fullmatch(name)
        }
        (fresh / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _others(checkpoint: Path) -> Iterator[Path]:
    return (path for path in checkpoint.iterdir() if path.is_file() and path.suffix != ".safetensors")

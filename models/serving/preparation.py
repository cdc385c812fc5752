"""A checkpoint in MedDr's layout as a folder that vLLM serves rightly: small files mended, weights linked.

vLLM has the model's class but reads fields that configurations of that time lack, and transformers does not
know the configuration at all. Of the ways to mend it, this one was chosen because nothing must be installed
into vLLM's environment and no code of the checkpoint runs: the fields are written into a copy of
``config.json``, where a reader sees them, and the class comes from a plug-in of vLLM (its
``vllm.general_plugins`` entry point) in a folder beside the weights that the launch puts on ``PYTHONPATH``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...disk import replacing
from ...errors import ConfigurationError
from .preflight import CheckpointLayout, check, read_layout
from .tokenizer import ends_of, mended

PLUGIN = "plugin"
_TEMPLATE = Path(__file__).parent / "templates" / "hermes2.jinja"
_CLASS = Path(__file__).parent / "meddr_config.py"
_ENTRY_POINTS = "[vllm.general_plugins]\ngsco_meddr = gsco_meddr_config:register\n"
_METADATA = "Metadata-Version: 2.1\nName: gsco-meddr\nVersion: 1\n"
_FIELDS: Mapping[str, object] = {
    # The order of the first versions' pixel shuffle. With any other one the model loads and answers wrongly.
    "ps_version": "v1",
    "min_dynamic_patch": 1,
    "max_dynamic_patch": 1,
    "dynamic_image_size": False,
    "use_thumbnail": False,
}
_VISION_FIELDS: Mapping[str, object] = {"norm_type": "rms_norm"}
_LEFT = ("config.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "card.json")


def prepare(checkpoint: Path, out: Path) -> Path:
    """Make the folder, all of it or nothing.

    Args:
        checkpoint: folder in MedDr's layout.
        out: the new folder, which must not exist. Weights in it are links to the checkpoint's.

    Returns:
        ``out``.

    Raises:
        ConfigurationError: the checkpoint cannot be served, and what to do.
    """
    if out.exists():
        raise ConfigurationError(f"{out} already exists; name another folder, or remove it")
    layout = read_layout(checkpoint)
    check(layout)
    with replacing(out) as fresh:
        _write(layout, fresh)
    return out


def is_prepared(folder: Path) -> bool:
    """Whether a folder was made by ``prepare``."""
    return (folder / PLUGIN / "gsco_meddr_config.py").is_file()


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the fields that vLLM reads, and without remote code."""
    kept = {name: value for name, value in config.items() if name != "auto_map"}
    vision = {**config["vision_config"], **_VISION_FIELDS}
    return {**kept, **_FIELDS, "vision_config": vision}


def _write(layout: CheckpointLayout, folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in sorted(layout.folder.iterdir()):
        if path.suffix == ".safetensors":
            (folder / path.name).symlink_to(path.resolve())
        elif path.is_file() and path.suffix != ".py" and path.name not in _LEFT:
            shutil.copy2(path, folder / path.name)
    _save(folder / "config.json", completed(layout.config))
    _save(folder / "tokenizer_config.json", {**layout.tokenizer, "add_prefix_space": False})
    _save(folder / "tokenizer_config.json", mended(folder, layout.tokenizer))
    _save(folder / "generation_config.json", {"eos_token_id": ends_of(folder), "do_sample": False})
    shutil.copy2(_TEMPLATE, folder / "chat_template.jinja")
    _write_plugin(folder / PLUGIN)


def _write_plugin(folder: Path) -> None:
    """A distribution that needs no installation: found wherever it lies on the path."""
    described = folder / "gsco_meddr-1.dist-info"
    described.mkdir(parents=True)
    shutil.copy2(_CLASS, folder / "gsco_meddr_config.py")
    (described / "METADATA").write_text(_METADATA, encoding="utf-8")
    (described / "entry_points.txt").write_text(_ENTRY_POINTS, encoding="utf-8")


def _save(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

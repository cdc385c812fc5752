"""The layout against the reference's formulas, written out here a second time and plainly."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from gsco.errors import ConfigurationError
from gsco.models.generalist.fine_tuning.layout import load_layout, shuffled, weights
from safetensors.torch import load_file, save_file

from .toy import HEADS, LAYERS, SIDE, WIDTH, make_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "toy")


def tower(w: dict[str, torch.Tensor], pixels: torch.Tensor) -> torch.Tensor:
    """InternViT with normalised queries and keys: patches in, (n, tokens, width) out."""
    start = "vision_model.embeddings."
    patches = torch.nn.functional.conv2d(
        pixels, w[f"{start}patch_embedding.weight"], w[f"{start}patch_embedding.bias"], stride=7
    )
    x = torch.cat([w[f"{start}class_embedding"].expand(len(pixels), -1, -1), patches.flatten(2).mT], 1)
    x = x + w[f"{start}position_embedding"]
    for layer in range(LAYERS):
        p = f"vision_model.encoder.layers.{layer}."
        q, k, v = (norm(x, w[f"{p}norm1.weight"]) @ w[f"{p}attn.qkv.weight"].T).chunk(3, -1)
        q, k = norm(q, w[f"{p}attn.q_norm.weight"]), norm(k, w[f"{p}attn.k_norm.weight"])
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
        attention = (q @ k.mT / math.sqrt(WIDTH // HEADS)).softmax(-1) @ v
        mixed = attention.transpose(1, 2).flatten(2) @ w[f"{p}attn.proj.weight"].T + w[f"{p}attn.proj.bias"]
        x = x + mixed * w[f"{p}ls1"]
        inner = norm(x, w[f"{p}norm2.weight"]) @ w[f"{p}mlp.fc1.weight"].T + w[f"{p}mlp.fc1.bias"]
        outer = torch.nn.functional.gelu(inner) @ w[f"{p}mlp.fc2.weight"].T + w[f"{p}mlp.fc2.bias"]
        x = x + outer * w[f"{p}ls2"]
    return x[:, 1:]


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight


def test_image_features_follow_the_formulas(folder: Path) -> None:
    w = dict(weights(folder))
    pixels = torch.randn(2, 3, SIDE, SIDE)
    grid = tower(w, pixels).unflatten(1, (4, 4))
    # Token (i, j) of the first versions joins rows 2j and 2j+1 of columns 2i and 2i+1, in this order.
    joined = torch.stack(
        [
            torch.cat([grid[:, 2 * j + b, 2 * i + a] for b in (0, 1) for a in (0, 1)], -1)
            for i in range(2)
            for j in range(2)
        ],
        dim=1,
    )
    seen = torch.nn.functional.layer_norm(joined, (4 * WIDTH,), w["mlp1.0.weight"], w["mlp1.0.bias"])
    seen = torch.nn.functional.gelu(seen @ w["mlp1.1.weight"].T + w["mlp1.1.bias"])
    expected = seen @ w["mlp1.3.weight"].T + w["mlp1.3.bias"]
    with torch.inference_mode():
        torch.testing.assert_close(load_layout(folder).image_features(pixels), expected, atol=1e-4, rtol=1e-4)


def test_the_shuffle_is_not_that_of_later_versions() -> None:
    patches = torch.arange(16.0)[None, :, None]
    assert shuffled(patches, 0.5)[0, 1].tolist() == [8.0, 9.0, 12.0, 13.0]


def test_an_unmerged_adapter_is_refused_with_the_command(folder: Path) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    extra = {
        "language_model.base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight": torch.ones(2, 32)
    }
    save_file(load_file(path) | extra, path)
    with pytest.raises(ConfigurationError, match="gsco train merge"):
        load_layout(folder)


def test_another_architecture_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlavaModel"]}))
    with pytest.raises(ConfigurationError, match="InternVLChatModel"):
        load_layout(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="model-00002"):
        load_layout(folder)


def test_a_missing_weight_is_named(folder: Path) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    kept = load_file(path)
    kept.pop(next(iter(kept)))
    save_file(kept, path)
    with pytest.raises(ConfigurationError, match="lacks 1 weights"):
        load_layout(folder)

"""MedDr's architecture at about a thousandth of its size, in transformers' own layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ....disk import replacing
from ..checkpoint import without_bars
from .config import Architecture
from .tokenizer import CHAT_TEMPLATE, END_OF_TURN, IMAGE, PADDING, token_id
from .trainer import cast

if TYPE_CHECKING:
    from transformers import InternVLForConditionalGeneration, InternVLProcessor, PreTrainedTokenizerFast
    from transformers.models.internvl.modeling_internvl import InternVLVisionModel

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
ATTENTION = "eager"
"""Plain matrix products; see ``set_attention``."""


def build_model(
    sizes: Architecture, tokenizer: PreTrainedTokenizerFast, seed: int = 0
) -> InternVLForConditionalGeneration:
    """Create the model with fresh weights.

    Args:
        sizes: widths, layers, image size.
        tokenizer: its size is the vocabulary, and its image token the placeholder.
        seed: draws the weights.
    """
    from transformers import (
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLVisionConfig,
        LlamaConfig,
    )

    ids = {name: token_id(tokenizer, name) for name in (IMAGE, END_OF_TURN, PADDING)}
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp_width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.key_value_heads,
        max_position_embeddings=sizes.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ids[END_OF_TURN],
        pad_token_id=ids[PADDING],
    )
    vision = InternVLVisionConfig(
        hidden_size=sizes.vision_width,
        intermediate_size=4 * sizes.vision_width,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        attention_bias=True,
        image_size=[sizes.image_size] * 2,
        patch_size=[sizes.patch_size] * 2,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=ids[IMAGE],
        image_seq_length=sizes.image_tokens,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(config)
        prepare_vision(model.model.vision_tower, sizes)
    model.set_attn_implementation(ATTENTION)
    return model


def set_attention(model: InternVLForConditionalGeneration, dtype: torch.dtype) -> None:
    """Choose the attention that trains fastest.

    On a CPU the fused kernel's backward pass knows no fast bfloat16: there plain matrix products take half
    its time. In float32 it is the other way round (measured: 3170 tokens/s, 2050 with plain products; twice
    as fast on rows of a thousand tokens).
    """
    fused = dtype == torch.float32 or model.device.type == "cuda"
    model.set_attn_implementation("sdpa" if fused else ATTENTION)


@torch.no_grad()
def prepare_vision(tower: InternVLVisionModel, sizes: Architecture) -> None:
    """Give the tower a start that small data can finish.

    Positions start as a two-dimensional sine code instead of zero. Queries and keys start aligned and
    values with their output start as a small negative identity, so that attention begins near what
    trained transformers do (Trockman and Kolter 2023, mimetic initialisation).
    """
    side = sizes.image_size // sizes.patch_size
    inner: Any = tower
    inner.embeddings.position_embeddings[0, 1:] = 0.3 * sine_positions(side, sizes.vision_width)
    for layer in inner.encoder.layer:
        attention = layer.attention
        heads, size = attention.num_heads, attention.head_dim
        for head in range(heads):
            rows = slice(head * size, (head + 1) * size)
            shared = torch.randn(size, sizes.vision_width) * sizes.vision_width**-0.5
            attention.q_proj.weight[rows] = 0.7 * shared + 0.7 * attention.q_proj.weight[rows]
            attention.k_proj.weight[rows] = 0.7 * shared + 0.7 * attention.k_proj.weight[rows]
        value = torch.linalg.qr(torch.randn(sizes.vision_width, sizes.vision_width)).Q
        attention.v_proj.weight.copy_(0.6 * value)
        attention.projection_layer.weight.copy_(-0.6 * value.T)


def sine_positions(side: int, width: int) -> torch.Tensor:
    """A sine and cosine code of row and column, float32 (side², width)."""
    frequencies = 1.0 / 100.0 ** (torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies
    code = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = code[:, None].expand(-1, side, -1), code[None].expand(side, -1, -1)
    full = torch.cat([rows, columns], dim=2).reshape(side * side, -1)
    return torch.nn.functional.pad(full, (0, width - full.shape[1]))


def save_generalist(
    model: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    sizes: Architecture,
    folder: Path,
    card: Mapping[str, object],
) -> None:
    """Write the model folder that transformers and vLLM load without remote code, all of it or nothing.

    Weights are bfloat16. The folder replaces an older one of the same name.
    """
    from transformers import GenerationConfig

    weights: Any = type(model)(model.config)
    cast(weights, torch.bfloat16)
    weights.load_state_dict(model.state_dict())
    weights.tie_weights()
    end, pad = token_id(tokenizer, END_OF_TURN), token_id(tokenizer, PADDING)
    weights.generation_config = GenerationConfig(eos_token_id=[end, pad], pad_token_id=pad, do_sample=False)
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    with replacing(folder) as fresh:
        fresh.mkdir()
        with without_bars():
            weights.save_pretrained(fresh)
        build_processor(tokenizer, sizes).save_pretrained(fresh)
        (fresh / "card.json").write_text(text, encoding="utf-8")
        for file in fresh.iterdir():  # safetensors keeps its files from other users
            file.chmod(0o644)


def build_processor(tokenizer: PreTrainedTokenizerFast, sizes: Architecture) -> InternVLProcessor:
    """The processor: stretch to the tower's square, ImageNet mean and deviation, one tile."""
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": sizes.image_size, "width": sizes.image_size}
    common: dict[str, Any] = {"size": size, "image_mean": list(MEAN), "image_std": list(STD)}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            crop_to_patches=False, min_patches=1, max_patches=1, do_convert_rgb=True, resample=3, **common
        ),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(**common),
        image_seq_length=sizes.image_tokens,
        chat_template=CHAT_TEMPLATE,
    )

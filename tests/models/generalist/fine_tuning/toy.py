"""A random checkpoint with MedDr's exact key names, and conversations to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gsco.models.generalist.training.tokenizer import train_tokenizer
from PIL import Image
from safetensors.torch import save_file

SIDE, PATCH, WIDTH, HEADS, LAYERS = 28, 7, 24, 3, 2
VISION = {
    "architectures": ["InternVisionModel"],
    "model_type": "intern_vit_6b",
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "patch_size": PATCH,
    "image_size": SIDE,
    "qk_normalization": True,
    "qkv_bias": False,
    "layer_norm_eps": 1e-6,
    "initializer_factor": 0.1,
    "hidden_act": "gelu",
}
TEXTS = ["What is it?", "dark", "bright", "Answer the questions.", "system user assistant\n"]


def make_checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """Two shards, an index, a tokenizer and a configuration, as InternVL-Chat-V1-2 has them."""
    folder.mkdir(parents=True)
    tokenizer = train_tokenizer(TEXTS * 5, 330)
    tokenizer.save_pretrained(folder)
    language = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    config = {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "downsample_ratio": 0.5,
        "force_image_size": SIDE,
        "select_layer": -1,
        "use_llm_lora": 0,
        "vision_config": VISION,
        "llm_config": language,
    }
    (folder / "config.json").write_text(json.dumps(config))
    weights = make_weights(len(tokenizer), seed)
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, kept in halves.items():
        save_file({name: weights[name] for name in kept}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, kept in halves.items() for name in kept}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def make_weights(vocabulary: int, seed: int) -> dict[str, torch.Tensor]:
    """Random weights by MedDr's names."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    tokens = (SIDE // PATCH) ** 2 + 1
    found = {
        "vision_model.embeddings.class_embedding": random(1, 1, WIDTH),
        "vision_model.embeddings.patch_embedding.weight": random(WIDTH, 3, PATCH, PATCH),
        "vision_model.embeddings.patch_embedding.bias": random(WIDTH),
        "vision_model.embeddings.position_embedding": random(1, tokens, WIDTH),
        "mlp1.0.weight": 1 + random(4 * WIDTH),
        "mlp1.0.bias": random(4 * WIDTH),
        "mlp1.1.weight": random(32, 4 * WIDTH),
        "mlp1.1.bias": random(32),
        "mlp1.3.weight": random(32, 32),
        "mlp1.3.bias": random(32),
        "language_model.model.embed_tokens.weight": random(vocabulary, 32),
        "language_model.model.norm.weight": 1 + random(32),
        "language_model.lm_head.weight": random(vocabulary, 32),
    }
    for layer in range(LAYERS):
        start = f"vision_model.encoder.layers.{layer}."
        found |= {
            f"{start}attn.qkv.weight": random(3 * WIDTH, WIDTH),
            f"{start}attn.q_norm.weight": 1 + random(WIDTH),
            f"{start}attn.k_norm.weight": 1 + random(WIDTH),
            f"{start}attn.proj.weight": random(WIDTH, WIDTH),
            f"{start}attn.proj.bias": random(WIDTH),
            f"{start}norm1.weight": 1 + random(WIDTH),
            f"{start}norm2.weight": 1 + random(WIDTH),
            f"{start}ls1": random(WIDTH),
            f"{start}ls2": random(WIDTH),
            f"{start}mlp.fc1.weight": random(48, WIDTH),
            f"{start}mlp.fc1.bias": random(48),
            f"{start}mlp.fc2.weight": random(WIDTH, 48),
            f"{start}mlp.fc2.bias": random(WIDTH),
        }
        start = f"language_model.model.layers.{layer}."
        found |= {
            f"{start}self_attn.q_proj.weight": random(32, 32),
            f"{start}self_attn.k_proj.weight": random(16, 32),
            f"{start}self_attn.v_proj.weight": random(16, 32),
            f"{start}self_attn.o_proj.weight": random(32, 32),
            f"{start}mlp.gate_proj.weight": random(48, 32),
            f"{start}mlp.up_proj.weight": random(48, 32),
            f"{start}mlp.down_proj.weight": random(32, 48),
            f"{start}input_layernorm.weight": 1 + random(32),
            f"{start}post_attention_layernorm.weight": 1 + random(32),
        }
    return found


def make_conversations(folder: Path, count: int = 6, **entry: Any) -> Path:
    """A collection of bright and dark squares in the InternVL format, one conversation without an image."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for number in range(count):
        label = ("dark", "bright")[number % 2]
        pixels = np.full((20, 30, 3), 60 if label == "dark" else 200, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": label}]
        lines.append({"id": number, "image": f"{number}.png", "conversations": turns})
    turns = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "bright"}]
    lines.append({"id": "text", "conversations": turns})
    (folder / "toy.jsonl").write_text("\n".join(map(json.dumps, lines)))
    collection = {"root": "images", "annotation": "toy.jsonl", "repeat_time": 1, "length": len(lines)} | entry
    path = folder / "toy.json"
    path.write_text(json.dumps({"toy": collection}))
    return path

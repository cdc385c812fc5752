"""A random checkpoint with MedDr's files, configuration keys and tensor names, and the reference's answers.

The forward pass is written from the published formulas with torch operations and transformers' Llama; it
shares no code with the package or with vLLM.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

SIDE, PATCH, VISION_WIDTH, HEADS, LAYERS = 56, 14, 96, 3, 2
WIDTH, INNER, LANGUAGE_LAYERS, LANGUAGE_HEADS, KEY_HEADS = 128, 192, 2, 4, 2
TOKENS = (SIDE // PATCH // 2) ** 2
ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>")
ADDED = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>")
UNUSED = ("<|Human|>", "<|Assistant|>", "<|System|>")
CORPUS = [
    "system user assistant Answer the questions.",
    "You are a helpful medical assistant. Your task is disease diagnosis. You are given a pathology image.",
    "The possible diagnoses are: 'normal', 'tumor'.",
    "The diagnoses of the most similar cases are normal,tumor.",
    "The diagnoses of the specialist models are tumor,tumor. The response should only contain one option.",
]


def make_checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """Its files: two shards, an index, a slow SentencePiece tokenizer, no chat template."""
    folder.mkdir(parents=True)
    vocabulary = make_tokenizer(folder)
    config = configuration(vocabulary)
    (folder / "config.json").write_text(json.dumps(config))
    generation = {"_from_model_config": True, "transformers_version": "4.38.2"}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    weights = make_weights(vocabulary, seed)
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, kept in shards.items():
        save_file({name: weights[name] for name in kept}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, kept in shards.items() for name in kept}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def make_tokenizer(folder: Path) -> int:
    """A SentencePiece model without a dummy prefix, and the slow Llama tokenizer's files around it."""
    import sentencepiece

    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=trained,
        vocab_size=420,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        normalization_rule_name="identity",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        unk_piece="<unk>",
        bos_piece="<|startoftext|>",
        eos_piece="<|endoftext|>",
        minloglevel=2,
        user_defined_symbols=[*UNUSED, "<|im_start|>", "<|im_end|>", "<|im_sep|>"],
    )
    (folder / "tokenizer.model").write_bytes(trained.getvalue())
    size = pieces_of(trained.getvalue()).get_piece_size()
    added = {token: size + place for place, token in enumerate(ADDED)}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    special = {
        0: "<unk>",
        1: "<|startoftext|>",
        2: "<|endoftext|>",
        7: "<|im_end|>",
        **{i: t for t, i in added.items()},
    }
    described = {
        str(id): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for id, token in special.items()
    }
    config = {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": described,
        "additional_special_tokens": list(ADDED),
        "bos_token": "<|startoftext|>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "legacy": True,
        "model_max_length": 4096,
        "pad_token": "<unk>",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
        "use_fast": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return size + len(ADDED)


def pieces_of(model: bytes) -> Any:
    """A SentencePiece tokenizer from its file's bytes."""
    import sentencepiece

    pieces: Any = sentencepiece.SentencePieceProcessor()
    pieces.LoadFromSerializedProto(model)
    return pieces


def configuration(vocabulary: int) -> dict[str, Any]:
    """The keys of InternVL-Chat-V1-2's configuration; those that later versions added are missing."""
    language = {
        "_name_or_path": "01-ai/Yi-34B",
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attn_implementation": "flash_attention_2",
        "bos_token_id": 1,
        "eos_token_id": 7,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "initializer_range": 0.02,
        "intermediate_size": INNER,
        "max_position_embeddings": 1024,
        "model_type": "llama",
        "num_attention_heads": LANGUAGE_HEADS,
        "num_hidden_layers": LANGUAGE_LAYERS,
        "num_key_value_heads": KEY_HEADS,
        "pad_token_id": 0,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 5000000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": vocabulary,
    }
    vision = {
        "architectures": ["InternVisionModel"],
        "attention_dropout": 0.0,
        "drop_path_rate": 0.0,
        "dropout": 0.0,
        "hidden_act": "gelu",
        "hidden_size": VISION_WIDTH,
        "image_size": SIDE,
        "initializer_factor": 0.1,
        "initializer_range": 1e-10,
        "intermediate_size": 144,
        "layer_norm_eps": 1e-06,
        "model_type": "intern_vit_6b",
        "num_attention_heads": HEADS,
        "num_channels": 3,
        "num_hidden_layers": LAYERS,
        "patch_size": PATCH,
        "qk_normalization": True,
        "qkv_bias": False,
        "torch_dtype": "bfloat16",
        "use_bfloat16": True,
        "use_flash_attn": True,
    }
    code = {
        "AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
        "AutoModel": "modeling_internvl_chat.InternVLChatModel",
    }
    return {
        "_commit_hash": None,
        "architectures": ["InternVLChatModel"],
        "auto_map": code,
        "downsample_ratio": 0.5,
        "force_image_size": SIDE,
        "llm_config": language,
        "model_type": "internvl_chat",
        "pad2square": False,
        "select_layer": -1,
        "template": "Hermes-2",
        "torch_dtype": "bfloat16",
        "transformers_version": None,
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "vision_config": vision,
    }


def make_weights(vocabulary: int, seed: int) -> dict[str, torch.Tensor]:
    """Random weights by MedDr's names, large enough that the image changes the answer."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 0.15) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * scale

    deep, key = 4 * VISION_WIDTH, WIDTH // LANGUAGE_HEADS * KEY_HEADS
    found = {
        "vision_model.embeddings.class_embedding": random(1, 1, VISION_WIDTH),
        "vision_model.embeddings.patch_embedding.weight": random(VISION_WIDTH, 3, PATCH, PATCH),
        "vision_model.embeddings.patch_embedding.bias": random(VISION_WIDTH),
        "vision_model.embeddings.position_embedding": random(1, (SIDE // PATCH) ** 2 + 1, VISION_WIDTH),
        "mlp1.0.weight": 1 + random(deep),
        "mlp1.0.bias": random(deep),
        "mlp1.1.weight": random(WIDTH, deep),
        "mlp1.1.bias": random(WIDTH),
        "mlp1.3.weight": random(WIDTH, WIDTH),
        "mlp1.3.bias": random(WIDTH),
        "language_model.model.embed_tokens.weight": random(vocabulary, WIDTH, scale=1.0),
        "language_model.model.norm.weight": 1 + random(WIDTH),
        "language_model.lm_head.weight": random(vocabulary, WIDTH, scale=0.4),
    }
    for layer in range(LAYERS):
        start = f"vision_model.encoder.layers.{layer}."
        found |= {
            f"{start}attn.qkv.weight": random(3 * VISION_WIDTH, VISION_WIDTH),
            f"{start}attn.q_norm.weight": 1 + random(VISION_WIDTH),
            f"{start}attn.k_norm.weight": 1 + random(VISION_WIDTH),
            f"{start}attn.proj.weight": random(VISION_WIDTH, VISION_WIDTH),
            f"{start}attn.proj.bias": random(VISION_WIDTH),
            f"{start}norm1.weight": 1 + random(VISION_WIDTH),
            f"{start}norm2.weight": 1 + random(VISION_WIDTH),
            f"{start}ls1": random(VISION_WIDTH),
            f"{start}ls2": random(VISION_WIDTH),
            f"{start}mlp.fc1.weight": random(144, VISION_WIDTH),
            f"{start}mlp.fc1.bias": random(144),
            f"{start}mlp.fc2.weight": random(VISION_WIDTH, 144),
            f"{start}mlp.fc2.bias": random(VISION_WIDTH),
        }
    for layer in range(LANGUAGE_LAYERS):
        start = f"language_model.model.layers.{layer}."
        found |= {
            f"{start}self_attn.q_proj.weight": random(WIDTH, WIDTH),
            f"{start}self_attn.k_proj.weight": random(key, WIDTH),
            f"{start}self_attn.v_proj.weight": random(key, WIDTH),
            f"{start}self_attn.o_proj.weight": random(WIDTH, WIDTH),
            f"{start}mlp.gate_proj.weight": random(INNER, WIDTH),
            f"{start}mlp.up_proj.weight": random(INNER, WIDTH),
            f"{start}mlp.down_proj.weight": random(WIDTH, INNER),
            f"{start}input_layernorm.weight": 1 + random(WIDTH),
            f"{start}post_attention_layernorm.weight": 1 + random(WIDTH),
        }
    return found


class Reference:
    """The checkpoint answered with as the reference does it: one prompt at a time, greedily."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file
        from transformers import LlamaConfig, LlamaForCausalLM

        self.weights = {
            k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()
        }
        config = json.loads((folder / "config.json").read_text())["llm_config"]
        given = {
            k: v for k, v in config.items() if k not in ("attn_implementation", "torch_dtype", "rope_scaling")
        }
        self.language: Any = LlamaForCausalLM(LlamaConfig(**given)).eval()
        own = {
            k.removeprefix("language_model."): v
            for k, v in self.weights.items()
            if k.startswith("language_model.")
        }
        self.language.load_state_dict(own)
        self.pieces = pieces_of((folder / "tokenizer.model").read_bytes())
        self.added = json.loads((folder / "added_tokens.json").read_text())
        self.ends = {self.pieces.piece_to_id(end) for end in ENDS}

    def ids(self, question: str) -> list[int]:
        """Token ids of the whole conversation, by SentencePiece itself."""
        before = "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n"
        after = f"\n{question}<|im_end|><|im_start|>assistant\n"
        image = [self.added["<img>"], *[self.added["<IMG_CONTEXT>"]] * TOKENS, self.added["</img>"]]
        return [*self.pieces.encode(before), *image, *self.pieces.encode(after)]

    @torch.inference_mode()
    def answer(self, image: Image.Image, question: str, new: int) -> tuple[list[int], float]:
        """Greedy token ids, the end left out, and the smallest lead of the best token over the second."""
        ids = self.ids(question)
        words = self.language.get_input_embeddings()(torch.tensor([ids]))
        words[0, [i for i, id in enumerate(ids) if id == self.added["<IMG_CONTEXT>"]]] = self.features(image)
        said: list[int] = []
        closest = math.inf
        while len(said) < new:
            logits = self.language(inputs_embeds=words).logits[0, -1]
            best = logits.topk(2)
            closest = min(closest, (best.values[0] - best.values[1]).item())
            if (id := int(best.indices[0])) in self.ends:
                break
            said.append(id)
            words = torch.cat([words, self.language.get_input_embeddings()(torch.tensor([[id]]))], 1)
        return said, closest

    def features(self, image: Image.Image) -> torch.Tensor:
        """Stretched bicubically without padding, ImageNet's mean and deviation; then tower and projector."""
        pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)) / 255.0
        scaled = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        x = self.tower(torch.tensor(scaled, dtype=torch.float32).permute(2, 0, 1)[None])[0]
        w, side = self.weights, SIDE // PATCH
        grid = x.reshape(side, side // 2, 2 * VISION_WIDTH).permute(1, 0, 2).reshape(TOKENS, 4 * VISION_WIDTH)
        seen = torch.nn.functional.layer_norm(grid, (4 * VISION_WIDTH,), w["mlp1.0.weight"], w["mlp1.0.bias"])
        seen = torch.nn.functional.gelu(seen @ w["mlp1.1.weight"].T + w["mlp1.1.bias"])
        return seen @ w["mlp1.3.weight"].T + w["mlp1.3.bias"]

    def tower(self, pixels: torch.Tensor) -> torch.Tensor:
        """InternViT with normalised queries and keys; the class token is left out."""
        w, start = self.weights, "vision_model.embeddings."
        weight, bias = w[f"{start}patch_embedding.weight"], w[f"{start}patch_embedding.bias"]
        patches = torch.nn.functional.conv2d(pixels, weight, bias, stride=PATCH).flatten(2).mT
        x = torch.cat([w[f"{start}class_embedding"], patches], 1) + w[f"{start}position_embedding"]
        for layer in range(LAYERS):
            p = f"vision_model.encoder.layers.{layer}."
            q, k, v = (_norm(x, w[f"{p}norm1.weight"]) @ w[f"{p}attn.qkv.weight"].T).chunk(3, -1)
            q, k = _norm(q, w[f"{p}attn.q_norm.weight"]), _norm(k, w[f"{p}attn.k_norm.weight"])
            q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (q, k, v))
            mixed = (q @ k.mT / math.sqrt(VISION_WIDTH // HEADS)).softmax(-1) @ v
            mixed = mixed.transpose(1, 2).flatten(2) @ w[f"{p}attn.proj.weight"].T + w[f"{p}attn.proj.bias"]
            x = x + mixed * w[f"{p}ls1"]
            inner = _norm(x, w[f"{p}norm2.weight"]) @ w[f"{p}mlp.fc1.weight"].T + w[f"{p}mlp.fc1.bias"]
            outer = torch.nn.functional.gelu(inner) @ w[f"{p}mlp.fc2.weight"].T + w[f"{p}mlp.fc2.bias"]
            x = x + outer * w[f"{p}ls2"]
        return x[:, 1:]


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * weight

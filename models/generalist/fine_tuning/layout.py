"""MedDr's own checkpoint layout: InternViT, pixel shuffle, ``mlp1`` and a Llama, without remote code.

transformers has the vision tower under other names, and no class for the whole: its own InternVL orders the
pixel shuffle otherwise, so that weights of this layout would load there and see a transposed image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ....errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import InternVLVisionConfig

ARCHITECTURE = "InternVLChatModel"
IMAGE, IMAGE_START, IMAGE_END = "<IMG_CONTEXT>", "<img>", "</img>"
INDEX = "model.safetensors.index.json"
_VISION_NAMES = (
    ("embeddings.class_embedding", "embeddings.cls_token"),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
    ("embeddings.position_embedding", "embeddings.position_embeddings"),
    ("encoder.layers.", "encoder.layer."),
    (".attn.proj.", ".attention.projection_layer."),
    (".attn.", ".attention."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".ls1", ".lambda_1"),
    (".ls2", ".lambda_2"),
)
_ADAPTED = re.compile(r"\.(lora_[AB]|base_layer)\.|\.base_model\.")


class InternVLChat(nn.Module):
    """The whole model; ``forward`` gives the loss over labelled tokens.

    Args:
        config: the checkpoint's ``config.json``.
        dtype: of the weights.

    Raises:
        ConfigurationError: the configuration is of another architecture.
    """

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM
        from transformers.models.internvl.modeling_internvl import InternVLVisionModel

        if ARCHITECTURE not in config.get("architectures", ()):
            raise ConfigurationError(
                f"this is a checkpoint of {config.get('architectures')}, not of {ARCHITECTURE}; "
                "fine-tune it with its own project"
            )
        self.ratio = float(config.get("downsample_ratio", 0.5))
        language = LlamaConfig(**config["llm_config"])
        previous = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            self.vision_model = InternVLVisionModel(vision_config(config))
            self.language_model = LlamaForCausalLM(language)
            seen = int(config["vision_config"]["hidden_size"] / self.ratio**2)
            width = int(language.hidden_size or 0)
            self.mlp1 = nn.Sequential(
                nn.LayerNorm(seen), nn.Linear(seen, width), nn.GELU(), nn.Linear(width, width)
            )
        finally:
            torch.set_default_dtype(previous)

    def image_features(self, pixels: Tensor) -> Tensor:
        """Tokens of normalised images: (n, 3, side, side) → (n, tokens, width of the language model)."""
        patches = self.vision_model(pixels.to(next(self.mlp1.parameters()).dtype)).last_hidden_state[:, 1:]
        return self.mlp1(shuffled(patches, self.ratio))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        image: Tensor,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute logits, and the loss where labels are given.

        Args:
            input_ids: (n, length).
            attention_mask: 1 for tokens, 0 for padding, (n, length).
            image: where features of images stand, bool (n, length).
            pixel_values: of all images in order, (images, 3, side, side).
            labels: next tokens to be learnt, -100 elsewhere, (n, length).
        """
        language: Any = self.language_model
        words = language.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            features = self.image_features(pixel_values).to(words.dtype)
            words = words.masked_scatter(image[:, :, None], features)
        said = language(inputs_embeds=words, attention_mask=attention_mask, labels=labels)
        return {"logits": said.logits} | ({} if labels is None else {"loss": said.loss})

    def gradient_checkpointing_enable(self, **given: object) -> None:
        """Compute the language model's activations again instead of keeping them."""
        language: Any = self.language_model
        language.enable_input_require_grads()
        language.gradient_checkpointing_enable(**given)


def shuffled(patches: Tensor, ratio: float) -> Tensor:
    """Put neighbouring patches into one token, in the order of the first InternVL-Chat versions.

    Args:
        patches: (n, side², width), row by row.
        ratio: of the new side to the old one.

    Returns:
        (n, (side · ratio)², width / ratio²); the tokens go column by column, unlike in later versions.
    """
    count, length, width = patches.shape
    side = round(length**0.5)
    new, deep = int(side * ratio), int(width / ratio)
    rows = patches.reshape(count, side, new, deep).transpose(1, 2)
    squares = rows.reshape(count, new, new, int(deep / ratio))
    return squares.reshape(count, new * new, -1)


def vision_config(config: Mapping[str, Any]) -> InternVLVisionConfig:
    """The vision tower's configuration in transformers' terms."""
    from transformers import InternVLVisionConfig

    given = config["vision_config"]
    return InternVLVisionConfig(
        hidden_size=given["hidden_size"],
        intermediate_size=given["intermediate_size"],
        num_hidden_layers=given["num_hidden_layers"],
        num_attention_heads=given["num_attention_heads"],
        attention_bias=given.get("qkv_bias", False),
        use_qk_norm=given.get("qk_normalization", True),
        # Older configurations do not say it: then it is the root mean square.
        norm_type=given.get("norm_type", "rms_norm"),
        layer_norm_eps=given.get("layer_norm_eps", 1e-6),
        layer_scale_init_value=given.get("initializer_factor", 0.1),
        image_size=[given["image_size"]] * 2,
        patch_size=[given["patch_size"]] * 2,
        use_mean_pooling=True,  # no norm behind the last layer
    )


def load_layout(folder: Path, dtype: torch.dtype = torch.float32) -> InternVLChat:
    """Load a checkpoint folder.

    Raises:
        ConfigurationError: it is no such checkpoint, lacks weights, or still holds an unmerged adapter.
    """
    model = InternVLChat(read_config(folder), dtype)
    wanted, found = model.state_dict(), set()
    for name, weight in weights(folder):
        if _ADAPTED.search(name):
            raise ConfigurationError(
                f"{folder} holds an unmerged adapter ({name}); run: gsco train merge {folder} --out FOLDER"
            )
        for own, part in own_names(name, weight):
            if own not in wanted:
                continue  # rotary tables and the like
            if wanted[own].shape != part.shape:
                raise ConfigurationError(f"{folder}: {name} is {tuple(weight.shape)}, which does not fit")
            wanted[own].copy_(part)
            found.add(own)
    tied = {"language_model.lm_head.weight"} if model.language_model.config.tie_word_embeddings else set()
    if missing := sorted(set(wanted) - found - tied):
        raise ConfigurationError(f"{folder} lacks {len(missing)} weights, such as {missing[0]}")
    return model


def own_names(name: str, weight: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A weight of the layout as the weights of ``InternVLChat``: one, or three for fused attention."""
    if not name.startswith("vision_model."):
        yield name, weight
        return
    for old, new in _VISION_NAMES:
        name = name.replace(old, new)
    if ".attention.qkv." in name:
        for letter, part in zip("qkv", weight.chunk(3), strict=True):
            yield name.replace(".qkv.", f".{letter}_proj."), part
    else:
        yield name, weight


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json``.

    Raises:
        ConfigurationError: it is missing or no JSON object.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{folder} is not a checkpoint folder: {error}") from error
    if not isinstance(config, dict) or not {"vision_config", "llm_config"} <= set(config):
        raise ConfigurationError(f"{folder}/config.json has no `vision_config` and `llm_config`")
    return config


def shards(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint.

    Raises:
        ConfigurationError: there are none, or one that the index names is missing.
    """
    found = sorted(folder.glob("*.safetensors"))
    if (folder / INDEX).is_file():
        named = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(named - {path.name for path in found}):
            raise ConfigurationError(f"{folder} lacks {', '.join(missing)}")
    if not found:
        raise ConfigurationError(f"{folder} holds no safetensors files")
    return found


def weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every weight by name, read one at a time."""
    from safetensors import safe_open

    for path in shards(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                yield name, file.get_tensor(name)

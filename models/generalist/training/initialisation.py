"""Go on from an earlier generalist: its weights, and its tokens wherever the new tokenizer has them too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ....errors import ConfigurationError, GeneralistError
from ..checkpoint import load_checkpoint

if TYPE_CHECKING:
    from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerFast

EMBEDDING = "embed_tokens.weight"


@torch.no_grad()
def start_from(
    model: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> str:
    """Put an earlier model's projector and decoder into a new one; the tower is left as it is.

    A token of the new vocabulary that the earlier one lacks starts as the mean of its parts.

    Returns:
        The earlier model's version.

    Raises:
        ConfigurationError: it cannot be loaded, or has another architecture.
    """
    try:
        earlier = load_checkpoint(str(folder), "cpu", "float32")
    except GeneralistError as error:
        raise ConfigurationError(f"cannot start from {folder}: {error}") from error
    old, new = earlier.model.state_dict(), model.state_dict()
    tokens = earlier.processor.tokenizer
    for name, weight in new.items():
        if "vision_tower" in name or name == "lm_head.weight":
            continue
        if name.endswith(EMBEDDING):
            weight.copy_(_embeddings(old[name], tokens, tokenizer, weight))
        elif name not in old or old[name].shape != weight.shape:
            raise ConfigurationError(f"{folder} has another architecture: {name} does not fit")
        else:
            weight.copy_(old[name])
    return earlier.version


def _embeddings(
    old: torch.Tensor,
    tokens: PreTrainedTokenizerFast,
    tokenizer: PreTrainedTokenizerFast,
    fresh: torch.Tensor,
) -> torch.Tensor:
    known, found = tokens.get_vocab(), fresh.clone()
    merge = tokens.backend_tokenizer.model.tokenize
    for token, row in tokenizer.get_vocab().items():
        # Byte-level tokens are spelt in the letters that stand for bytes, which the model takes as they are.
        parts = [known[token]] if token in known else [part.id for part in merge(token)]
        if parts:
            found[row] = old[parts].mean(0)
    return found

"""MedDr's tokenizer, mended so that later versions of transformers read text as the model was trained on it.

The checkpoint has a slow SentencePiece tokenizer. Later versions of transformers have none, and what they
make of its files differs in two ways: in the ``legacy`` mode a space is put behind each special token, and a
token such as ``<|im_start|>`` that only the SentencePiece model knows as one is cut into bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError

ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>")
"""Tokens that end an answer, where the tokenizer has them; the ids are looked up, never assumed."""
_NEEDED = ("<img>", "</img>", "<IMG_CONTEXT>", "<|im_start|>", "<|im_end|>")
_CONTROL = re.compile(r"<\|[^|<>]+\|>")
_SPACES = ("▁", "Ġ", " ")


def mended(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``tokenizer_config.json`` must say.

    Args:
        folder: with the tokenizer's other files.
        config: what it says now.

    Raises:
        ConfigurationError: the tokenizer cannot be loaded, or lacks a token.
    """
    known = _load(folder).get_vocab()
    if lacking := [token for token in _NEEDED if token not in known]:
        raise ConfigurationError(f"the tokenizer lacks {', '.join(lacking)}; copy its files again")
    added = dict(config.get("added_tokens_decoder") or {})
    for token, id in known.items():
        if _CONTROL.fullmatch(token) or token in _NEEDED:
            added.setdefault(str(id), _described(token))
    listed = dict(sorted(added.items(), key=lambda pair: int(pair[0])))
    return {**config, "add_prefix_space": False, "added_tokens_decoder": listed}


def ends_of(folder: Path) -> list[int]:
    """Ids of the tokens that end an answer, of a mended tokenizer.

    Raises:
        ConfigurationError: it does not read text as the model was trained on it.
    """
    tokenizer = _load(folder)
    for token in _NEEDED:
        first, *rest = tokenizer.tokenize(f"{token}system")
        if first != token or not rest or rest[0].startswith(_SPACES):
            raise ConfigurationError(
                f"the tokenizer reads {token} as {first!r} and puts {rest[:1]} behind it, beyond mending;"
                " give it a tokenizer.json that was converted without a dummy prefix"
            )
    known = tokenizer.get_vocab()
    return sorted(known[token] for token in ENDS if token in known)


def _load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers and transformers have errors of many kinds
        raise ConfigurationError(
            f"the tokenizer cannot be loaded ({type(error).__name__}); a tokenizer.model takes sentencepiece:"
            " pip install 'gsco[serving]'"
        ) from error


def _described(token: str) -> dict[str, object]:
    shape = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    return {"content": token, **shape, "special": True}

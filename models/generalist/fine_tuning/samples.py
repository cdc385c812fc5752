"""Conversations as training samples: token ids in MedDr's template, labels on what the model says, pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import torch

from ....errors import ConfigurationError, ImageError
from ..conversations import Collection, TrainingConversation
from ..prompts import SYSTEM
from ..training.architecture import MEAN, STD
from .layout import IMAGE, IMAGE_END, IMAGE_START

if TYPE_CHECKING:
    from torch import Tensor

NOT_LEARNT = -100


@dataclass(frozen=True)
class Template:
    """Token ids of conversations, as MedDr was trained on them.

    Attributes:
        tokenizer: of the checkpoint.
        image_tokens: per image.
    """

    tokenizer: Any
    image_tokens: int

    def write(self, conversation: TrainingConversation) -> tuple[list[int], list[int]]:
        """Token ids, and the same as labels where the model speaks.

        Raises:
            ConfigurationError: the tokenizer lacks one of the image tokens.
        """
        ids: list[int] = []
        labels: list[int] = []
        for text, learnt in self._pieces(conversation):
            part = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += part
            labels += part if learnt else [NOT_LEARNT] * len(part)
        return ids, labels

    @property
    def image_id(self) -> int:
        """Id of the token in whose places the features stand."""
        unknown = self.tokenizer.unk_token_id
        for token in (IMAGE, IMAGE_START, IMAGE_END):
            if self.tokenizer.convert_tokens_to_ids(token) in (None, unknown):
                raise ConfigurationError(f"the checkpoint's tokenizer does not know {token}")
        return int(self.tokenizer.convert_tokens_to_ids(IMAGE))

    def _pieces(self, conversation: TrainingConversation) -> list[tuple[str, bool]]:
        turns = list(conversation.turns)
        system = turns.pop(0).text if turns[0].speaker == "system" else SYSTEM
        pieces = [(f"<|im_start|>system\n{system}<|im_end|>", False)]
        waiting = conversation.image is not None
        for turn in turns:
            if turn.speaker == "gpt":
                pieces += [("<|im_start|>assistant\n", False), (f"{turn.text}<|im_end|>", True)]
                continue
            image = f"{IMAGE_START}{IMAGE * self.image_tokens}{IMAGE_END}\n" if waiting else ""
            pieces.append((f"<|im_start|>user\n{image}{turn.text}<|im_end|>", False))
            waiting = False
        return pieces


class TokenSample(TypedDict):
    """A conversation as the model learns it."""

    ids: list[int]
    labels: list[int]
    pixels: Tensor | None


class Samples(torch.utils.data.Dataset[TokenSample]):
    """Conversations of several collections, repeated as each says.

    Args:
        collections: what to learn from.
        template: writes token ids.
        image_size: images are stretched to this square, in pixels.
        max_tokens: longer conversations are left out.

    Raises:
        ConfigurationError: a collection cannot be read, or nothing is left.
    """

    def __init__(
        self, collections: Sequence[Collection], template: Template, image_size: int, max_tokens: int
    ) -> None:
        self._template, self._size = template, image_size
        self._known: list[tuple[Path, TrainingConversation]] = []
        self.left_out = 0
        """Conversations that are too long."""
        for collection in collections:
            fitting = [one for one in collection.conversations() if self._fits(one, max_tokens)]
            count = math.ceil(len(fitting) * collection.repeats) if fitting else 0
            self._known += [(collection.root, fitting[place % len(fitting)]) for place in range(count)]
        if not self._known:
            raise ConfigurationError("the collections hold no conversation that fits; raise max_tokens")

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, place: int) -> TokenSample:
        root, conversation = self._known[place]
        ids, labels = self._template.write(conversation)
        pixels = None if conversation.image is None else read_pixels(root / conversation.image, self._size)
        return {"ids": ids, "labels": labels, "pixels": pixels}

    def _fits(self, conversation: TrainingConversation, max_tokens: int) -> bool:
        fits = len(self._template.write(conversation)[0]) <= max_tokens
        self.left_out += not fits
        return fits


@dataclass(frozen=True)
class Collator:
    """Pads samples on the right.

    Attributes:
        padding: id that fills up.
        image: id in whose places features of images stand.
    """

    padding: int
    image: int

    def __call__(self, samples: Sequence[TokenSample]) -> dict[str, Tensor]:
        """The arguments of ``InternVLChat.forward``."""
        length = max(len(sample["ids"]) for sample in samples)

        def rows(name: Literal["ids", "labels"], filling: int) -> Tensor:
            return torch.tensor(
                [sample[name] + [filling] * (length - len(sample[name])) for sample in samples]
            )

        ids = rows("ids", self.padding)
        lengths = torch.tensor([len(sample["ids"]) for sample in samples])
        pixels = [sample["pixels"] for sample in samples if sample["pixels"] is not None]
        return {
            "input_ids": ids,
            "attention_mask": (torch.arange(length) < lengths[:, None]).long(),
            "image": ids == self.image,
            "labels": rows("labels", NOT_LEARNT),
        } | ({"pixel_values": torch.stack(pixels)} if pixels else {})


def read_pixels(path: Path, side: int) -> Tensor:
    """An image as MedDr sees it: RGB, stretched to a square, normalised; float32 (3, side, side).

    Raises:
        ConfigurationError: it cannot be read.
    """
    from torchvision.transforms.v2 import functional

    from ....images import read_image

    try:
        image = read_image(path).convert("RGB").resize((side, side), 3)  # 3 is bicubic
    except ImageError as error:
        raise ConfigurationError(f"image {path.name} of a conversation cannot be used: {error}") from error
    pixels = functional.pil_to_tensor(image).float() / 255
    return functional.normalize(pixels, list(MEAN), list(STD))

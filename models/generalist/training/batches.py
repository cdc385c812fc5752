"""Prompts as token ids, in batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..prompts import SYSTEM, answer_text
from .mixture import Mixture, Prompt
from .tokenizer import END_OF_TURN, IMAGE, IMAGE_END, IMAGE_START, PADDING, TURN, token_id

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

BATCHES_AT_ONCE = 8
"""So many batches are drawn together and sorted by length among themselves."""
NOT_SCORED = -100


@dataclass(frozen=True)
class Batch:
    """Rows of token ids; each row holds all prompts about one image, behind what they begin with alike.

    Attributes:
        ids: (rows, length), padded on the right.
        positions: of each token in its own prompt.
        branches: 0 for the common beginning, then one number per prompt, -1 for padding.
        targets: the next token where it belongs to an answer, else ``NOT_SCORED``.
        places: source and index of each row's image.
    """

    ids: Tensor
    positions: Tensor
    branches: Tensor
    targets: Tensor
    places: Sequence[tuple[int, int]]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What came before each token in its own prompt; additive, (rows, 1, length, length)."""
        length = self.ids.shape[1]
        own = (self.branches[:, :, None] == self.branches[:, None, :]) | (self.branches[:, None, :] == 0)
        seen = own & torch.ones(length, length, dtype=torch.bool).tril()
        return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


Line = tuple[list[int], list[int], list[int], list[int]]
"""Ids, positions, branches and targets of one row."""


class Writer:
    """Writes prompts as MedDr reads them; the image always stands at the same place.

    Args:
        tokenizer: the model's.
        image_tokens: per image.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, image_tokens: int) -> None:
        self._tokenizer: Any = tokenizer
        opening = f"{TURN}system\n{SYSTEM}{END_OF_TURN}{TURN}user\n{IMAGE_START}"
        self._opening = [*self._ids([opening])[0], *[token_id(tokenizer, IMAGE)] * image_tokens]
        self.image = slice(len(self._opening) - image_tokens, len(self._opening))
        self._end = token_id(tokenizer, END_OF_TURN)
        self._padding = token_id(tokenizer, PADDING)

    def questions(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Token ids up to where the answer begins."""
        texts = [f"{IMAGE_END}\n{prompt.text}{END_OF_TURN}{TURN}assistant\n" for prompt in prompts]
        return [self._opening + ids for ids in self._ids(texts)]

    def answers(self, answers: Sequence[str]) -> list[list[int]]:
        """Token ids of answers with the end of the turn."""
        return [[*ids, self._end] for ids in self._ids([answer_text((answer,)) for answer in answers])]

    def line(self, questions: Sequence[list[int]], answers: Sequence[list[int]]) -> Line:
        """One row: the questions' common beginning, then each one's rest with its answer."""
        shared = min(_common(questions), min(map(len, questions)) - 1)
        ids, positions = list(questions[0][:shared]), list(range(shared))
        branches, targets = [0] * shared, [NOT_SCORED] * shared
        for branch, (question, answer) in enumerate(zip(questions, answers, strict=True), start=1):
            own = [*question[shared:], *answer[:-1]]
            ids += own
            positions += range(shared, shared + len(own))
            branches += [branch] * len(own)
            targets += [NOT_SCORED] * (len(own) - len(answer)) + answer
        return ids, positions, branches, targets

    def batch(self, lines: Sequence[Line], places: Sequence[tuple[int, int]]) -> Batch:
        """Pad rows on the right."""
        length = max(len(ids) for ids, *_ in lines)
        fillings = (self._padding, 0, -1, NOT_SCORED)
        columns = [
            torch.tensor([line[k] + [fillings[k]] * (length - len(line[k])) for line in lines])
            for k in range(4)
        ]
        return Batch(*columns, places=places)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts, add_special_tokens=False)["input_ids"]


class Batches:
    """Batch number *n* is the same in every run.

    Args:
        mixture: of training prompts.
        writer: of token ids.
        rows: scenes per batch.
        seed: orders the batches.
        first: number of the first scene.
    """

    def __init__(self, mixture: Mixture, writer: Writer, rows: int, seed: int, first: int = 0) -> None:
        self._mixture, self._writer, self._rows, self._seed, self._first = mixture, writer, rows, seed, first
        self._drawn = -1
        self._batches: list[Batch] = []

    def draw(self, step: int) -> Batch:
        """Return one batch; drawing in order is fastest."""
        chunk, place = divmod(step, BATCHES_AT_ONCE)
        if chunk != self._drawn:
            self._batches, self._drawn = self._chunk(chunk), chunk
        return self._batches[place]

    def _chunk(self, chunk: int) -> list[Batch]:
        count = self._rows * BATCHES_AT_ONCE
        numbers = range(self._first + chunk * count, self._first + (chunk + 1) * count)
        scenes = [self._mixture.prompts(number) for number in numbers]
        prompts = [prompt for scene in scenes for prompt in scene]
        questions = iter(self._writer.questions(prompts))
        answers = iter(self._writer.answers([prompt.answer for prompt in prompts]))
        lines = [
            self._writer.line([next(questions) for _ in scene], [next(answers) for _ in scene])
            for scene in scenes
        ]
        places = [(scene[0].source, scene[0].image) for scene in scenes]
        order = sorted(range(count), key=lambda i: (len(lines[i][0]), i))
        parts = [order[start : start + self._rows] for start in range(0, count, self._rows)]
        mixed = np.random.default_rng([self._seed, 3, chunk]).permutation(len(parts))
        return [
            self._writer.batch([lines[i] for i in parts[k]], [places[i] for i in parts[k]]) for k in mixed
        ]


def _common(questions: Sequence[list[int]]) -> int:
    """Length of the beginning that all have in common."""
    shortest = min(map(len, questions))
    first = questions[0]
    return next((k for k in range(shortest) if any(q[k] != first[k] for q in questions[1:])), shortest)

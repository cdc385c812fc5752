"""Prompts as token ids, in batches of similar length."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..prompts import SYSTEM, answer_text
from .example import ImageView, PromptTurn, TrainingPrompt
from .mixture import Mixture
from .tokenizer import END_OF_TURN, IMAGE, IMAGE_END, IMAGE_START, PADDING, TURN, token_id

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

BATCHES_AT_ONCE = 8
"""So many batches are drawn together and sorted by length among themselves."""
NOT_SCORED = -100


@dataclass(frozen=True)
class PromptBatch:
    """Rows of token ids; each row holds all prompts about one image, behind what they begin with alike.

    It lies on the CPU; only ``mask`` is made where it is needed.

    Attributes:
        ids: (rows, length), padded on the right.
        positions: of each token in its own prompt.
        branches: 0 for the common beginning, then one number per prompt, -1 for padding.
        targets: the next token where it belongs to an answer, else ``NOT_SCORED``.
        views: what each row shows.
    """

    ids: Tensor
    positions: Tensor
    branches: Tensor
    targets: Tensor
    views: Sequence[ImageView]

    def mask(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """What came before each token in its own prompt; additive, (rows, 1, length, length)."""
        length, branches = self.ids.shape[1], self.branches.to(device)
        own = (branches[:, :, None] == branches[:, None, :]) | (branches[:, None, :] == 0)
        seen = own & torch.ones(length, length, dtype=torch.bool, device=device).tril()
        hidden = torch.finfo(dtype).min
        return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, hidden)[:, None]

    def parts(self, tokens: int) -> Iterator[tuple[slice, PromptBatch]]:
        """Cut the batch into groups of rows of at most so many tokens with padding, at least one row each.

        Yields:
            Which rows, and the rows as a batch.
        """
        rows, length = self.ids.shape
        step = max(1, tokens // length)
        for start in range(0, rows, step):
            own = slice(start, start + step)
            columns = (self.ids, self.positions, self.branches, self.targets)
            yield own, PromptBatch(*(column[own] for column in columns), views=self.views[own])

    def weights(self, power: float) -> Tensor:
        """What each scored target counts, in row-major order: an answer as much as its length to a power."""
        return self.answer_lengths().float() ** (power - 1)

    def answer_lengths(self) -> Tensor:
        """For each target that is scored, in row-major order, how many there are in its answer."""
        scored = self.targets != NOT_SCORED
        goes_on = scored[:, 1:] & scored[:, :-1] & (self.branches[:, 1:] == self.branches[:, :-1])
        begins = scored.clone()
        begins[:, 1:] &= ~goes_on
        answer = begins.flatten().cumsum(0)[scored.flatten()]
        return torch.bincount(answer)[answer]


Line = tuple[list[int], list[int], list[int], list[int]]
"""Ids, positions, branches and targets of one row."""


@dataclass(frozen=True)
class TokenisedConversation:
    """A conversation as token ids."""

    ids: list[int]
    learnt: list[bool]
    """Whether the assistant says it."""

    @property
    def targets(self) -> list[int]:
        """The next token at each place but the last, where it is learnt."""
        follow = zip(self.ids[1:], self.learnt[1:], strict=True)
        return [id if learnt else NOT_SCORED for id, learnt in follow]


class ConversationWriter:
    """Writes conversations as the model's chat template does.

    Args:
        tokenizer: the model's.
        image_tokens: per image.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, image_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._image = f"{IMAGE_START}{IMAGE * image_tokens}{IMAGE_END}"
        self._end = token_id(tokenizer, END_OF_TURN)
        self._padding = token_id(tokenizer, PADDING)

    def questions(self, prompts: Sequence[TrainingPrompt]) -> list[list[int]]:
        """Token ids up to where the last answer begins."""
        return self._ids(["".join(text for text, _ in self._pieces(prompt)[:-1]) for prompt in prompts])

    def answers(self, answers: Sequence[str]) -> list[list[int]]:
        """Token ids of answers with the end of the turn."""
        return [[*ids, self._end] for ids in self._ids([answer_text((answer,)) for answer in answers])]

    def written(self, prompts: Sequence[TrainingPrompt]) -> list[TokenisedConversation]:
        """Token ids of whole conversations."""
        pieces = [self._pieces(prompt) for prompt in prompts]
        ids = iter(self._ids([text for one in pieces for text, _ in one]))
        found = []
        for one in pieces:
            parts = [(next(ids), learnt) for _, learnt in one]
            learnt = [learnt for part, learnt in parts for _ in part]
            found.append(TokenisedConversation([id for part, _ in parts for id in part], learnt))
        return found

    def line(self, prompts: Sequence[TokenisedConversation]) -> Line:
        """One row: what all begin with, up to the first learnt token, then the rest of each."""
        first = min(prompt.learnt.index(True) for prompt in prompts) - 1
        shared = min(_common([prompt.ids for prompt in prompts]), first)
        ids, positions = list(prompts[0].ids[:shared]), list(range(shared))
        branches, targets = [0] * shared, [NOT_SCORED] * shared
        for branch, prompt in enumerate(prompts, start=1):
            own = prompt.ids[shared:-1]
            ids += own
            positions += range(shared, shared + len(own))
            branches += [branch] * len(own)
            targets += prompt.targets[shared:]
        return ids, positions, branches, targets

    def batch(self, lines: Sequence[Line], views: Sequence[ImageView]) -> PromptBatch:
        """Pad rows on the right."""
        length = max(len(ids) for ids, *_ in lines)
        fillings = (self._padding, 0, -1, NOT_SCORED)
        columns = [
            torch.tensor([line[k] + [fillings[k]] * (length - len(line[k])) for line in lines])
            for k in range(4)
        ]
        return PromptBatch(*columns, views=views)

    def _pieces(self, prompt: TrainingPrompt) -> list[tuple[str, bool]]:
        """Texts in order, and whether the assistant says them; the last one is the answer."""
        tools = "".join(f"\n{json.dumps(tool, ensure_ascii=False)}" for tool in prompt.tools)
        listed = f"\n<tools>{tools}\n</tools>" if tools else ""
        opening = f"{TURN}system\n{SYSTEM}{listed}{END_OF_TURN}"
        pieces = [(f"{opening}{TURN}user\n{self._image}\n{prompt.text}{END_OF_TURN}", False)]
        for turn in (*prompt.turns, PromptTurn("assistant", prompt.answer)):
            own = turn.role == "assistant"
            text = f"<tool_response>\n{turn.text}\n</tool_response>" if turn.role == "tool" else turn.text
            pieces += [(f"{TURN}{turn.role}\n", False), (f"{text}{END_OF_TURN}", own)]
        return pieces

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts, add_special_tokens=False)["input_ids"]


class Batches(Dataset[list[PromptBatch]]):
    """Batch number *n* is the same in every run.

    Args:
        mixture: of training prompts.
        writer: of token ids.
        rows: scenes per batch.
        seed: orders the batches.
        first: number of the first scene.
    """

    def __init__(
        self, mixture: Mixture, writer: ConversationWriter, rows: int, seed: int, first: int = 0
    ) -> None:
        self._mixture, self._writer, self._rows, self._seed, self._first = mixture, writer, rows, seed, first

    def from_step(self, step: int, workers: int = 0) -> Iterator[PromptBatch]:
        """Yield the batches from one step on, without end.

        Args:
            step: of the first one.
            workers: processes that draw them ahead; with 0 they are drawn when they are asked for.
        """
        chunk, place = divmod(step, BATCHES_AT_ONCE)
        ahead: dict[str, Any] = {}
        if workers:
            # Batches cross from process to process through memory, not as one open file per tensor.
            torch.multiprocessing.set_sharing_strategy("file_system")
            # The tokenizer's threads do not live on in a forked process.
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
            ahead = {"num_workers": workers, "prefetch_factor": 2, "multiprocessing_context": "fork"}
        chunks = iter(DataLoader(self, batch_size=None, sampler=_From(chunk), **ahead))
        yield from next(chunks)[place:]
        for batches in chunks:
            yield from batches

    def __getitem__(self, chunk: int) -> list[PromptBatch]:
        """Draw batches together, and sort their rows by length among themselves."""
        size = self._rows * BATCHES_AT_ONCE
        numbers = range(self._first + chunk * size, self._first + (chunk + 1) * size)
        scenes = [self._mixture.prompts(number) for number in numbers]
        prompts = [prompt for scene in scenes for prompt in scene]
        written = iter(self._writer.written(prompts))
        lines = [self._writer.line([next(written) for _ in scene]) for scene in scenes]
        views = [scene[0].view for scene in scenes]
        order = sorted(range(size), key=lambda i: (len(lines[i][0]), i))
        parts = [order[start : start + self._rows] for start in range(0, size, self._rows)]
        mixed = np.random.default_rng([self._seed, 3, chunk]).permutation(len(parts))
        return [self._writer.batch([lines[i] for i in parts[k]], [views[i] for i in parts[k]]) for k in mixed]


class _From(Sampler[int]):
    """Numbers from one on, without end."""

    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        return count(self._first)


def _common(questions: Sequence[list[int]]) -> int:
    """Length of the beginning that all have in common."""
    shortest = min(map(len, questions))
    first = questions[0]
    return next((k for k in range(shortest) if any(q[k] != first[k] for q in questions[1:])), shortest)

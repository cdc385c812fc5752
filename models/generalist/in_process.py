"""A generalist in this process, by transformers: the bundled model, or any image-text-to-text checkpoint."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..._support.batching import Batcher
from ...case import Answer
from ...errors import GeneralistError, PromptTooLong
from .checkpoint import GeneralistCheckpoint, load_checkpoint
from .encoding import MessageEncoder
from .options import answer_from_scores
from .processing import ProcessorEncoder, generate_each, score_each
from .protocol import Choice
from .scoring import EncodedPrompt, OptionPrompt, embed, score_options
from .tool_calls import read_calls, specifications

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.tools import BaseTool

    from ...images import ImageStore
    from .discovery import Level


_CALLS_AT_ONCE = 8
"""More would keep the first of a batch waiting and gain little."""


class ToolRequest(NamedTuple):
    """A conversation that the model may answer by calling tools."""

    messages: Sequence[BaseMessage]
    tools: Sequence[Mapping[str, Any]]
    max_new_tokens: int


class InProcessGeneralist:
    """Implements ``Generalist`` with a transformers model.

    Models whose images are pixels alone and whose attention is plainly causal (InternVL, LLaVA) are packed:
    what prompts share is computed once. All others go through their own processor, one prompt at a time.
    Calls may come from any thread; one computes at a time.

    Args:
        checkpoint: the model.
        images: where image ids are looked up.
        batch_size: prompts per ``generate`` batch, and how many a caller should gather for ``choose``.

    Raises:
        GeneralistError: the checkpoint has no chat template, image token or end of turn.
    """

    def __init__(self, checkpoint: GeneralistCheckpoint, images: ImageStore, batch_size: int = 32) -> None:
        self.name = f"{checkpoint.name} (in process)"
        self.version = checkpoint.version
        self.converses = checkpoint.converses
        """Whether its own words answer a user; else they are written from the record."""
        self.batch_size = batch_size
        self._model: Any = checkpoint.model
        self._lock = threading.Lock()
        self._calls = Batcher(self._called, max_batch=_CALLS_AT_ONCE)
        self._encoder: MessageEncoder | ProcessorEncoder
        with torch.inference_mode():
            if MessageEncoder.fits(checkpoint.model, checkpoint.processor) and self._attention_packs():
                self._encoder = MessageEncoder(checkpoint.model, checkpoint.processor, images)
            else:
                self._encoder = ProcessorEncoder(checkpoint.model, checkpoint.processor, images)
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self.context_length: int = int(limit or 2**31)
        """Tokens of prompt and answer together."""

    @classmethod
    def load(
        cls,
        source: str | Path,
        images: ImageStore,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
    ) -> InProcessGeneralist:
        """Load a folder or a hub id; see ``checkpoint.load_checkpoint`` for the arguments and errors."""
        return cls(load_checkpoint(source, device, dtype), images, batch_size)

    def choose(self, requests: Sequence[Choice]) -> list[Answer | GeneralistError]:
        """Score every option as the whole answer; see ``Generalist.choose``."""
        results: dict[int, Answer | GeneralistError] = {}
        with self._computing():
            scored: dict[int, OptionPrompt] = {}
            for i, prompt in enumerate(self._encoder.prompts([request.messages for request in requests])):
                try:
                    scored[i] = self._scored(prompt, requests[i])
                except GeneralistError as error:
                    results[i] = error
            scores = self._scores(list(scored.values()))
        for i, values in zip(scored, scores, strict=True):
            try:
                results[i] = answer_from_scores(requests[i].options, values)
            except GeneralistError as error:
                results[i] = error
        return [results[i] for i in range(len(requests))]

    def generate(
        self, requests: Sequence[Sequence[BaseMessage]], *, max_new_tokens: int = 256
    ) -> list[str | GeneralistError]:
        """Answer greedily, in batches of similar length; see ``Generalist.generate``."""
        results: dict[int, str | GeneralistError] = {}
        with self._computing():
            ready: list[tuple[int, EncodedPrompt]] = []
            for i, prompt in enumerate(self._encoder.prompts(requests)):
                try:
                    ready.append((i, self._fitting(prompt, 1)))
                except GeneralistError as error:
                    results[i] = error
            ready.sort(key=lambda pair: len(pair[1].ids))
            for start in range(0, len(ready), self.batch_size):
                batch = ready[start : start + self.batch_size]
                texts = self._continue([prompt for _, prompt in batch], max_new_tokens)
                results.update({i: text for (i, _), text in zip(batch, texts, strict=True)})
        return [results[i] for i in range(len(requests))]

    def stream(
        self,
        messages: Sequence[BaseMessage],
        *,
        max_new_tokens: int = 256,
        tools: Sequence[BaseTool | Mapping[str, Any]] = (),
    ) -> Iterator[str]:
        """Yield one answer piece by piece; closing the iterator stops the model.

        With tools the pieces hold calls as the model writes them; see ``tool_calls.read_calls``.

        Raises:
            GeneralistError: an image is not available or the prompt does not fit.
        """
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        tokenizer, listed = self._encoder.tokenizer, specifications(tools)
        # Calls stand between control tokens; the other control tokens go.
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=not listed)
        endings = [tokenizer.decode([id]) for id in self._encoder.ends] if listed else []
        closed = threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                with self._computing():
                    prompt = self._fitting(self._encoder.prompts([messages], listed)[0], 1)
                    stop = StoppingCriteriaList([lambda ids, scores: _full(ids, closed.is_set())])
                    self._generated([prompt], max_new_tokens, streamer=streamer, stopping_criteria=stop)
            except BaseException as error:  # carried over to the reader's thread
                failures.append(error)
            finally:
                streamer.text_queue.put(streamer.stop_signal)

        worker = threading.Thread(target=work, name="generalist-stream", daemon=True)
        worker.start()
        try:
            yield from filter(None, (_without(piece, endings) for piece in streamer))
        finally:
            closed.set()
            worker.join()
        if failures:
            raise failures[0]

    def call_tools(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[BaseTool | Mapping[str, Any]],
        *,
        max_new_tokens: int = 256,
    ) -> AIMessage:
        """Let the model answer or call tools, which it writes in Hermes format.

        Raises:
            GeneralistError: the model's chat template shows no tools, an image is not available, or the
                prompt does not fit.
        """
        (called,) = self._called([ToolRequest(messages, specifications(tools), max_new_tokens)])
        if isinstance(called, Exception):
            raise called
        return called

    async def acall_tools(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[BaseTool | Mapping[str, Any]],
        *,
        max_new_tokens: int = 256,
    ) -> AIMessage:
        """The same; what is asked at the same time is computed together."""
        return await self._calls(ToolRequest(messages, specifications(tools), max_new_tokens))

    @property
    def tool_level(self) -> Level:
        """``native`` where the model's chat template shows tools, else ``none``."""
        return "native" if self._encoder.shows_tools else "none"

    def prompt_ids(self, messages: Sequence[BaseMessage]) -> tuple[int, ...]:
        """The prompt as the model reads it, image tokens included.

        Raises:
            GeneralistError: an image is not available.
        """
        with self._computing():
            return self._fitting(self._encoder.prompts([messages])[0], 0).ids

    def chat_model(self) -> BaseChatModel:
        """A LangChain chat model that answers through this object."""
        from .chat import InProcessChat

        return InProcessChat(generalist=self)

    def _called(self, requests: Sequence[ToolRequest]) -> list[AIMessage | Exception]:
        """Answer all; a request that cannot be answered gets its error."""
        results: dict[int, AIMessage | Exception] = {}
        alike: defaultdict[str, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            alike[json.dumps([request.tools, request.max_new_tokens])].append(place)
        with self._computing():
            for places in alike.values():
                first = requests[places[0]]
                prompts = self._encoder.prompts([requests[place].messages for place in places], first.tools)
                ready: dict[int, EncodedPrompt] = {}
                for place, prompt in zip(places, prompts, strict=True):
                    try:
                        ready[place] = self._fitting(prompt, 1)
                    except GeneralistError as error:
                        results[place] = error
                if ready:
                    ids = self._generated(list(ready.values()), first.max_new_tokens).tolist()
                    for place, row in zip(ready, ids, strict=True):
                        results[place] = read_calls(self._encoder.decode_turn(row))
        return [results[place] for place in range(len(requests))]

    def _scores(self, requests: Sequence[OptionPrompt]) -> list[list[float]]:
        if isinstance(self._encoder, MessageEncoder):
            return score_options(self._model, requests, self._encoder.placeholder)
        return score_each(self._model, requests)

    def _scored(self, prompt: EncodedPrompt | GeneralistError, request: Choice) -> OptionPrompt:
        options = self._encoder.options(request.options)
        return OptionPrompt(self._fitting(prompt, max(map(len, options))), options)

    def _fitting(self, prompt: EncodedPrompt | GeneralistError, room: int) -> EncodedPrompt:
        if isinstance(prompt, GeneralistError):
            raise prompt
        excess = len(prompt.ids) + room - self.context_length
        if excess > 0:
            raise PromptTooLong(
                f"the prompt is {excess} tokens too long: it has {len(prompt.ids)}, the answer needs {room}, "
                f"and the model reads {self.context_length}; give fewer images, similar cases or less context"
            )
        return prompt

    def _continue(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int) -> list[str]:
        return [self._encoder.decode(ids) for ids in self._generated(prompts, max_new_tokens).tolist()]

    def _generated(
        self, prompts: Sequence[EncodedPrompt], max_new_tokens: int, **extras: Any
    ) -> torch.Tensor:
        """Greedy continuations, ids (n, new), padded behind with the end of turn."""
        from transformers import GenerationConfig

        end = self._encoder.end_of_turn
        length = max(len(prompt.ids) for prompt in prompts)
        config = GenerationConfig(
            max_new_tokens=min(max_new_tokens, self.context_length - length),
            do_sample=False,
            num_beams=1,
            eos_token_id=self._encoder.ends,
            pad_token_id=end,
        )
        if not isinstance(self._encoder, MessageEncoder):
            return generate_each(self._model, prompts, config, **extras)
        ids = torch.full((len(prompts), length), end, device=self._model.device)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt.ids) :] = torch.tensor(prompt.ids, device=ids.device)
            mask[row, length - len(prompt.ids) :] = 1
        embeddings = embed(self._model, ids, prompts, self._encoder.placeholder)
        return self._model.generate(
            inputs_embeds=embeddings, attention_mask=mask, generation_config=config, **extras
        )

    def _attention_packs(self) -> bool:
        """Score a made-up prompt both ways: packed with its options, and option by option."""
        prompt, options = tuple(range(3, 8)), ((1, 2), (3, 4, 2))
        packed = score_options(self._model, [OptionPrompt(EncodedPrompt(prompt), options)], placeholder=-1)[0]
        for option, score in zip(options, packed, strict=True):
            ids = torch.tensor([prompt + option], device=self._model.device)
            logits = self._model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
            plain = logits.log_softmax(-1).gather(1, ids[0, len(prompt) :, None]).sum().item()
            tolerance = 1e-3 if self._model.dtype == torch.float32 else 0.5
            if not abs(plain - score) <= tolerance * max(1.0, abs(plain)):
                return False
        return True

    @contextmanager
    def _computing(self) -> Generator[None]:
        with self._lock, torch.inference_mode():
            try:
                yield
            except torch.OutOfMemoryError as error:
                raise GeneralistError("not enough memory on the device; ask fewer at once") from error


def _without(piece: str, endings: Sequence[str]) -> str:
    for ending in endings:
        piece = piece.replace(ending, "")
    return piece


def _full(ids: torch.Tensor, value: bool) -> torch.Tensor:
    return torch.full((ids.shape[0],), value, dtype=torch.bool, device=ids.device)

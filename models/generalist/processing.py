"""Any image-text-to-text model, by its own processor and forward pass: slower than packing, and never wrong.

Models differ in how an image becomes tokens (grids, tiles, crops) and in what they attend to. All of that
is left to transformers: the processor makes the inputs, the model takes them as they are, and an option is
scored by one pass over the prompt with the option behind it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...errors import GeneralistError, ImageError
from .chat_template import ChatTemplate
from .messages import image_ids
from .scoring import EncodedPrompt, OptionPrompt

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from transformers import GenerationConfig, PreTrainedModel, ProcessorMixin

    from ...images import ImageStore


class ProcessorEncoder(ChatTemplate):
    """Turns messages into prompts by the checkpoint's own processor.

    Args:
        model: an image-text-to-text model.
        processor: its processor.
        images: where image ids are looked up.

    Raises:
        GeneralistError: the checkpoint lacks a chat template or an image token.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, images: ImageStore) -> None:
        super().__init__(model, processor)
        self._images = images
        self._taken = set(inspect.signature(model.forward).parameters)

    def prompts(
        self, requests: Sequence[Sequence[BaseMessage]], tools: Sequence[Mapping[str, object]] = ()
    ) -> list[EncodedPrompt | GeneralistError]:
        """Encode prompts that end where the model's answer begins; a failure stands in its place."""
        made: list[EncodedPrompt | GeneralistError] = []
        for messages in requests:
            try:
                made.append(self._prompt(messages, tools))
            except GeneralistError as error:
                made.append(error)
        return made

    def _prompt(
        self, messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, object]]
    ) -> EncodedPrompt:
        ids = image_ids(messages)
        text = self.render(messages, tools=tools)
        try:
            pictures = [self._images.get(id).convert("RGB") for id in ids]
        except ImageError as error:
            raise GeneralistError(f"an image of the question is not available: {error}") from error
        # As transformers does: what the template already begins with is not added again.
        opening = self.tokenizer.bos_token
        more = {"add_special_tokens": False} if opening and text.startswith(opening) else {}
        try:
            made = self._processor(
                text=[text], images=[pictures] if pictures else None, return_tensors="pt", **more
            )
        except Exception as error:  # each processor raises what its author chose
            raise GeneralistError(
                f"the model's processor refuses this prompt with {len(ids)} images: {error}"
            ) from error
        inputs = {name: value for name, value in made.items() if name in self._taken}
        return EncodedPrompt(tuple(made["input_ids"][0].tolist()), None, ids, inputs)


def score_each(model: PreTrainedModel, requests: Sequence[OptionPrompt]) -> list[list[float]]:
    """Log-likelihood of every option of every request, one forward pass each; see ``scoring``."""
    return [[_score(model, request.prompt, option) for option in request.options] for request in requests]


def generate_each(
    model: Any, prompts: Sequence[EncodedPrompt], config: GenerationConfig, **extras: object
) -> torch.Tensor:
    """Continuations (n, new) of prompts, one after the other, padded behind with ``config.pad_token_id``."""
    rows = list(_continued(model, prompts, config, extras))
    whole = torch.full((len(rows), max(map(len, rows), default=0)), config.pad_token_id)
    for row, ids in zip(whole, rows, strict=True):
        row[: len(ids)] = ids
    return whole


def _continued(
    model: Any, prompts: Sequence[EncodedPrompt], config: GenerationConfig, extras: Mapping[str, object]
) -> Iterator[torch.Tensor]:
    for prompt in prompts:
        inputs = _on(model, prompt.inputs or {})
        ids = model.generate(**inputs, generation_config=config, **extras)
        yield ids[0, len(prompt.ids) :].cpu()


def _score(model: PreTrainedModel, prompt: EncodedPrompt, option: tuple[int, ...]) -> float:
    inputs = _on(model, _with_answer(prompt, option[:-1]))
    limit = {"logits_to_keep": len(option)} if _keeps(model) else {}
    logits = model(**inputs, use_cache=False, **limit).logits[0, -len(option) :].float()
    targets = torch.tensor(option, device=logits.device)[:, None]
    return logits.log_softmax(-1).gather(1, targets).double().sum().item()


def _with_answer(prompt: EncodedPrompt, answer: Sequence[int]) -> dict[str, torch.Tensor]:
    """Inputs with an answer behind the prompt: its tokens are seen, and are text."""
    inputs = dict(prompt.inputs or {})
    shape = inputs["input_ids"].shape
    for name, value in inputs.items():
        if value.shape == shape and not torch.is_floating_point(value):
            new = {"input_ids": list(answer), "attention_mask": [1] * len(answer)}.get(
                name, [0] * len(answer)
            )
            inputs[name] = torch.cat([value, torch.tensor([new], dtype=value.dtype)], dim=1)
    return inputs


def _on(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inputs on the model's device, pixels in its precision."""
    return {
        name: value.to(model.device, model.dtype)
        if torch.is_floating_point(value)
        else value.to(model.device)
        for name, value in inputs.items()
    }


def _keeps(model: PreTrainedModel) -> bool:
    return "logits_to_keep" in inspect.signature(model.forward).parameters

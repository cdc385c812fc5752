"""From LangChain messages to what a transformers model reads: token ids and image features."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...errors import GeneralistError, ImageError
from .messages import check_length, image_ids, neutralise_tokens, parts
from .prompts import label_text
from .scoring import Prompt

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from PIL.Image import Image
    from transformers import PreTrainedModel, ProcessorMixin

    from ...images import ImageStore

NO_TOOLS = (
    "the model's chat template shows no tools, so it cannot call any; the fixed diagnosis graph needs no "
    "calls, and a server (GSCO_GENERALIST_URL) can hold a model to their form"
)
_ROLES = {"system": "system", "human": "user", "ai": "assistant", "tool": "tool"}
_FEATURE_BYTES = 128 * 2**20
_IMAGES_AT_ONCE = 32


class Encoder:
    """Turns messages into prompts for one model.

    Text is tokenised with one placeholder per image, and the placeholder is then widened to as many as
    the image has features; so the processor's own text expansion is not needed. Control tokens of this
    tokenizer in the messages' text are broken up first, whoever wrote them.

    Args:
        model: an image-text-to-text model.
        processor: its processor, with ``image_processor``, ``tokenizer`` and a chat template.
        images: where image ids are looked up.

    Raises:
        GeneralistError: the checkpoint lacks a chat template or an image placeholder token.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, images: ImageStore) -> None:
        self._processor: Any = processor
        self.tokenizer: Any = self._processor.tokenizer
        self._images = images
        self._features = _Features(model, Pixels(self._processor.image_processor))
        placeholder = getattr(model.config, "image_token_id", None)
        if placeholder is None or not self._processor.chat_template:
            raise GeneralistError("the checkpoint has no chat template or no image token; use it by a server")
        self.placeholder = int(placeholder)
        self._placeholder_text = str(self.tokenizer.convert_ids_to_tokens(self.placeholder))
        self._before, self._after = (
            [token] if (token := getattr(self._processor, name, None)) is not None else []
            for name in ("start_image_token_id", "end_image_token_id")
        )
        added = self.tokenizer.added_tokens_decoder.values()
        self._special = (
            *self.tokenizer.all_special_tokens,
            *(str(token) for token in added if token.special),
        )
        self._control = tuple({*self._special, *filter(_is_control, self.tokenizer.get_added_vocab())})
        self._option_ids: dict[str, tuple[int, ...]] = {}
        self.end_of_turn = self._end_of_turn()
        self._answer_opening = self._opening()

    @property
    def shows_tools(self) -> bool:
        """Whether the chat template has a place for tools."""
        return "tools" in str(self._processor.chat_template)

    def prompts(
        self, requests: Sequence[Sequence[BaseMessage]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[Prompt | GeneralistError]:
        """Encode prompts that end where the model's answer begins; a failure stands in its place."""
        wanted: list[tuple[tuple[str, ...], str] | GeneralistError] = []
        for messages in requests:
            try:
                wanted.append((image_ids(messages), self.render(messages, tools=tools)))
            except GeneralistError as error:
                wanted.append(error)
        known = [request for request in wanted if not isinstance(request, GeneralistError)]
        features = self._features.of((id for ids, _ in known for id in ids), self._images)
        tokens = iter(self._tokenise([text for _, text in known]))
        return [
            request
            if isinstance(request, GeneralistError)
            else self._prompt(request[0], next(tokens), features)
            for request in wanted
        ]

    def options(self, options: Iterable[str]) -> tuple[tuple[int, ...], ...]:
        """Token ids of each option as a whole answer, end of turn included.

        Raises:
            GeneralistError: the tokenizer cannot tell two options apart.
        """
        ids = tuple(self._option(label_text(option)) for option in options)
        if len(set(ids)) != len(ids) or not ids:
            raise GeneralistError("there are no options, or the tokenizer cannot tell two of them apart")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, without control tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def decode_turn(self, ids: Sequence[int]) -> str:
        """Text of generated ids up to the end of the turn; tool calls keep their control tokens."""
        own = [id for id in ids[: _index(ids, self.end_of_turn)] if id != self.tokenizer.pad_token_id]
        return self.tokenizer.decode(own, skip_special_tokens=False).strip()

    def render(
        self,
        messages: Sequence[BaseMessage],
        *,
        answer_follows: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """The messages in the model's own chat template, one placeholder per image.

        Raises:
            GeneralistError: a message or the tool list cannot be put into this model's template.
        """
        check_length(messages)
        conversation = [self._turn(message) for message in messages]
        listed: dict[str, Any] = {"tools": [dict(tool) for tool in tools]} if tools else {}
        if tools and not self.shows_tools:
            raise GeneralistError(NO_TOOLS)
        try:
            text = self._processor.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=answer_follows, **listed
            )
        except Exception as error:  # jinja raises what the template's author chose
            raise GeneralistError(f"the model's chat template refuses these messages: {error}") from error
        count = len(image_ids(messages))
        if text.count(self._placeholder_text) != count:
            raise GeneralistError(f"the model's chat template does not place {count} images; check it")
        return text

    def _turn(self, message: BaseMessage) -> dict[str, Any]:
        if message.type not in _ROLES:
            raise GeneralistError(f"a message of type {message.type!r} cannot be sent to a generalist")
        images, text = parts(message)
        text = neutralise_tokens(text, self._special if message.type == "ai" else self._control)
        blocks = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        turn: dict[str, Any] = {"role": _ROLES[message.type], "content": blocks if images else text}
        if calls := getattr(message, "tool_calls", ()):
            turn["tool_calls"] = [
                {"type": "function", "function": {"name": call["name"], "arguments": call["args"]}}
                for call in calls
            ]
        return turn

    def _prompt(
        self, ids: tuple[str, ...], tokens: list[int], features: dict[str, torch.Tensor | GeneralistError]
    ) -> Prompt | GeneralistError:
        found: list[torch.Tensor] = []
        for id in ids:
            feature = features[id]
            if isinstance(feature, GeneralistError):
                return feature
            found.append(feature)
        waiting = iter(found)
        widened: list[int] = []
        for token in tokens:
            if token == self.placeholder:
                widened += [*self._before, *[token] * len(next(waiting)), *self._after]
            else:
                widened.append(token)
        return Prompt(tuple(widened), torch.cat(found) if found else None, ids)

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []

    def _option(self, option: str) -> tuple[int, ...]:
        if option not in self._option_ids:
            opening = self._answer_opening
            text = neutralise_tokens(option, self._control)
            # Tokenised behind the turn's opening, since some tokenizers treat a text's start specially.
            alone, whole = self._tokenise([opening, opening + text])
            ids = whole[len(alone) :] if whole[: len(alone)] == alone else self._tokenise([text])[0]
            self._option_ids[option] = (*ids, self.end_of_turn)
        return self._option_ids[option]

    def _opening(self) -> str:
        from langchain_core.messages import HumanMessage

        question = [HumanMessage("Question")]
        return self.render(question).removeprefix(self.render(question, answer_follows=False))

    def _end_of_turn(self) -> int:
        """The token that the template puts behind an answer."""
        from langchain_core.messages import AIMessage, HumanMessage

        text = self.render([HumanMessage("Question"), AIMessage("Answer")], answer_follows=False)
        ids = self._tokenise([text.rpartition("Answer")[2]])[0]
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        end = next((id for id in ids if id in special), self.tokenizer.eos_token_id)
        if end is None:
            raise GeneralistError("neither the chat template nor the tokenizer has an end-of-turn token")
        return int(end)


class Pixels:
    """An image processor's work for one image, with a short way for the fixed-size stretch.

    Most InternVL checkpoints resize to one square and normalise. The general processor spends longer on
    its arguments than on the image, so that case is done here, with the same library calls.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._short = (
            type(processor).__name__.startswith("GotOcr2ImageProcessor")
            and not processor.crop_to_patches
            and all(
                (processor.do_resize, processor.do_rescale, processor.do_normalize, processor.do_convert_rgb)
            )
            and bool(processor.size.height and processor.size.width)
        )
        if self._short:
            self._scale = 1.0 / (torch.tensor(processor.image_std) / processor.rescale_factor)[:, None, None]
            self._shift = (torch.tensor(processor.image_mean) / processor.rescale_factor)[:, None, None]
            self._size = [processor.size.height, processor.size.width]

    def __call__(self, image: Image) -> torch.Tensor:
        """Pixel values, float32 (tiles, 3, height, width).

        Raises:
            GeneralistError: the processor makes inputs that this runtime does not know.
        """
        if not self._short:
            return self.general(image)
        from torchvision.transforms.v2 import functional

        pixels = functional.pil_to_tensor(image if image.mode == "L" else image.convert("RGB"))
        mode = functional.InterpolationMode.BICUBIC
        if self._processor.resample != 3:
            from transformers.image_utils import pil_torch_interpolation_mapping

            mode = pil_torch_interpolation_mapping[self._processor.resample]
        resized = functional.resize(pixels, self._size, interpolation=mode, antialias=True)
        return ((resized.float() - self._shift) * self._scale)[None]

    def general(self, image: Image) -> torch.Tensor:
        """The same by the processor itself."""
        made = self._processor(images=[image.convert("RGB")], return_tensors="pt")
        unknown = set(made) - {"pixel_values", "num_patches"}
        if unknown:
            raise GeneralistError(
                f"the image processor makes {sorted(unknown)}, which the in-process runtime does not know;"
                " serve the model and use its URL"
            )
        return made["pixel_values"]


class _Features:
    """Image features by image id, kept while they fit, since several prompts ask about one image."""

    def __init__(self, model: PreTrainedModel, pixels: Pixels) -> None:
        self._model: Any = model
        self._pixels = pixels
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._bytes = 0

    def of(self, ids: Iterable[str], images: ImageStore) -> dict[str, torch.Tensor | GeneralistError]:
        """Features (n, d) of each distinct image; an image that cannot be had yields its error."""
        found: dict[str, torch.Tensor | GeneralistError] = {}
        new: dict[str, torch.Tensor] = {}
        for id in dict.fromkeys(ids):
            if id in self._kept:
                self._kept.move_to_end(id)
                found[id] = self._kept[id]
                continue
            try:
                new[id] = self._pixels(images.get(id))
            except ImageError as error:
                found[id] = GeneralistError(f"image {id} cannot be had: {error}")
        names = list(new)
        for start in range(0, len(names), _IMAGES_AT_ONCE):
            batch = names[start : start + _IMAGES_AT_ONCE]
            found.update(zip(batch, self._compute([new[id] for id in batch]), strict=True))
        for id in names:
            self._keep(id, found[id])
        return found

    def _compute(self, pixels: list[torch.Tensor]) -> Iterable[torch.Tensor]:
        values = torch.cat(pixels).to(self._model.device, self._model.dtype)
        features = self._model.get_image_features(pixel_values=values)
        features = getattr(features, "pooler_output", features)
        tiles = features if isinstance(features, torch.Tensor) else torch.stack(list(features))
        for part in tiles.split([len(image) for image in pixels]):
            yield part.reshape(-1, part.shape[-1]).clone()

    def _keep(self, id: str, feature: torch.Tensor | GeneralistError) -> None:
        if isinstance(feature, GeneralistError):
            return
        self._kept[id] = feature
        self._bytes += feature.nbytes
        while self._bytes > _FEATURE_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


def _index(ids: Sequence[int], end: int) -> int:
    return next((place for place, id in enumerate(ids) if id == end), len(ids))


def _is_control(token: str) -> bool:
    return len(token) > 2 and token[0] + token[-1] in ("<>", "[]")

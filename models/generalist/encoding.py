"""From LangChain messages to what a transformers model reads: token ids and image features."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...errors import GeneralistError, ImageError
from .chat_template import ChatTemplate
from .messages import image_ids
from .scoring import EncodedPrompt

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from PIL.Image import Image
    from transformers import PreTrainedModel, ProcessorMixin

    from ...images import ImageStore

_FEATURE_BYTES = 128 * 2**20
_IMAGES_AT_ONCE = 32
_PIXELS_ALONE = ("internvl", "llava")
"""Model types whose images become embeddings from their pixels alone, one placeholder each."""


class MessageEncoder(ChatTemplate):
    """Turns messages into prompts whose images are features, computed once per image.

    Text is tokenised with one placeholder per image, and the placeholder is then widened to as many as
    the image has features; so the processor's own text expansion is not needed.

    Args:
        model: an image-text-to-text model that ``fits``.
        processor: its processor, with ``image_processor``, ``tokenizer`` and a chat template.
        images: where image ids are looked up.

    Raises:
        GeneralistError: the checkpoint lacks a chat template or an image placeholder token.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, images: ImageStore) -> None:
        super().__init__(model, processor)
        self._images = images
        self._features = _Features(model, PixelProcessor(self._processor.image_processor))
        self.placeholder = int(self.tokenizer.convert_tokens_to_ids(self._placeholder_text))
        self._before, self._after = (
            [token] if (token := getattr(self._processor, name, None)) is not None else []
            for name in ("start_image_token_id", "end_image_token_id")
        )

    @staticmethod
    def fits(model: PreTrainedModel, processor: Any) -> bool:
        """Whether images of this model are pixels alone, and its tokenizer adds nothing to a text."""
        made = set(getattr(processor.image_processor, "model_input_names", ("unknown",)))
        tokenizer = processor.tokenizer
        return (
            model.config.model_type in _PIXELS_ALONE
            and made <= {"pixel_values", "num_patches"}
            and tokenizer("x")["input_ids"] == tokenizer("x", add_special_tokens=False)["input_ids"]
        )

    def prompts(
        self, requests: Sequence[Sequence[BaseMessage]], tools: Sequence[Mapping[str, object]] = ()
    ) -> list[EncodedPrompt | GeneralistError]:
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

    def _prompt(
        self, ids: tuple[str, ...], tokens: list[int], features: dict[str, torch.Tensor | GeneralistError]
    ) -> EncodedPrompt | GeneralistError:
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
        return EncodedPrompt(tuple(widened), torch.cat(found) if found else None, ids)


class PixelProcessor:
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

    def __init__(self, model: PreTrainedModel, pixels: PixelProcessor) -> None:
        self._model: Any = model
        self._pixels = pixels
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._bytes = 0

    def of(self, ids: Iterable[str], images: ImageStore) -> dict[str, torch.Tensor | GeneralistError]:
        """Features (n, d) of each distinct image; an image that is not available yields its error."""
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
                found[id] = GeneralistError(f"image {id} is not available: {error}")
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

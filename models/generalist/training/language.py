"""The later stages: the decoder learns to read prompts on cached features, then all learn together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from .architecture import set_attention
from .batches import NOT_SCORED, Batches, ConversationWriter, PromptBatch
from .config import GeneralistTraining, Stage
from .features import Features, batch_images, shuffled_features
from .mixture import Mixture
from .pixels import Images
from .trainer import Optimisation, dtype_of, freeze

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import InternVLForConditionalGeneration

LANGUAGE = "language.pt"
JOINT = "joint.pt"
Evaluate = Callable[[], str]


def train_language(
    config: GeneralistTraining,
    model: InternVLForConditionalGeneration,
    mixture: Mixture,
    writer: ConversationWriter,
    sources: Sequence[Images],
    evaluate: Evaluate,
) -> None:
    """Train projector and decoder; the tower is frozen and its features are cached.

    Args:
        config: the whole configuration.
        model: with the first stage's tower; its weights are changed.
        mixture: of training prompts.
        writer: of token ids.
        sources: training images.
        evaluate: returns a line about validation prompts.

    Raises:
        ConfigurationError: the checkpoint is another configuration's.
    """
    freeze([model.model.vision_tower])
    stage = _optimisation(config, model, config.language, LANGUAGE)
    if stage.finished:
        return
    side, variants = config.architecture.image_size, config.language.variants
    kept = None if config.precision == "fp32" else torch.bfloat16
    features = Features(model.eval(), sources, side, variants, config.seed, kept)
    batches = Batches(mixture, writer, _rows(config, config.language), config.seed)
    drawn = batches.from_step(stage.step, config.workers)

    def losses_of(step: int) -> Iterator[Tensor]:
        batch = next(drawn)
        chosen = np.random.default_rng([config.seed, 4, step]).integers(variants, size=len(batch.views))
        views = [features.of(view, int(variant)) for view, variant in zip(batch.views, chosen, strict=True)]
        seen = torch.stack(views)
        return _losses(config, model, batch, lambda rows: seen[rows])

    stage.run(losses_of, "language", evaluate=evaluate, evaluate_every=config.evaluate_every)


def train_jointly(
    config: GeneralistTraining,
    model: InternVLForConditionalGeneration,
    mixture: Mixture,
    writer: ConversationWriter,
    sources: Sequence[Images],
    evaluate: Evaluate,
) -> None:
    """Train everything together, briefly, on freshly augmented images. Arguments as ``train_language``."""
    if config.joint is None:
        return
    freeze([model.model.vision_tower], frozen=False)
    stage = _optimisation(config, model, config.joint, JOINT)
    # Scenes go on behind those of the stage before.
    batches = Batches(
        mixture, writer, _rows(config, config.joint), config.seed, first=config.language.prompts
    )
    drawn = batches.from_step(stage.step, config.workers)

    def losses_of(step: int) -> Iterator[Tensor]:
        batch = next(drawn)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        images = batch_images(sources, batch.views, config.architecture.image_size, generator, config.place)
        return _losses(config, model, batch, lambda rows: shuffled_features(model, images[rows]))

    stage.run(losses_of, "joint", evaluate=evaluate, evaluate_every=config.evaluate_every)


def answer_loss(
    model: InternVLForConditionalGeneration, batch: PromptBatch, features: Tensor, power: float = 1.0
) -> Tensor:
    """Cross-entropy of the answers' tokens.

    Args:
        model: the whole model.
        batch: of prompts.
        features: of each row's image, behind the pixel shuffle, (rows, tokens, 4 · vision width).
        power: an answer counts for its length to this power.
    """
    inner = model.model
    device = model.device
    # What depends on the tokens' values is found on the CPU, so that a GPU is never waited for.
    scored = (batch.targets != NOT_SCORED).flatten().nonzero()[:, 0]
    targets = batch.targets.flatten()[scored].to(device)
    weights = batch.weights(power).to(device)
    ids = batch.ids.to(device)
    # A copy: cached features were made in inference mode, and may be of another type.
    seen = inner.multi_modal_projector(features.to(model.dtype, copy=True))
    words = inner.language_model.embed_tokens(ids)
    places = (ids == model.config.image_token_id)[:, :, None]
    inputs = words.masked_scatter(places, seen.to(words.dtype))
    hidden = inner.language_model(
        inputs_embeds=inputs,
        attention_mask=batch.mask(inputs.dtype, device),
        position_ids=batch.positions.to(device),
        use_cache=False,
    ).last_hidden_state
    logits = model.lm_head(hidden.flatten(0, 1)[scored.to(device)]).float()
    losses = functional.cross_entropy(logits, targets, reduction="none")
    return (losses * weights).sum() / weights.sum()


def _losses(
    config: GeneralistTraining,
    model: InternVLForConditionalGeneration,
    batch: PromptBatch,
    seen: Callable[[slice], Tensor],
) -> Iterator[Tensor]:
    """The batch's loss in parts that add up to it, so many tokens at once as the memory is to hold."""
    power = config.language.length_power
    total = batch.weights(power).sum()
    for rows, part in batch.parts(config.tokens_at_once):
        yield answer_loss(model, part, seen(rows), power) * float(part.weights(power).sum() / total)


def _rows(config: GeneralistTraining, settings: Stage) -> int:
    return max(1, settings.batch // config.language.branches)


def _optimisation(
    config: GeneralistTraining, model: InternVLForConditionalGeneration, settings: Stage, name: str
) -> Optimisation:
    dtype = dtype_of(config.precision, config.place)
    set_attention(model, dtype)
    return Optimisation(
        model,
        settings,
        max(1, settings.prompts // (_rows(config, settings) * config.language.branches)),
        dtype=dtype,
        checkpoint=config.work / name,
        fingerprint=config.fingerprint("language" if name == LANGUAGE else "joint"),
        every=config.checkpoint_every,
        seed=config.seed + (1 if name == LANGUAGE else 2),
    )

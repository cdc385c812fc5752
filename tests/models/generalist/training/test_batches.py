from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from gsco.models.generalist.training.architecture import build_model
from gsco.models.generalist.training.batches import NOT_SCORED, Batches, ConversationWriter
from gsco.models.generalist.training.config import Architecture, GeneralistTraining, Source
from gsco.models.generalist.training.language import _losses, answer_loss
from gsco.models.generalist.training.mixture import training_texts
from gsco.models.generalist.training.tokenizer import train_tokenizer

from .test_mixture import mixture
from .toys import SIZES

MIXTURE = mixture()


@pytest.fixture(scope="module")
def writer() -> ConversationWriter:
    return ConversationWriter(train_tokenizer(training_texts(MIXTURE, 30), 500), 4)


def test_prompts_behind_a_common_beginning_learn_as_they_would_alone(writer: ConversationWriter) -> None:
    sizes = Architecture(**SIZES)
    model = build_model(sizes, writer._tokenizer, 3).eval()
    scene = next(s for s in map(MIXTURE.prompts, range(50)) if s[0].family == "plain")
    written = writer.written(scene)
    features = torch.randn(1, 4, 64)
    together = writer.batch([writer.line(written)], [scene[0].view])
    assert together.ids.numel() < 0.7 * sum(len(one.ids) for one in written)
    losses, tokens = [], []
    for one in written:
        alone = writer.batch([writer.line([one])], [scene[0].view])
        losses.append(answer_loss(model, alone, features))
        tokens.append(sum(one.learnt))
    expected = sum(loss * count for loss, count in zip(losses, tokens, strict=True)) / sum(tokens)
    torch.testing.assert_close(answer_loss(model, together, features), expected)


def test_long_answers_can_be_kept_from_outweighing_short_ones(writer: ConversationWriter) -> None:
    sizes = Architecture(**SIZES)
    model = build_model(sizes, writer._tokenizer, 3).eval()
    scene = next(s for s in map(MIXTURE.prompts, range(50)) if len({len(p.answer) for p in s}) > 1)
    written = writer.written(scene)
    features = torch.randn(1, 4, 64)
    together = writer.batch([writer.line(written)], [scene[0].view])
    lengths = [sum(one.learnt) for one in written]
    assert together.answer_lengths().tolist() == [length for length in lengths for _ in range(length)]
    losses = torch.stack(
        [answer_loss(model, writer.batch([writer.line([one])], [scene[0].view]), features) for one in written]
    )
    torch.testing.assert_close(answer_loss(model, together, features, 0.0), losses.mean())
    shares = torch.tensor(lengths, dtype=torch.float) ** 0.5
    expected = (losses * shares).sum() / shares.sum()
    torch.testing.assert_close(answer_loss(model, together, features, 0.5), expected)


@pytest.mark.parametrize("tokens", [1, 700])
def test_parts_of_a_batch_add_up_to_it(writer: ConversationWriter, tokens: int) -> None:
    model = build_model(Architecture(**SIZES), writer._tokenizer, 3).eval()
    batch = next(Batches(MIXTURE, writer, 6, seed=0).from_step(0))
    assert batch.ids.numel() > 700
    features = torch.randn(len(batch.views), 4, 64)
    source = Source(folder=Path("x"), task="x")
    config = GeneralistTraining(out=Path("x"), work=Path("x"), sources=(source,), at_once=tokens)
    parts = list(batch.parts(tokens))
    assert 1 < len(parts) <= len(batch.views)
    assert sum(len(part.views) for _, part in parts) == len(batch.views)
    gradients = []
    for losses in (
        [answer_loss(model, batch, features, config.language.length_power)],
        _losses(config, model, batch, lambda rows: features[rows]),
    ):
        model.zero_grad()
        for loss in losses:
            loss.backward()
        gradients.append([w.grad.clone() for w in model.parameters() if w.grad is not None])
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(summed, whole, atol=1e-6, rtol=1e-4)


def test_only_answers_are_learnt(writer: ConversationWriter) -> None:
    for batch in islice(Batches(MIXTURE, writer, 2, seed=0).from_step(0), 8):
        wanted = writer._tokenizer.decode(batch.targets[batch.targets != NOT_SCORED])
        assert wanted.endswith("<|im_end|>")
        assert "assistant" not in wanted and "<tools>" not in wanted
        assert (batch.branches[batch.targets != NOT_SCORED] > 0).all()


@pytest.mark.parametrize(("start", "workers"), [(11, 0), (0, 2), (5, 2)])
def test_batches_are_the_same_however_they_are_reached(
    writer: ConversationWriter, start: int, workers: int
) -> None:
    straight = list(islice(Batches(MIXTURE, writer, 2, seed=0).from_step(0), 20))
    reached = list(islice(Batches(MIXTURE, writer, 2, seed=0).from_step(start, workers), 20 - start))
    assert len(reached) == 20 - start
    for one, other in zip(straight[start:], reached, strict=True):
        assert torch.equal(one.ids, other.ids) and torch.equal(one.targets, other.targets)
        assert one.views == other.views


def test_rows_of_a_batch_are_of_similar_length(writer: ConversationWriter) -> None:
    batches = islice(Batches(MIXTURE, writer, 4, seed=0).from_step(0), 8)
    padding = [float((batch.branches == -1).float().mean()) for batch in batches]
    assert np.mean(padding) < 0.25

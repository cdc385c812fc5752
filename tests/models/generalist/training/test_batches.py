import numpy as np
import pytest
import torch
from gsco.models.generalist.training.architecture import build_model
from gsco.models.generalist.training.batches import NOT_SCORED, Batches, Writer
from gsco.models.generalist.training.config import Architecture
from gsco.models.generalist.training.language import answer_loss
from gsco.models.generalist.training.mixture import training_texts
from gsco.models.generalist.training.tokenizer import train_tokenizer

from .test_mixture import mixture
from .toys import SIZES

MIXTURE = mixture()


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Writer(train_tokenizer(training_texts(MIXTURE, 30), 500), 4)


def test_prompts_behind_a_common_beginning_learn_as_they_would_alone(writer: Writer) -> None:
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


def test_long_answers_can_be_kept_from_outweighing_short_ones(writer: Writer) -> None:
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


def test_only_answers_are_learnt(writer: Writer) -> None:
    for step in range(8):
        batch = Batches(MIXTURE, writer, 2, seed=0).draw(step)
        wanted = writer._tokenizer.decode(batch.targets[batch.targets != NOT_SCORED])
        assert wanted.endswith("<|im_end|>")
        assert "assistant" not in wanted and "<tools>" not in wanted
        assert (batch.branches[batch.targets != NOT_SCORED] > 0).all()


def test_a_batch_is_the_same_however_it_is_reached(writer: Writer) -> None:
    straight, late = Batches(MIXTURE, writer, 2, seed=0), Batches(MIXTURE, writer, 2, seed=0)
    drawn = [straight.draw(step) for step in range(12)]
    assert torch.equal(late.draw(11).ids, drawn[11].ids)
    assert late.draw(11).views == drawn[11].views


def test_rows_of_a_batch_are_of_similar_length(writer: Writer) -> None:
    batches = Batches(MIXTURE, writer, 4, seed=0)
    padding = [float((batches.draw(step).branches == -1).float().mean()) for step in range(8)]
    assert np.mean(padding) < 0.25

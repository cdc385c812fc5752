from pathlib import Path

import pytest
import torch
from gsco.errors import ConfigurationError
from gsco.models.generalist.training.architecture import build_model, save_generalist
from gsco.models.generalist.training.config import Architecture
from gsco.models.generalist.training.initialisation import start_from
from gsco.models.generalist.training.tokenizer import IMAGE, train_tokenizer

from .toys import SIZES

ARCHITECTURE = Architecture(**SIZES)
TEXT = ["The diagnosis is bright.", "The diagnosis is dark."] * 20


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier") / "model"
    tokenizer = train_tokenizer(TEXT, 400)
    save_generalist(
        build_model(ARCHITECTURE, tokenizer, 1), tokenizer, ARCHITECTURE, folder, {"name": "earlier"}
    )
    return folder


def test_decoder_and_shared_tokens_are_taken_over_and_the_tower_is_not(earlier: Path) -> None:
    old_tokens = train_tokenizer(TEXT, 400)
    old = build_model(ARCHITECTURE, old_tokens, 1)
    tokens = train_tokenizer([*TEXT, *["The specialists do not agree."] * 40], 420)
    model = build_model(ARCHITECTURE, tokens, 2)
    tower = [weight.clone() for weight in model.model.vision_tower.parameters()]
    assert start_from(model, tokens, earlier)
    for name, weight in model.model.language_model.layers.named_parameters():
        taken = dict(old.model.language_model.layers.named_parameters())[name]
        assert torch.allclose(weight, taken, atol=0.01)  # stored as bfloat16
    rows, before = (
        model.model.language_model.embed_tokens.weight,
        old.model.language_model.embed_tokens.weight,
    )
    for token in (IMAGE, "is", "diagnosis"):
        new, known = tokens.get_vocab().get(token), old_tokens.get_vocab().get(token)
        if new is not None and known is not None:
            assert torch.allclose(rows[new], before[known], atol=0.01)
    fresh = next(token for token in tokens.get_vocab() if token not in old_tokens.get_vocab())
    parts = [part.id for part in old_tokens.backend_tokenizer.model.tokenize(fresh)]
    assert torch.allclose(rows[tokens.get_vocab()[fresh]], before[parts].mean(0), atol=0.01)
    assert all(torch.equal(*pair) for pair in zip(tower, model.model.vision_tower.parameters(), strict=True))


def test_another_architecture_is_refused(earlier: Path) -> None:
    tokens = train_tokenizer(TEXT, 400)
    other = build_model(ARCHITECTURE.model_copy(update={"mlp_width": 48}), tokens, 0)
    with pytest.raises(ConfigurationError, match="another architecture"):
        start_from(other, tokens, earlier)
    with pytest.raises(ConfigurationError, match="cannot start"):
        start_from(other, tokens, earlier.parent / "none")

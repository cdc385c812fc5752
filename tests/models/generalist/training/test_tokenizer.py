import pytest
from gsco.models.generalist.training.tokenizer import CONTROL_TOKENS, train_tokenizer
from transformers import PreTrainedTokenizerFast

CORPUS = ["The diagnoses of the specialist models are pneumonia 93% 88%, normal 7/10 81%."] * 20


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(CORPUS, 400)


@pytest.mark.parametrize("text", [" pneumonia 93% 88%", "Größe ≥ 5 µm\n\t – 肺炎 🫁", "a  b   c ", ""])
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_a_control_token_is_one_id(tokenizer: PreTrainedTokenizerFast, token: str) -> None:
    ids = tokenizer(f"x{token}y", add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.convert_tokens_to_ids(token)) == 1
    assert len(ids) == 3


def test_digits_stand_alone_and_frequent_words_are_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer.tokenize(" pneumonia 107%")
    assert [token for token in tokens if any(c.isdigit() for c in token)] == ["1", "0", "7"]
    assert tokens[0] == "Ġpneumonia"


def test_equal_text_gives_an_equal_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    assert train_tokenizer(CORPUS, 400).get_vocab() == tokenizer.get_vocab()


def test_nothing_is_put_before_a_text(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]

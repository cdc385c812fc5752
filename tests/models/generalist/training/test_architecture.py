import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gsco.models.generalist.training.architecture import build_model, save_generalist
from gsco.models.generalist.training.batches import ConversationWriter
from gsco.models.generalist.training.config import Architecture
from gsco.models.generalist.training.example import ImageView, TrainingPrompt
from gsco.models.generalist.training.pixels import normalise
from gsco.models.generalist.training.tokenizer import train_tokenizer
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from .toys import SIZES

TEXT = " Is it bright or dark? "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "mini"
    tokenizer, sizes = train_tokenizer([TEXT] * 5, 400), Architecture(**SIZES)
    save_generalist(build_model(sizes, tokenizer), tokenizer, sizes, folder, {"name": "toy"})
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    return AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32
    ), AutoProcessor.from_pretrained(folder)


def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, size=(30, 45, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def question(processor: Any) -> dict[str, torch.Tensor]:
    content = [{"type": "image", "image": picture()}, {"type": "text", "text": TEXT}]
    conversation = [
        {"role": "system", "content": "Answer the questions."},
        {"role": "user", "content": content},
    ]
    return processor.apply_chat_template(
        conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


def test_the_default_sizes_stay_below_twelve_megabytes() -> None:
    sizes, tokenizer = Architecture(), train_tokenizer([], 320)
    model = build_model(sizes, tokenizer)
    missing = (sizes.vocabulary - len(tokenizer)) * sizes.width
    assert 5e6 < sum(weight.numel() for weight in model.parameters()) + missing < 6e6


def test_the_folder_holds_all_that_a_server_needs(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names >= {"processor_config.json", "chat_template.jinja", "generation_config.json", "card.json"}
    assert not any(path.suffix in (".py", ".bin", ".pt") for path in folder.iterdir())
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["InternVLForConditionalGeneration"]
    assert config["dtype"] == "bfloat16"


def test_one_image_takes_its_tokens_and_no_more(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    inputs = question(processor)
    assert inputs["pixel_values"].shape == (1, 3, 16, 16)
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 4


def test_training_reads_prompts_as_the_processor_writes_them(loaded: tuple[Any, Any]) -> None:
    _, processor = loaded
    writer = ConversationWriter(processor.tokenizer, 4)
    prompt = TrainingPrompt(TEXT, "dark", ("dark", "bright"), ImageView(0, 0), "plain")
    assert writer.questions([prompt])[0] == question(processor)["input_ids"][0].tolist()


def test_training_sees_pixels_as_the_processor_makes_them(loaded: tuple[Any, Any]) -> None:
    _, processor = loaded
    square = picture().resize((16, 16))
    expected = processor.image_processor(images=[square], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(
        normalise(torch.from_numpy(np.array(square))[None]), expected, atol=1e-4, rtol=0
    )


def test_what_was_saved_is_what_is_loaded(folder: Path, loaded: tuple[Any, Any]) -> None:
    tokenizer, sizes = loaded[1].tokenizer, Architecture(**SIZES)
    fresh = build_model(sizes, train_tokenizer([TEXT] * 5, 400))
    state = loaded[0].state_dict()
    for name, weight in fresh.state_dict().items():
        torch.testing.assert_close(state[name], weight.bfloat16().float(), atol=0, rtol=0)
    assert len(tokenizer) == fresh.config.text_config.vocab_size


def test_greedy_answers_end(loaded: tuple[Any, Any]) -> None:
    model, processor = loaded
    inputs = question(processor)
    answer = model.generate(**inputs, max_new_tokens=3)
    assert inputs["input_ids"].shape[1] < answer.shape[1] <= inputs["input_ids"].shape[1] + 3
    assert processor.tokenizer.convert_tokens_to_ids("<|im_end|>") in model.generation_config.eos_token_id

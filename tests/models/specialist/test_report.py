from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gsco.case import TaskKind
from gsco.errors import SpecialistError
from gsco.models.specialist.panel import Panel
from gsco.models.specialist.report import ReportSpecialist, adopt_report_model
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
WORDS = ["<pad>", "<s>", "</s>", "the", "heart", "lungs", "are", "is", "clear", "normal", "small", "<image>"]


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<pad>")
    )
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    vocabulary.decoder = decoders.Metaspace(replacement=" ")  # pyright: ignore[reportAttributeAccessIssue]
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=vocabulary, extra_special_tokens={"image_token": "<image>"}, **special
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report writer of two tiny layers with random weights, as transformers saves it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("writer")
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        ViTConfig(image_size=32, patch_size=16, **TINY), BertConfig(vocab_size=len(WORDS), **TINY)
    )
    model = VisionEncoderDecoderModel(config)
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 1
    model.config.pad_token_id = model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = 2
    # Random weights hardly look at the image; larger ones do.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)
        model.get_parameter("decoder.cls.predictions.bias")[[0, 1, 2, 11]] = -1e4
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ReportSpecialist]:
    """``adopted(checkpoint, …)``: adopt a model and load it from the folder of specialists."""

    def adopt(source: Path, **options: Any) -> ReportSpecialist:
        folder = tmp_path_factory.mktemp("adopted")
        adopt_report_model(str(source), folder, task="chest", name="writer", **options)
        return ReportSpecialist.load(folder / "chest" / "writer")

    return adopt


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 255, (40, 50), dtype=np.uint8)) for _ in range(3)]


def test_an_adopted_model_writes_reports_in_a_panel(checkpoint: Path, tmp_path: Path) -> None:
    card = adopt_report_model(
        str(checkpoint), tmp_path, task="chest", name="writer", max_new_tokens=12, licence="CC0"
    )
    assert (card.kind, card.architecture, card.labels) == (TaskKind.REPORT, "vision-encoder-decoder", ())
    assert not (tmp_path / "chest" / ".writer").exists()
    panel = Panel.load("chest", [tmp_path])
    assert panel.missing == ()
    assert panel.retriever == ""
    opinions = panel.opinions(pictures())
    assert len(opinions) == 3
    (opinion,) = opinions[0]
    assert (opinion.specialist, opinion.labels, opinion.probabilities) == ("writer", (), {})
    assert opinion.version == card.weights.sha256[:12]
    assert opinion.text
    with pytest.raises(SpecialistError, match="exists"):
        adopt_report_model(str(checkpoint), tmp_path, task="chest", name="writer")


def test_the_text_is_what_transformers_generates(
    checkpoint: Path, adopted: Callable[..., ReportSpecialist]
) -> None:
    writer = adopted(checkpoint, max_new_tokens=12)
    image = pictures()[1]
    model: Any = VisionEncoderDecoderModel.from_pretrained(checkpoint).eval()
    pixels = ViTImageProcessor.from_pretrained(checkpoint)(
        images=image.convert("RGB"), return_tensors="pt"
    ).pixel_values
    tokens = model.generate(pixel_values=pixels, max_new_tokens=12, do_sample=False)
    words = " ".join(WORDS[token] for token in tokens[0] if WORDS[token][0] != "<")
    text = writer.opinion(writer.forward([image]), 0).text
    assert text is not None
    assert text.replace(" ", "") == words.replace(" ", "")


def test_a_model_with_a_chat_template_is_asked_its_prompt(
    tmp_path: Path, adopted: Callable[..., ReportSpecialist]
) -> None:
    torch.manual_seed(0)
    text = LlamaConfig(vocab_size=len(WORDS), num_key_value_heads=2, max_position_embeddings=64, **TINY)
    vision = CLIPVisionConfig(image_size=32, patch_size=16, **TINY)
    model = LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=WORDS.index("<image>"))
    )
    template = (
        "{% for m in messages %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer(),
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
        image_token="<image>",
    )
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    asked = []
    writer = adopted(tmp_path, prompt="the lungs are")
    writer.network.register_forward_pre_hook(
        lambda _, __, named: asked.append(named["input_ids"][0].tolist()), with_kwargs=True
    )
    texts = writer.forward(pictures()).texts
    image, the, lungs, are = (WORDS.index(word) for word in ("<image>", "the", "lungs", "are"))
    assert asked[0] == [image] * 4 + [the, lungs, are]
    assert len(texts) == 3
    assert all(not text.startswith("the lungs are the lungs are") for text in texts)


def test_batches_and_shared_features(checkpoint: Path, adopted: Callable[..., ReportSpecialist]) -> None:
    writer = adopted(checkpoint, max_new_tokens=9)
    one_by_one = writer.head(writer.features(pictures(), batch_size=1)).texts
    assert writer.head(writer.features(pictures(), batch_size=3)).texts == one_by_one
    assert writer.forward([]).texts == ()
    other = adopted(checkpoint, prompt="the heart")
    assert other.trunk_key != writer.trunk_key


def test_what_is_no_report_model(
    checkpoint: Path, tmp_path: Path, adopted: Callable[..., ReportSpecialist]
) -> None:
    with pytest.raises(SpecialistError, match=r"cannot load .* as an image-to-text model"):
        adopted(tmp_path)
    adopt_report_model(str(checkpoint), tmp_path, task="chest", name="writer")
    weights = tmp_path / "chest" / "writer" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    (missing,) = Panel.load("chest", [tmp_path]).missing
    assert "not those of its card" in missing.reason


def test_the_command_adopts_a_model_for_the_panel_of_a_task(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gsco.agent.cli import app
    from typer.testing import CliRunner

    monkeypatch.setenv("GSCO_SPECIALISTS", str(tmp_path))
    command = ["train", "report-writer", str(checkpoint), "--task", "chest_xray_report", "--name", "writer"]
    done = CliRunner().invoke(app, [*command, "--max-new-tokens", "5", "--licence", "CC0"])
    assert done.exit_code == 0, done.output
    (writer,) = Panel.load("chest_xray_report", [tmp_path]).members.values()
    assert (writer.card.licence, writer.card.kind) == ("CC0", TaskKind.REPORT)
    assert CliRunner().invoke(app, command).exit_code == 1, "it is there already"

"""LoRA on the toy checkpoint: only the adapter learns, a stopped run goes on, merging is peft's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gsco.errors import ConfigurationError
from gsco.models.generalist.conversations import ConversationTurn, TrainingConversation, read_collections
from gsco.models.generalist.fine_tuning.config import RECIPES, FineTuning, load_fine_tuning
from gsco.models.generalist.fine_tuning.layout import load_layout, weights
from gsco.models.generalist.fine_tuning.lora import accumulation, adapted, fine_tune, trainer_of
from gsco.models.generalist.fine_tuning.merging import merge
from gsco.models.generalist.fine_tuning.samples import NOT_LEARNT, Collator, Samples, Template
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, TrainerCallback

from .toy import SIDE, make_checkpoint, make_conversations

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "base")


def config_of(base: Path, home: Path, **given: Any) -> FineTuning:
    content = {
        "base": str(base),
        "collections": [make_conversations(home / "data")],
        "out": home / "adapter",
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "lr": 0.01,
        "epochs": 2,
        "global_batch": 4,
        "device_batch": 2,
        "image_size": SIDE,
        "gradient_checkpointing": False,
        "save_every": 1,
    }
    return FineTuning.model_validate(content | given)


def test_the_bundled_recipe_has_the_reference_s_numbers(tmp_path: Path) -> None:
    found = load_fine_tuning(RECIPES / "meddr.toml", collections=[tmp_path])
    assert (found.lora.rank, found.lora.alpha, found.lora.dropout) == (16, 32, 0.05)
    assert (found.lr, found.epochs, found.global_batch, found.image_size) == (1e-5, 2, 128, 448)
    assert accumulation(found, 16) == 2
    with pytest.raises(ConfigurationError, match="multiple"):
        accumulation(found, 3)


def test_conversations_become_the_reference_s_text(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    turns = (
        ConversationTurn("human", "What is it?"),
        ConversationTurn("gpt", "dark"),
        ConversationTurn("human", "Sure?"),
        ConversationTurn("gpt", "yes"),
    )
    ids, labels = Template(tokenizer, 4).write(TrainingConversation("c", turns, "image.png"))
    assert tokenizer.decode(ids) == (
        "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<img>"
        "<IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT></img>\nWhat is it?<|im_end|>"
        "<|im_start|>assistant\ndark<|im_end|><|im_start|>user\nSure?<|im_end|>"
        "<|im_start|>assistant\nyes<|im_end|>"
    )
    assert tokenizer.decode([id for id in labels if id != NOT_LEARNT]) == "dark<|im_end|>yes<|im_end|>"


def test_padding_is_neither_seen_nor_learnt(base: Path, tmp_path: Path) -> None:
    template = Template(AutoTokenizer.from_pretrained(base), 4)
    collections = read_collections(make_conversations(tmp_path / "data"))
    samples = Samples(collections, template, SIDE, 100)
    batch = Collator(0, template.image_id)([samples[0], samples[6]])
    assert batch["pixel_values"].shape == (1, 3, SIDE, SIDE)
    assert batch["image"].sum(1).tolist() == [4, 0]
    assert (batch["labels"][batch["attention_mask"] == 0] == NOT_LEARNT).all()
    model = load_layout(base).eval()
    with torch.inference_mode():
        together = model(**batch)["logits"][1, : len(samples[6]["ids"])]
        alone = model(**Collator(0, template.image_id)([samples[6]]))["logits"][0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_repeats_and_lengths_are_kept(base: Path, tmp_path: Path) -> None:
    template = Template(AutoTokenizer.from_pretrained(base), 4)
    collections = read_collections(make_conversations(tmp_path / "data", repeat_time=1.5))
    assert len(Samples(collections, template, SIDE, 100)) == 11
    without_images = Samples(collections, template, SIDE, 60)
    assert without_images.left_out in (0, 6)
    with pytest.raises(ConfigurationError, match="max_tokens"):
        Samples(collections, template, SIDE, 5)


def test_only_the_adapter_learns_and_merging_is_exact(base: Path, tmp_path: Path) -> None:
    config = config_of(base, tmp_path)
    out = fine_tune(config)
    merged = merge(base, out, tmp_path / "merged")
    before, after = dict(weights(base)), dict(weights(merged))
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 2 * 7 and all(name.startswith("language_model.model.layers.") for name in changed)
    assert [path.name for path in sorted(base.iterdir())] == [path.name for path in sorted(merged.iterdir())]
    # peft's own merge is the peer.
    fresh = adapted(base, config, torch.float32)
    fresh.load_state_dict(_named(load_file(out / "adapter_model.safetensors")), strict=False)
    plain: Any = fresh.merge_and_unload()
    for name, weight in load_layout(merged).state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], weight, atol=1e-6, rtol=1e-5)


def _named(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace(".weight", ".default.weight"): weight for name, weight in state.items()}


def test_a_stopped_run_ends_like_one_that_was_not(base: Path, tmp_path: Path) -> None:
    whole = config_of(base, tmp_path / "whole")
    fine_tune(whole)
    config = config_of(base, tmp_path / "parts")

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_save = True
            control.should_training_stop = state.global_step >= 2

    trainer, _ = trainer_of(config, base)
    trainer.add_callback(Stop())
    trainer.train()
    with pytest.raises(ConfigurationError, match="another configuration"):
        (config.out / "fine_tuning.json").write_text("{}")
        fine_tune(config)
    (config.out / "fine_tuning.json").unlink()
    assert (config.out / "checkpoint-2").is_dir() and not (config.out / "adapter_model.safetensors").exists()
    fine_tune(config)
    expected, found = (load_file(c.out / "adapter_model.safetensors") for c in (whole, config))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=1e-6, rtol=1e-4)


def test_a_checkpoint_that_holds_its_adapter_is_merged(base: Path, tmp_path: Path) -> None:
    before = dict(weights(base))
    a, b = torch.randn(2, 32), torch.randn(48, 2)
    wrapped = {
        name.replace("language_model.", "language_model.base_model.model.").replace(
            "up_proj.weight", "up_proj.base_layer.weight"
        ): weight
        for name, weight in before.items()
    }
    start = "language_model.base_model.model.model.layers.1.mlp.up_proj"
    wrapped |= {f"{start}.lora_A.default.weight": a, f"{start}.lora_B.default.weight": b}
    for path in base.glob("*.safetensors*"):
        path.unlink()
    save_file(wrapped, base / "model.safetensors")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"use_llm_lora": 2}))
    merged = merge(base, None, tmp_path / "merged")
    after = dict(weights(merged))
    assert set(after) == set(before)
    name = "language_model.model.layers.1.mlp.up_proj.weight"
    torch.testing.assert_close(after.pop(name), before.pop(name) + 2 * b @ a)
    assert all(torch.equal(weight, before[other]) for other, weight in after.items())
    assert json.loads((merged / "config.json").read_text())["use_llm_lora"] == 0


def test_wrong_merges_leave_nothing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no adapter"):
        merge(base, None, tmp_path / "merged")
    with pytest.raises(ConfigurationError, match="no adapter"):
        merge(base, tmp_path, tmp_path / "merged")
    with pytest.raises(ConfigurationError, match="already exists"):
        merge(base, None, tmp_path)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4}))
    start = "base_model.model.language_model.model.layers.9.mlp.up_proj"
    state = {f"{start}.lora_A.weight": torch.ones(2, 32), f"{start}.lora_B.weight": torch.ones(48, 2)}
    save_file(state, adapter / "adapter_model.safetensors")
    with pytest.raises(ConfigurationError, match=r"layers\.9"):
        merge(base, adapter, tmp_path / "merged")
    assert not [path for path in tmp_path.iterdir() if "merged" in path.name]


@pytest.mark.parametrize(("field", "value"), [("image_size", 448), ("global_batch", 3)])
def test_what_does_not_fit_is_said_before_training(
    base: Path, tmp_path: Path, field: str, value: int
) -> None:
    with pytest.raises(ConfigurationError, match=r"448|multiple"):
        fine_tune(config_of(base, tmp_path, **{field: value}))

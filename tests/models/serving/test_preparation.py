"""A checkpoint in MedDr's layout is mended where it can be, and refused with advice where it cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from gsco.errors import ConfigurationError
from gsco.models.generalist.fine_tuning.merging import merge
from gsco.models.serving.launch_plan import planned, ready
from gsco.models.serving.preflight import is_meddr
from gsco.models.serving.preparation import is_prepared, prepare
from gsco.models.serving.profiles import profile_named
from safetensors.torch import load_file, save_file

from .meddr import ENDS, TOKENS, Reference, make_checkpoint

SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("meddr") / "MedDr_tiny")


@pytest.fixture
def checkpoint(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "MedDr_tiny"))


@pytest.fixture(scope="module")
def prepared(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(original, tmp_path_factory.mktemp("prepared") / "meddr")


def change(folder: Path, file: str = "config.json", **fields: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_configuration_is_completed_and_names_no_code(prepared: Path) -> None:
    config = json.loads((prepared / "config.json").read_text())
    assert (config["ps_version"], config["min_dynamic_patch"], config["max_dynamic_patch"]) == ("v1", 1, 1)
    assert config["dynamic_image_size"] is config["use_thumbnail"] is False
    assert config["vision_config"]["norm_type"] == "rms_norm"
    assert "auto_map" not in config
    assert not list(prepared.glob("*.py"))


def test_the_weights_are_links_and_the_original_is_left_alone(original: Path, prepared: Path) -> None:
    assert (prepared / SHARD).resolve() == original / SHARD
    assert "ps_version" not in (original / "config.json").read_text()


def test_text_is_read_as_sentencepiece_reads_it(original: Path, prepared: Path) -> None:
    from transformers import AutoTokenizer

    reference = Reference(original)
    tokenizer: Any = AutoTokenizer.from_pretrained(str(prepared))
    template = (prepared / "chat_template.jinja").read_text()
    for question in (
        " You are a helpful medical assistant. The possible diagnoses are: 'normal', 'tumor'. ",
        "two  spaces, 123 digits,\na new line, and ü",
    ):
        said = [{"role": "user", "content": f"<img>{'<IMG_CONTEXT>' * TOKENS}</img>\n{question}"}]
        text = tokenizer.apply_chat_template(
            said, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        assert tokenizer.encode(text, add_special_tokens=False) == reference.ids(question)


def test_without_the_mending_it_would_be_read_otherwise(original: Path) -> None:
    """If this fails, transformers has changed, and the mending may go."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(original), trust_remote_code=False)
    ids = Reference(original).pieces.encode("<|im_start|>system\n")
    assert tokenizer.encode("<|im_start|>system\n", add_special_tokens=False) != ids


def test_the_ends_of_an_answer_are_looked_up(original: Path, prepared: Path) -> None:
    pieces = Reference(original).pieces
    ends = json.loads((prepared / "generation_config.json").read_text())["eos_token_id"]
    assert ends == sorted(pieces.piece_to_id(end) for end in ENDS)


def test_the_plug_in_is_found_where_it_lies(prepared: Path) -> None:
    from importlib.metadata import Distribution

    found = Distribution.discover(name="gsco-meddr", path=[str(prepared / "plugin")])
    (point,) = [point for one in found for point in one.entry_points]
    assert (point.group, point.value) == ("vllm.general_plugins", "gsco_meddr_config:register")


def test_the_class_holds_every_field(prepared: Path) -> None:
    from gsco.models.serving.meddr_config import register
    from transformers import AutoConfig

    register()
    config: Any = AutoConfig.from_pretrained(str(prepared))
    assert config.vision_config.norm_type == "rms_norm" and config.vision_config.qk_normalization
    assert config.text_config.rope_parameters["rope_theta"] == 5000000.0
    assert (config.ps_version, config.downsample_ratio, config.select_layer) == ("v1", 0.5, -1)


def test_an_unmerged_adapter_is_refused_and_served_once_it_is_merged(
    checkpoint: Path, tmp_path: Path
) -> None:
    weights = load_file(checkpoint / SHARD)
    name = next(name for name in weights if name.endswith("mlp.up_proj.weight"))
    start = name.replace("language_model.", "language_model.base_model.model.", 1).removesuffix(".weight")
    low = {
        f"{start}.base_layer.weight": weights.pop(name),
        f"{start}.lora_A.default.weight": torch.ones(2, 128) * 0.01,
        f"{start}.lora_B.default.weight": torch.ones(192, 2) * 0.01,
    }
    save_file(weights | low, checkpoint / SHARD, metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match=rf"gsco train merge {checkpoint} --out MERGED"):
        prepare(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    index = json.loads((checkpoint / "model.safetensors.index.json").read_text())
    index["weight_map"].pop(name)
    index["weight_map"] |= dict.fromkeys(low, SHARD)
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    merged = merge(checkpoint, None, tmp_path / "merged")
    assert is_prepared(prepare(merged, tmp_path / "out"))


def test_everything_that_is_wrong_is_said_at_once(checkpoint: Path, tmp_path: Path) -> None:
    change(checkpoint, force_image_size=448, pad2square=True)
    with pytest.raises(ConfigurationError) as caught:
        prepare(checkpoint, tmp_path / "out")
    assert "448 pixels wide, its tower's 56" in str(caught.value) and "pad2square" in str(caught.value)


def test_a_missing_weight_file_is_named(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / SHARD).unlink()
    with pytest.raises(ConfigurationError, match=SHARD):
        prepare(checkpoint, tmp_path / "out")


def test_a_damaged_weight_file_is_named(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / SHARD).write_bytes(b"\x00" * 64)
    with pytest.raises(ConfigurationError, match="damaged"):
        prepare(checkpoint, tmp_path / "out")


def test_a_tokenizer_without_the_image_tokens_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "added_tokens.json").unlink()
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    kept = {id: t for id, t in config["added_tokens_decoder"].items() if "IMG" not in t["content"]}
    change(checkpoint, "tokenizer_config.json", added_tokens_decoder=kept, additional_special_tokens=[])
    with pytest.raises(ConfigurationError, match="IMG_CONTEXT"):
        prepare(checkpoint, tmp_path / "out")


def test_an_existing_folder_is_not_written_over(original: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="already exists"):
        prepare(original, tmp_path)


def test_a_folder_in_this_layout_is_recognised_and_prepared_once(checkpoint: Path, tmp_path: Path) -> None:
    assert is_meddr(checkpoint) and not is_meddr(tmp_path)
    profile = profile_named(str(checkpoint))
    assert (profile.name, profile.mode, profile.tools, profile.ends) == (
        "meddr_tiny",
        "strings",
        "constrained",
        (),
    )
    launch = ready(planned(str(checkpoint)), tmp_path / "home")
    assert launch.environment["PYTHONPATH"] == f"{launch.model}/plugin"
    assert launch.environment["HF_HUB_OFFLINE"] == "1"
    made = Path(launch.model).stat().st_mtime_ns
    assert ready(planned(str(checkpoint)), tmp_path / "home").model == launch.model
    assert Path(launch.model).stat().st_mtime_ns == made
    assert planned(launch.model).model == launch.model


def test_later_versions_of_the_family_are_not_taken_for_it(checkpoint: Path) -> None:
    change(checkpoint, ps_version="v2")
    assert not is_meddr(checkpoint)
    assert not profile_named(str(checkpoint)).prepared

"""What is started for a profile, without starting it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from gsco.errors import ConfigurationError
from gsco.models.mini import bundled
from gsco.models.serving import PROFILES, profile_named, profile_of
from gsco.models.serving.command import Launch
from gsco.models.serving.launch_plan import planned


def flags(launch: Launch) -> dict[str, str]:
    """Each flag with its value; empty for one without."""
    words = launch.command()[3:]
    pairs = zip(words, [*words[1:], "--"], strict=True)
    return {word: "" if value.startswith("--") else value for word, value in pairs if word.startswith("--")}


def test_the_bundled_model_is_served_from_its_folder_and_offline() -> None:
    launch = planned("mini", port=8123)
    assert flags(launch)["--model"] == str(bundled("generalist"))
    assert launch.environment["HF_HUB_OFFLINE"] == "1"
    assert launch.url == "http://127.0.0.1:8123/v1"


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_makes_a_command_whose_json_is_json(name: str) -> None:
    profile = PROFILES[name]
    found = flags(Launch(profile, profile.source))
    assert found["--served-model-name"] == name
    assert json.loads(found["--limit-mm-per-prompt"]) == {"image": profile.images}
    assert json.loads(found["--structured-outputs-config"])["disable_any_whitespace"]
    assert profile.checked and profile.licence


def test_meddr_needs_no_remote_code() -> None:
    launch = planned("meddr")
    found = flags(launch)
    assert "--trust-remote-code" not in found and "--hf-overrides" not in found
    assert found["--model"] == "meddr-prepared"
    assert launch.line().startswith("PYTHONPATH=meddr-prepared/plugin python -m vllm")
    assert json.loads(found["--limit-mm-per-prompt"]) == {"image": 1}
    assert found["--tensor-parallel-size"] == "2"


def test_memory_is_arithmetic() -> None:
    assert PROFILES["meddr"].memory() == pytest.approx(74.6, abs=0.05)
    assert PROFILES["meddr"].memory("fp8") == pytest.approx(37.3, abs=0.05)


def test_the_printed_line_is_the_command() -> None:
    launch = planned("qwen3-vl", extra=("--max-num-seqs", "2"))
    assert shlex.split(launch.line()) == launch.command()
    assert launch.command()[-2:] == ["--max-num-seqs", "2"]


def test_without_a_gpu_nothing_is_split_over_gpus() -> None:
    launch = Launch(PROFILES["lingshu-32b"], "x", cpu=True)
    assert "--tensor-parallel-size" not in flags(launch)
    assert "VLLM_CPU_KVCACHE_SPACE" in launch.environment


def test_a_hub_id_finds_its_profile_and_an_unknown_one_gets_a_plain_one(tmp_path: Path) -> None:
    assert profile_named("google/medgemma-1.5-4b-it").name == "medgemma"
    plain = profile_named("somebody/some-model")
    assert (plain.name, plain.dtype, plain.parameters) == ("some-model", "auto", 0.0)
    (tmp_path / "Lingshu-7B").mkdir()
    local = profile_named(str(tmp_path / "Lingshu-7B"))
    assert (local.name, local.source) == ("lingshu-7b", str(tmp_path / "Lingshu-7B"))


@pytest.mark.parametrize("wrong", ["nothing", "./not/there", "a/b/c", "/no/folder"])
def test_what_is_no_model_is_refused_with_the_profiles(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="meddr"):
        profile_named(wrong)


def test_a_served_model_is_recognised_by_any_of_its_names() -> None:
    assert profile_of("meddr") is profile_of("Sunanhe/MedDr_0401") is PROFILES["meddr"]
    assert profile_of("gpt-something") is None

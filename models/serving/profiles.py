"""What vLLM must be told to serve a model rightly: a table, one row per model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ...errors import ConfigurationError

Mode = Literal["auto", "strings", "letters", "decode"]
"""How ``Generalist.choose`` asks a served model; see ``models.generalist.choosing``."""
ToolLevel = Literal["auto", "native", "constrained", "none"]
"""How a served model calls tools; see ``models.generalist.calling``."""

GIB = 2**30
_BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0, "fp8": 1.0}
"""Bytes per weight; with fp8 embeddings, head and projector stay as they were."""


@dataclass(frozen=True)
class ServingProfile:
    """One model: where it is, how it is asked, and the flags that it needs."""

    name: str
    """What ``--model`` and the server call it."""
    source: str
    """Hub id, or the name of a bundled part."""
    about: str
    """What it is, in a line."""
    checked: str
    """What of this profile was run, and what was not."""
    parameters: float
    """In thousand millions; 0 where unknown."""
    context_length: int = 0
    """Tokens of prompt and answer; 0 leaves vLLM what the checkpoint says."""
    images: int = 1
    """How many one request may hold."""
    dtype: str = "bfloat16"
    tensor_parallel: int = 1
    """GPUs of 80 GB that it is meant for."""
    ends: tuple[int, ...] = ()
    """Ids that end an answer, which a client sends along where the checkpoint does not say so."""
    tool_parser: str = ""
    """vLLM's parser of its tool calls; empty where it was not trained to call any."""
    overrides: Mapping[str, object] = field(default_factory=dict)
    """``--hf-overrides``."""
    mode: Mode = "auto"
    """How it is asked to choose."""
    letters: bool = True
    """Whether it may be asked to choose by letters; False where that was tried and it answers badly."""
    tools: ToolLevel = "auto"
    """How it is let call tools."""
    prepared: bool = False
    """Whether the checkpoint is served from a prepared folder (see ``preparation``), never as it is."""
    eager: bool = False
    """Whether compiling it is not worth the wait."""
    licence: str = ""

    def memory(self, precision: str = "") -> float:
        """GiB that the weights take, by arithmetic; images, activations and the cache come on top.

        Args:
            precision: ``fp8`` or a dtype; the profile's own if empty.
        """
        return self.parameters * 1e9 * _BYTES[precision or self.dtype] / GIB


PROFILES: Mapping[str, ServingProfile] = {
    profile.name: profile
    for profile in (
        ServingProfile(
            name="mini",
            source="generalist",
            about="the bundled generalist",
            checked="Run with the CPU build of vLLM 0.32: answers, distributions and tool calls equal those "
            "in process. Not run on a GPU.",
            parameters=0.01,
            context_length=2048,
            images=4,
            dtype="float32",
            tool_parser="hermes",
            mode="strings",
            letters=False,
            eager=True,
            licence="Apache-2.0",
        ),
        ServingProfile(
            name="meddr",
            source="Sunanhe/MedDr_0401",
            about="MedDr, the published generalist of the method, 40 B",
            checked="Run with the CPU build of vLLM 0.32 on a random checkpoint of exactly this layout: the "
            "answers equal those of the reference's forward pass. The 40 B weights were not loaded.",
            parameters=40.06,
            context_length=4096,
            tensor_parallel=2,
            ends=(2, 6, 7, 8),
            mode="strings",
            letters=False,
            tools="constrained",
            prepared=True,
            licence="MIT for the code; the weights as their model card states",
        ),
        ServingProfile(
            name="medgemma",
            source="google/medgemma-1.5-4b-it",
            about="MedGemma 1.5, 4 B, for one GPU of 16 to 24 GB",
            checked="Only the command line was made and read by vLLM 0.32; the weights were not loaded.",
            parameters=4.3,
            context_length=16_384,
            images=8,
            tools="constrained",
            licence="Health AI Developer Foundations terms; to be accepted at the hub",
        ),
        ServingProfile(
            name="lingshu-7b",
            source="lingshu-medical-mllm/Lingshu-7B",
            about="Lingshu, 7 B, on Qwen2.5-VL",
            checked="Only the command line was made and read by vLLM 0.32; the weights were not loaded.",
            parameters=8.29,
            context_length=16_384,
            images=8,
            tool_parser="hermes",
            licence="as its model card states",
        ),
        ServingProfile(
            name="lingshu-32b",
            source="lingshu-medical-mllm/Lingshu-32B",
            about="Lingshu, 32 B, on Qwen2.5-VL",
            checked="Only the command line was made and read by vLLM 0.32; the weights were not loaded.",
            parameters=33.5,
            context_length=16_384,
            images=8,
            tensor_parallel=2,
            tool_parser="hermes",
            licence="as its model card states",
        ),
        ServingProfile(
            name="qwen3-vl",
            source="Qwen/Qwen3-VL-8B-Instruct",
            about="Qwen3-VL, 8 B, a general model",
            checked="Only the command line was made and read by vLLM 0.32; the weights were not loaded.",
            parameters=8.77,
            context_length=16_384,
            images=8,
            tool_parser="hermes",
            licence="Apache-2.0",
        ),
        ServingProfile(
            name="internvl3.5",
            source="OpenGVLab/InternVL3_5-8B-HF",
            about="InternVL 3.5, 8 B, a general model, in transformers' own layout",
            checked="Only the command line was made and read by vLLM 0.32; the weights were not loaded. The "
            "mini generalist is of the same class.",
            parameters=8.53,
            context_length=16_384,
            images=8,
            tool_parser="hermes",
            licence="Apache-2.0",
        ),
    )
}
"""Profiles by name."""


def profile_named(model: str) -> ServingProfile:
    """The profile for what ``--model`` says: a name, a hub id, or a folder.

    A hub id or folder that no profile knows gets a plain one, which leaves everything to the checkpoint.

    Raises:
        ConfigurationError: it is none of these.
    """
    if model in PROFILES:
        return PROFILES[model]
    name = Path(model).name
    known = next((profile for profile in PROFILES.values() if Path(profile.source).name == name), None)
    if Path(model).is_dir():
        found = known or _of_folder(Path(model))
        return replace(found, source=str(Path(model).resolve()))
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        names = ", ".join(PROFILES)
        raise ConfigurationError(
            f"no profile, folder or hub id {model!r}; profiles are {names}, and a hub id is OWNER/NAME"
        )
    return replace(known, source=model) if known else _plain(model)


def profile_of(served: str) -> ServingProfile | None:
    """The profile of a model by the name that a server gives it; None for one that no profile knows."""
    name = Path(served).name.casefold()
    for profile in PROFILES.values():
        if name in (profile.name, Path(profile.source).name.casefold()):
            return profile
    return None


def _of_folder(folder: Path) -> ServingProfile:
    """A folder in MedDr's layout is served as MedDr is, under its own name and with its own ends."""
    from .preflight import is_meddr

    if not is_meddr(folder):
        return _plain(str(folder))
    own = {"name": folder.name.casefold(), "parameters": 0.0, "tensor_parallel": 1, "ends": ()}
    return replace(PROFILES["meddr"], **own)


def _plain(source: str) -> ServingProfile:
    return ServingProfile(
        name=Path(source).name.casefold(),
        source=source,
        about="a model without a profile",
        checked="Nothing of it was run.",
        parameters=0.0,
        dtype="auto",
    )

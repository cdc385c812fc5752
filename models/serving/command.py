"""The command line that starts vLLM for a profile."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .profiles import ServingProfile

MODULE = "vllm.entrypoints.openai.api_server"
"""Started as a module: the console script of vLLM's CPU build does not run."""
_STRUCTURED = {"backend": "xgrammar", "disable_any_whitespace": True}
"""Without it a model may write white space between the parts of a JSON answer up to the limit."""


@dataclass(frozen=True)
class Launch:
    """Where and with what a model is served."""

    profile: ServingProfile
    model: str
    """Folder or hub id that vLLM loads."""
    host: str = "127.0.0.1"
    port: int = 8000
    quantization: str = ""
    """``fp8_per_tensor`` quantises while loading; empty takes the weights as they are. ``fp8`` is vLLM's
    name for checkpoints that are in it already, which it recognises."""
    extra: Sequence[str] = ()
    """Further flags for vLLM, as they are; they come last and so win."""
    plugin: Path | None = None
    """Folder with a plug-in of vLLM that the model needs."""
    cpu: bool = False

    @property
    def url(self) -> str:
        """What ``GSCO_GENERALIST_URL`` is to be."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that vLLM needs beside the command."""
        found = {"PYTHONPATH": str(self.plugin or "")}
        if Path(self.model).is_dir():
            found["HF_HUB_OFFLINE"] = "1"
        if self.cpu:
            found["VLLM_CPU_KVCACHE_SPACE"] = "1" if self.profile.name == "mini" else "4"
        return found

    def command(self, python: str = "python") -> list[str]:
        """The whole command, as a list of words."""
        profile = self.profile
        words = [python, "-m", MODULE, "--model", self.model, "--served-model-name", profile.name]
        words += ["--host", self.host, "--port", str(self.port)]
        words += ["--dtype", profile.dtype, "--limit-mm-per-prompt", _json({"image": profile.images})]
        words += ["--structured-outputs-config", _json(_STRUCTURED), "--max-logprobs", "64"]
        words += ["--enable-prompt-tokens-details"]
        if profile.context_length:
            words += ["--max-model-len", str(profile.context_length)]
        if profile.tensor_parallel > 1 and not self.cpu:
            words += ["--tensor-parallel-size", str(profile.tensor_parallel)]
        if self.quantization:
            words += ["--quantization", self.quantization]
        if profile.eager or self.cpu:
            words += ["--enforce-eager"]
        return [*words, *_behaviour(profile), *self.extra]

    def line(self, python: str = "python") -> str:
        """The command for a shell, with its variables in front."""
        variables = {name: value for name, value in self.environment.items() if value}
        return shlex.join([*(f"{name}={value}" for name, value in variables.items()), *self.command(python)])


def _behaviour(profile: ServingProfile) -> list[str]:
    """Flags that change what the model says."""
    words: list[str] = []
    if profile.overrides:
        words += ["--hf-overrides", _json(profile.overrides)]
    if profile.tool_parser:
        words += ["--enable-auto-tool-choice", "--tool-call-parser", profile.tool_parser]
    return words


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))

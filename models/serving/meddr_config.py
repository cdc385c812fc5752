"""The configuration class of MedDr's layout, as a plug-in of vLLM: no code of a checkpoint runs.

This file is copied beside a prepared checkpoint and imported by vLLM's own interpreter, which has no gsco; so
it imports nothing of it.
"""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Tell transformers of the class; vLLM calls this in each of its processes."""
    from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

    class InternVLChatVisionConfig(PretrainedConfig):
        model_type = "intern_vit_6b"

    class InternVLChatConfig(PretrainedConfig):
        model_type = "internvl_chat"
        has_no_defaults_at_init = True

        def __init__(
            self,
            vision_config: dict[str, Any] | None = None,
            llm_config: dict[str, Any] | None = None,
            **rest: Any,
        ) -> None:
            super().__init__(**rest)
            self.vision_config = InternVLChatVisionConfig(**(vision_config or {}))
            language = dict(llm_config or {})
            kind = language.pop("model_type", "llama")
            self.text_config = CONFIG_MAPPING[kind](**language)

    AutoConfig.register("internvl_chat", InternVLChatConfig, exist_ok=True)

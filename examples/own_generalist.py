"""A LangChain chat model as the generalist.

Run it with ``python examples/own_generalist.py``. It uses a provider's model where ``CHAT_MODEL`` names one,
for instance ``CHAT_MODEL=openai:MODEL OPENAI_API_KEY=…``; the model must read images. Without that, a chat
model of a few lines reads the evidence in the prompt, so that the example runs anywhere.
"""

from __future__ import annotations

import os
import re
from typing import Any

from gsco import GSCo
from gsco.models.mini.samples import samples
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

TASK = "chest_xray"


class EvidenceReader(BaseChatModel):
    """Answers with the option that the evidence in the prompt names most often."""

    @property
    def _llm_type(self) -> str:
        return "evidence-reader"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        text = messages[-1].text
        options = re.findall(r"'([^']+)'", text.partition("possible diagnoses are:")[2].partition(".")[0])
        answer = max(options, key=text.count)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer))])


def chat_model() -> BaseChatModel:
    """Return the model that ``CHAT_MODEL`` names, or the one above."""
    if name := os.environ.get("CHAT_MODEL"):
        from langchain.chat_models import init_chat_model

        return init_chat_model(name)
    return EvidenceReader()


def main() -> None:
    """Let it have the last word, as in the published protocol."""
    with GSCo.from_settings(generalist=chat_model(), decision="generalist") as gsco:
        diagnosis = gsco.diagnose(samples(TASK)[3].path, task=TASK)
    assert diagnosis.generalist_answer is not None
    print(f"{diagnosis.generalist} says {diagnosis.generalist_answer.text!r}")
    print(f"decision: {diagnosis.label}")


if __name__ == "__main__":
    main()

"""An image that is talked about must be looked at: a generalist that called nothing is asked once more."""

from __future__ import annotations

from langchain.agents.middleware import AgentMiddleware, hook_config
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.runtime import Runtime

from ..consultation_context import (
    ConsultationContext,
    ConsultationState,
    examined,
    images_of_turn,
    latest_turn,
)

_ASIDE = "gsco_set_aside"


class RequireDiagnosis(AgentMiddleware[ConsultationState, ConsultationContext]):
    """Asks about a new image once more where the generalist answered without calling anything.

    Its first answer stands for the reader, who may have asked for just that, such as the modality. But a new
    image also gets a diagnosis, by the tools that the generalist itself chooses; where it chooses none again,
    ``CompleteDiagnoses`` runs the fixed protocol. The question is ``ChatPrompt.examine``; the first answer is
    left out of what ``model_call.worded`` shows, since a model that has answered tends to go on answering.
    """

    state_schema = ConsultationState

    @hook_config(can_jump_to=["model"])
    async def aafter_model(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object] | None:
        """Go back to the model where its first answer is in words and nothing is known of a new image."""
        context = runtime.context
        if not context.converses or context.level == "none":
            return None
        if examined(state) or not images_of_turn(state):
            return None
        (first, *further) = (one for one in latest_turn(state["messages"]) if isinstance(one, AIMessage))
        if further or first.tool_calls or first.invalid_tool_calls:
            return None
        marked = {**first.additional_kwargs, _ASIDE: True}
        aside = first.model_copy(update={"additional_kwargs": marked})
        return {"messages": [aside], "jump_to": "model"}


def is_aside(message: AnyMessage) -> bool:
    """Whether the generalist was asked about the images once more after this answer."""
    return bool(message.additional_kwargs.get(_ASIDE))

"""Images of earlier messages that nothing is on record about: their evidence is gathered anew."""

from __future__ import annotations

import asyncio

from langchain.agents.middleware import AgentMiddleware
from langgraph.runtime import Runtime

from ...case import ImageRef
from ..consultation_context import ConsultationContext, ConsultationState, images_of_turn, unexamined
from ..explanation.record import image_records
from .fixed_protocol import run_protocol
from .record_answer import question_of

MOST = 8
"""Of so many images, the latest, the evidence is gathered anew."""


class EarlierImages(AgentMiddleware[ConsultationState, ConsultationContext]):
    """Diagnoses images that came before this turn and of which the conversation has no record.

    That is so where a client keeps the conversation and sends all of it each time. Specialists remember
    what they computed of an image, so that little is computed twice.
    """

    state_schema = ConsultationState

    async def abefore_agent(
        self, state: ConsultationState, runtime: Runtime[ConsultationContext]
    ) -> dict[str, object] | None:
        """Run the fixed protocol on each of them, where the question needs it."""
        refs = earlier(state)
        if not refs or not needed(state, runtime.context):
            return None
        findings = await asyncio.gather(*(run_protocol(ref, state, runtime) for ref in refs))
        return {"findings": {finding.id: finding for finding in findings}}


def earlier(state: ConsultationState) -> tuple[ImageRef, ...]:
    """The images that did not come with this turn and that nothing is known of, the latest ones."""
    shown = {ref.sha256 for ref in images_of_turn(state)}
    before = [ref for ref in state.get("images") or () if ref.sha256 not in shown]
    return unexamined(before, (state.get("findings") or {}).values())[-MOST:]


def needed(state: ConsultationState, context: ConsultationContext) -> bool:
    """Whether the answer needs evidence; a generalist that converses may need it for anything."""
    if context.converses:
        return True
    records = image_records(state, {})
    return question_of(state, records, context.collaboration).topic.of_record

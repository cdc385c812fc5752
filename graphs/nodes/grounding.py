"""The generalist's words held against the record before they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.runtime import Runtime

from ...models.generalist.statements import Finished, grounded, named
from ..consulting import ConsultationState, Consulting, latest_turn
from ..events import Finding

_WITHDRAWN = "gsco_withdrawn"


class Grounding(AgentMiddleware[ConsultationState, Consulting]):
    """Replaces sentences of an answer that state what no specialist, similar case or decision says.

    It comes after people have decided, so that what they decided is on record. What was withdrawn is kept
    with the message. Conversations without an image are left alone: there is nothing to hold words against.
    """

    state_schema = ConsultationState

    async def aafter_agent(
        self, state: ConsultationState, runtime: Runtime[Consulting]
    ) -> dict[str, Any] | None:
        """Check the answers of the latest turn."""
        if not state["images"]:
            return None
        turn = latest_turn(state["messages"])
        cases = on_record(state)
        said = "\n".join(one.text for one in state["messages"] if one not in turn or _is_read(one))
        checked = [_checked(one, cases, said) for one in turn if isinstance(one, AIMessage) and one.text]
        changed = [one for one in checked if withdrawn(one)]
        return {"messages": changed} if changed else None


def withdrawn(message: AnyMessage) -> tuple[str, ...]:
    """The sentences of an answer that were withdrawn."""
    return tuple(message.additional_kwargs.get(_WITHDRAWN) or ())


def on_record(state: Mapping[str, Any]) -> list[Finished]:
    """What was found out in a conversation, one entry per image and task, the latest last."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in (state.get("findings") or {}).values():
        if finding.image is not None and finding.task is not None:
            key = finding.image.sha256, finding.task
            found[key] = [*found.pop(key, []), finding]
    return [_joined(findings) for findings in found.values()]


def _joined(findings: Iterable[Finding]) -> Finished:
    """One image's findings for a task; what a diagnosis rests on goes before what was asked one by one."""
    findings = list(findings)
    diagnosis = next((one.diagnosis for one in reversed(findings) if one.diagnosis), None)
    if diagnosis is not None:
        return Finished.of(diagnosis)
    opinions = tuple({o.specialist: o for one in findings for o in one.opinions}.values())
    similar = tuple({c.id: c for one in findings for c in one.similar_cases}.values())
    lost = (m for one in findings for m in one.missing if m.source.startswith("specialist:"))
    return Finished(named(opinions, similar), (*opinions, *dict.fromkeys(lost)), similar)


def _is_read(message: AnyMessage) -> bool:
    return not isinstance(message, AIMessage)


def _checked(message: AIMessage, cases: list[Finished], said: str) -> AIMessage:
    text, unfounded = grounded(message.text, cases, said)
    if not unfounded:
        return message
    kept = {**message.additional_kwargs, _WITHDRAWN: list(unfounded)}
    return message.model_copy(update={"content": text, "additional_kwargs": kept})

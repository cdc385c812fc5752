"""The evidence behind the earlier answers of a conversation that the client resends.

OpenAI's protocol carries words and images, and no evidence. So what was found about an image is remembered
under the hash of its pixels, and found once more where it is no longer remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from cachetools import LRUCache

from ...case import Diagnosis, ImageRef, Missing
from ...errors import GscoError
from ...graphs.events import Finding
from ...graphs.middleware.fixed_protocol import TOOL, finding_id
from ...models.generalist.messages import message
from ..conversation_runner import PastConversation

if TYPE_CHECKING:
    from ..api import GSCo
    from .conversation import PastMessage
    from .schema import Options

REMEMBERED = 1000
"""Images whose evidence is remembered."""
LOOKED_UP = 8
"""So many images of the earlier messages, the latest, are diagnosed again where nothing is remembered."""


class _Key(NamedTuple):
    user: str
    sha256: str
    task: str | None
    group: str | None


class EarlierEvidence:
    """Remembers what was found about the images of conversations, for each user apart.

    Args:
        gsco: diagnoses what is not remembered.
    """

    def __init__(self, gsco: GSCo) -> None:
        self._gsco = gsco
        self._found: LRUCache[_Key, tuple[Diagnosis, ...]] = LRUCache(REMEMBERED)

    def remember(
        self, user: str, options: Options, images: Iterable[ImageRef], diagnoses: Sequence[Diagnosis]
    ) -> None:
        """Remember the diagnoses of a turn, each for the image that it is about."""
        for ref in images:
            of_image = tuple(one for one in diagnoses if one.case_id == ref.id)
            if of_image:
                self._found[_Key(user, ref.sha256, options.task, options.group)] = of_image

    def reviewed(self, user: str, diagnoses: Sequence[Diagnosis]) -> None:
        """Put diagnoses on which a person decided in the place of those that were proposed."""
        for one in diagnoses:
            for key, known in tuple(self._found.items()):
                if key.user == user and any(_same(one, other) for other in known):
                    self._found[key] = tuple(one if _same(one, other) else other for other in known)

    async def earlier(self, user: str, options: Options, past: Sequence[PastMessage]) -> PastConversation:
        """Return the earlier messages as a conversation begins with them, and what was found in them."""
        shown = [(place, ref) for place, one in enumerate(past) for ref in one.images]
        found = await asyncio.gather(*(self._known(user, options, ref) for _, ref in shown[-LOOKED_UP:]))
        ids = [uuid4().hex for _ in past]
        findings: dict[str, Finding] = {}
        for (place, ref), outcomes in zip(shown[-LOOKED_UP:], found, strict=True):
            for outcome in outcomes:
                id = finding_id(ids[place], ref.id)
                id = f"{id}-{len(findings)}" if id in findings else id
                findings[id] = _finding(id, ids[place], ref, outcome)
        messages = [
            message("human" if one.role == "user" else "ai", one.text, [ref.id for ref in one.images])
            for one in past
        ]
        numbered = (one.model_copy(update={"id": id}) for one, id in zip(messages, ids, strict=True))
        return PastConversation(tuple(numbered), tuple(ref for _, ref in shown), findings)

    async def _known(
        self, user: str, options: Options, ref: ImageRef
    ) -> tuple[Diagnosis, ...] | tuple[Missing]:
        key = _Key(user, ref.sha256, options.task, options.group)
        known = self._found.get(key)
        if known is None:
            try:
                known = (await self._gsco.adiagnose(ref, task=options.task, group=options.group),)
            except GscoError as error:
                return (Missing(source=TOOL, reason=str(error)),)
            self._found[key] = known
        return known


def _finding(id: str, turn: str, ref: ImageRef, outcome: Diagnosis | Missing) -> Finding:
    if isinstance(outcome, Missing):
        return Finding(id=id, turn=turn, tool=TOOL, image=ref, missing=(outcome,))
    return Finding(id=id, turn=turn, tool=TOOL, image=ref, task=outcome.task, diagnosis=outcome)


def _same(one: Diagnosis, other: Diagnosis) -> bool:
    return (one.case_id, one.task) == (other.case_id, other.task)

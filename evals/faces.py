"""Whether all faces of the product give the decision that was measured.

Cases of a run are diagnosed again in Python, in a conversation, by the page's session and by the API server;
labels and probabilities must be those of the run's arm that ships.
"""

from __future__ import annotations

import asyncio
import base64
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .._support.jsonl import read_log
from .._support.progress import Progress
from ..case import Case, Diagnosis, Record
from ..errors import ConfigurationError
from .certainty import SHIPS
from .outcomes import gathered
from .records import OUTCOMES, Outcome, read_run_card

if TYPE_CHECKING:
    from ..agent.api import GSCo
    from ..case import ImageRef

AS_GOOD_AS_EQUAL = 1e-3
"""Probabilities may differ by so much: batches of other sizes sum in another order."""
USER = "faces"
QUESTION = "What is the diagnosis?"
FACES = ("python", "conversation", "page", "api")


class FaceAgreement(Record):
    """One face against the arm that ships."""

    task: str
    face: str
    cases: int
    same: int
    """Cases with the same labels and probabilities."""
    difference: float
    """Largest difference of a probability."""


@dataclass(frozen=True)
class _SampledCase:
    case: str
    group: str
    image: ImageRef
    measured: Outcome


def compare_faces(gsco: GSCo, folder: Path, *, limit: int = 100, seed: int = 0) -> list[FaceAgreement]:
    """Diagnose cases of a run again in each face.

    Args:
        gsco: with the specialists, the case store and the settings of the run. Its conversations get one
            for each case that the page is asked about, so give it a file of its own for them.
        folder: of the run.
        limit: a random sample of so many cases.
        seed: of the sample.

    Raises:
        ConfigurationError: there is no such run, or it has no case of the arm that ships.
        ImageMissing: the image store does not hold the run's images.
    """
    task, asked = _sample(gsco, folder, limit, seed)
    found = asyncio.run(_every_face(gsco, task, asked))
    return [_agreement(task, face, asked, found[face]) for face in FACES]


def _sample(gsco: GSCo, folder: Path, limit: int, seed: int) -> tuple[str, list[_SampledCase]]:
    card = read_run_card(folder)
    evidence = gathered(folder, card)
    measured = sorted(
        (
            one
            for one in read_log(folder / OUTCOMES, Outcome)
            if one.arm == SHIPS and not one.condition and card.is_current(one) and one.case in evidence
        ),
        key=lambda one: one.case,
    )
    if not measured:
        raise ConfigurationError(f"{folder} has no cases of the arm {SHIPS}: run it with that arm")
    random.Random(seed).shuffle(measured)
    return card.task.name, [
        _SampledCase(one.case, one.group, gsco.images.resolve(f"img-{evidence[one.case].sha256[:12]}"), one)
        for one in measured[:limit]
    ]


async def _every_face(
    gsco: GSCo, task: str, asked: Sequence[_SampledCase]
) -> Mapping[str, Sequence[Diagnosis | None]]:
    import httpx

    from ..agent.page.session import CaseInfo, ChatSession
    from ..agent.page.upload_store import UploadStore
    from ..agent.server.app import create_app

    with TemporaryDirectory() as uploads:
        session = ChatSession(gsco, UploadStore(Path(uploads)))
        transport = httpx.ASGITransport(create_app(gsco))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

            async def conversation(one: _SampledCase) -> Diagnosis | None:
                talk = gsco.consult(uuid.uuid4().hex, task=task, group=one.group or None, keep=False)
                return (await talk.asend(QUESTION, [one.image])).diagnosis

            async def page(one: _SampledCase) -> Diagnosis | None:
                thread, last = uuid.uuid4().hex, None
                async for update in session.take_turn(USER, thread, QUESTION, [one.image], CaseInfo(task)):
                    last = update.diagnosis or last
                return last

            async def api(one: _SampledCase) -> Diagnosis | None:
                body = {"image": _data_uri(gsco, one.image), "task": task, "group": one.group or None}
                answer = await client.post("/v1/diagnose", json=body)
                return Diagnosis.model_validate(answer.json()) if answer.is_success else None

            with Progress(f"asking every face about {task}", len(asked) * len(FACES)) as progress:
                found: dict[str, Sequence[Diagnosis | None]] = {
                    "python": await asyncio.to_thread(
                        gsco.diagnose_many,
                        [Case(id=one.case, images=(one.image,), group=one.group or None) for one in asked],
                        task=task,
                    )
                }
                progress.advance(len(asked))
                one_by_one: dict[str, Callable[[_SampledCase], Awaitable[Diagnosis | None]]] = {
                    "conversation": conversation,
                    "page": page,
                    "api": api,
                }
                for face, ask in one_by_one.items():
                    said: list[Diagnosis | None] = []
                    for one in asked:
                        said.append(await ask(one))
                        progress.advance()
                    found[face] = said
    return found


def _data_uri(gsco: GSCo, image: ImageRef) -> str:
    buffer = BytesIO()
    gsco.images.get(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _agreement(
    task: str, face: str, asked: Sequence[_SampledCase], said: Sequence[Diagnosis | None]
) -> FaceAgreement:
    same, largest = 0, 0.0
    for one, diagnosis in zip(asked, said, strict=True):
        measured = one.measured.probabilities or {}
        own = {} if diagnosis is None else diagnosis.probabilities or {}
        away = max((abs(own.get(name, 0.0) - p) for name, p in measured.items()), default=0.0)
        largest = max(largest, away)
        labels = None if diagnosis is None else set(diagnosis.labels)
        same += labels == set(one.measured.labels) and away < AS_GOOD_AS_EQUAL
    return FaceAgreement(task=task, face=face, cases=len(asked), same=same, difference=largest)

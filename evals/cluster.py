"""A run over many machines: Ray actors do the work of cases, this process hands it out and writes it down.

Each actor puts its own specialists, store and generalist together from the same settings, so that folders
and addresses that the settings name must be reachable from every machine. Images travel with their case. The
records are written here and nowhere else: what holds of a run on one machine (its order, resuming, that
nothing is lost) holds of this one too.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..case import Case, ImageRef
from ..errors import GeneralistError, ImageError
from ..tools.distributed import connected, own_error
from .arms import Arm, arms_of
from .case_runner import CaseResult, CaseRunner, CaseWork, CaseWorker
from .plan import Plan
from .records import RunCard

if TYPE_CHECKING:
    from ..agent.api import GSCo
    from ..images import ImageStore
    from ..settings import Settings

IN_HAND = 32
"""Cases that one actor has in hand at once."""
_ATTEMPTS = 3
"""How often a case is handed out again whose actor was lost, with its machine or without."""


@dataclass(frozen=True)
class RemoteCase:
    """A case on its way to another process: its images are PNG bytes."""

    work: CaseWork
    images: tuple[bytes, ...]


Builder = Callable[[], "GSCo"]
"""Puts the parts of a run together; called once in each actor."""


class ClusterWorker:
    """What runs in an actor: a desk over parts of its own.

    Args:
        build: puts them together.
        card: of the run.
        plan: how cases are diagnosed.
    """

    def __init__(self, build: Builder, card: RunCard, plan: Plan) -> None:
        self._gsco = build()
        arms = arms_of(self._gsco.specialists.members(card.task.name), list(card.arms))
        self._desk = CaseRunner(self._gsco, card, arms, plan)

    async def do(self, errand: RemoteCase) -> CaseResult:
        """Do the work of one case."""
        await asyncio.to_thread(_unpack, errand, self._gsco.images)
        return await self._desk.do(errand.work)


class Cluster:
    """The team of a Ray cluster.

    Args:
        settings: from which each actor puts its parts together.
        address: of the cluster, ``auto`` for the one that this machine belongs to, ``local`` for one that
            is started on this machine.
        workers: number of actors; 0 means one per machine.
        build: puts the parts together in their place; for parts that no settings name.
    """

    def __init__(
        self, settings: Settings | None, address: str, workers: int = 0, *, build: Builder | None = None
    ) -> None:
        if settings is None and build is None:
            raise ValueError("either settings or a function that builds the parts is needed")
        self._build = build if build is not None else _from_settings(settings)
        self._ray = connected(address)
        self._number = workers or len([node for node in self._ray.nodes() if node["Alive"]])

    def worker(self, gsco: GSCo, card: RunCard, arms: Sequence[Arm], plan: Plan) -> CaseWorker:
        """Start the actors, spread over the machines."""
        actor = self._ray.remote(ClusterWorker).options(
            max_concurrency=IN_HAND, max_restarts=-1, num_cpus=1, scheduling_strategy="SPREAD"
        )
        hands = [actor.remote(self._build, card, plan) for _ in range(self._number)]
        return _WorkerPool(self._ray, hands, gsco.images)


class _WorkerPool:
    """Hands each case to the actor that has the fewest."""

    def __init__(self, ray: Any, hands: Sequence[Any], images: ImageStore) -> None:
        self._ray, self._hands, self._images = ray, list(hands), images
        self._busy = [0] * len(self._hands)

    async def do(self, work: CaseWork) -> CaseResult:
        errand = await asyncio.to_thread(_packed, work, self._images)
        for attempt in range(_ATTEMPTS):
            place = min(range(len(self._hands)), key=lambda place: self._busy[place])
            self._busy[place] += 1
            try:
                return await self._hands[place].do.remote(errand)
            except self._ray.exceptions.RayActorError as error:
                if attempt + 1 == _ATTEMPTS:
                    raise GeneralistError(
                        f"the workers of case {work.asked.id} were lost, {_ATTEMPTS} times in a row; "
                        "look for their memory and logs, then go on with the same command"
                    ) from error
            except self._ray.exceptions.RayTaskError as error:
                raise own_error(error) from error
            finally:
                self._busy[place] -= 1
        raise AssertionError("the loop returns or raises")

    def close(self) -> None:
        for hand in self._hands:
            self._ray.kill(hand)


def _from_settings(settings: Settings | None) -> Builder:
    def build() -> GSCo:
        from ..agent.api import GSCo

        return GSCo.from_settings(settings)

    return build


def _packed(work: CaseWork, images: ImageStore) -> RemoteCase:
    """Take the images along; a case whose image is gone becomes one that has none."""
    case = work.asked.case
    if not isinstance(case, Case):
        return RemoteCase(work, ())
    try:
        return RemoteCase(work, tuple(_png(images, ref) for ref in case.images))
    except ImageError as error:
        return RemoteCase(replace(work, asked=replace(work.asked, case=error)), ())


def _png(images: ImageStore, ref: ImageRef) -> bytes:
    buffer = io.BytesIO()
    images.get(ref).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _unpack(errand: RemoteCase, images: ImageStore) -> None:
    case = errand.work.asked.case
    if isinstance(case, Case):
        for ref, content in zip(case.images, errand.images, strict=True):
            if ref not in images:
                images.put(content)

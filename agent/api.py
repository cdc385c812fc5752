"""The Python face: ``GSCo.from_settings().diagnose(image, task=…)``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, overload

from ..case import Diagnosis, Task
from ..errors import ConfigurationError, GscoError
from .background import BackgroundLoop
from .deciding import Deciding
from .intake import Asked, Intake

if TYPE_CHECKING:
    from ..graphs.collaboration import Collaboration, GatePolicy
    from ..images import ImageStore
    from ..models.generalist.protocol import Generalist
    from ..models.specialist.panel import Panel
    from ..settings import EvidencePolicy, Settings
    from ..tasks import TaskBook
    from ..tools.retrieval import Retrieval
    from ..tools.specialists import Specialists
    from ..tools.stores.protocol import CaseStore
    from .intake import CaseSource

IN_FLIGHT = 64
"""Cases that ``diagnose_many`` works on at once."""


class Policies(TypedDict, total=False):
    """What a single call may set otherwise than the settings do."""

    moed: EvidencePolicy
    """Specialists: required, used where possible, or off."""
    rad: EvidencePolicy
    """The same for similar cases."""
    gate: GatePolicy
    neighbours: int
    profile: Literal["paper", "calibrated"]
    near_duplicates: float | None
    """Known cases more similar than this are taken for copies of the case and not retrieved."""


class GSCo:
    """Diagnoses cases with a generalist, specialists and known cases.

    All of it runs in one background event loop, whichever thread asks, so that concurrent cases share
    the models' batches. Use it as a context manager, or ``close`` it. Methods may be called from any
    thread.

    Args:
        tasks: the task cards.
        panels: specialists by task name; they may be loaded at the first access.
        store: known cases, or a function that opens them.
        generalist: who decides, or a function that loads it at the first case.
        images: where images are kept.
        policies: how cases are diagnosed unless a call says otherwise.
    """

    def __init__(
        self,
        *,
        tasks: TaskBook,
        panels: Mapping[str, Panel],
        store: CaseStore | Callable[[], CaseStore],
        generalist: Generalist | Callable[[], Generalist],
        images: ImageStore,
        **policies: Unpack[Policies],
    ) -> None:
        from ..tools.retrieval import Retrieval
        from ..tools.specialists import Specialists

        self.tasks = tasks
        self.images = images
        self.panels = panels
        self.specialists: Specialists = Specialists(panels, images)
        self.retrieval: Retrieval = Retrieval(store, self.specialists)
        self._deciding = Deciding(generalist)
        self._intake = Intake(images)
        self._policies = policies
        self._loop = BackgroundLoop()

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **overrides: Any) -> Self:
        """Put together what the settings name, or else what is bundled. Models load at first use.

        Args:
            settings: None reads the environment.
            overrides: single fields of ``Settings`` that go before.

        Raises:
            ConfigurationError: a setting is wrong.
            TaskError: a task card of the user's is wrong.
        """
        from .assembly import parts_of
        from .configuration import settings_from

        if settings is None or overrides:
            settings = settings_from(**{**(dict(settings) if settings is not None else {}), **overrides})
        return cls(**parts_of(settings))

    def diagnose(
        self,
        image: CaseSource,
        *,
        task: str | Task | None = None,
        question: str | None = None,
        context: str | None = None,
        group: str | None = None,
        **policies: Unpack[Policies],
    ) -> Diagnosis:
        """Diagnose one case and wait for it.

        Args:
            image: an image, several of one case, or a ``Case``.
            task: name or card of what is asked; None lets the gate choose it from the image.
            question: for tasks that answer questions; goes before that of a ``Case``, as do the next two.
            context: clinical context; it is treated as data.
            group: patient or study pseudonym, whose known cases are not retrieved.
            policies: what this call does otherwise than the settings say.

        Raises:
            ImageError: an image cannot be used.
            TaskError: there is no such task, or the image does not fit it.
            EvidenceMissing: evidence that a policy requires cannot be had.
            GeneralistError: the generalist cannot be loaded, reached or understood.
        """
        asked = Asked(image, question, context, group)
        return self._loop.run(self._diagnose(asked, task, policies))

    async def adiagnose(
        self,
        image: CaseSource,
        *,
        task: str | Task | None = None,
        question: str | None = None,
        context: str | None = None,
        group: str | None = None,
        **policies: Unpack[Policies],
    ) -> Diagnosis:
        """Diagnose one case from any event loop; see ``diagnose``."""
        asked = Asked(image, question, context, group)
        return await asyncio.wrap_future(self._loop.submit(self._diagnose(asked, task, policies)))

    @overload
    def diagnose_many(
        self,
        cases: Sequence[CaseSource],
        *,
        task: str | Task | None = ...,
        progress: bool = ...,
        on_error: Literal["raise"] = ...,
        **policies: Unpack[Policies],
    ) -> list[Diagnosis]: ...

    @overload
    def diagnose_many(
        self,
        cases: Sequence[CaseSource],
        *,
        task: str | Task | None = ...,
        progress: bool = ...,
        on_error: Literal["return"],
        **policies: Unpack[Policies],
    ) -> list[Diagnosis | GscoError]: ...

    def diagnose_many(
        self,
        cases: Sequence[CaseSource],
        *,
        task: str | Task | None = None,
        progress: bool = False,
        on_error: Literal["raise", "return"] = "raise",
        **policies: Unpack[Policies],
    ) -> list[Diagnosis] | list[Diagnosis | GscoError]:
        """Diagnose many cases at once, in batches through specialists and generalist.

        Args:
            cases: see ``diagnose``; a question, context or group is given by a ``Case``.
            task: of all of them.
            progress: show how far it is, on stderr.
            on_error: ``raise`` stops at the first error; ``return`` puts it in the place of its case.
            policies: what this call does otherwise than the settings say.

        Returns:
            One result per case, in order.
        """
        from ..models.specialist.progress import Progress

        with Progress("diagnosing", len(cases), quiet=not progress) as shown:
            return self._loop.run(self._many(cases, task, policies, on_error == "raise", shown.advance))

    def generalist(self) -> Generalist:
        """Return the generalist, loaded.

        Raises:
            GeneralistError: it cannot be loaded or reached.
        """
        return self._deciding.generalist()

    def collaboration(self, **policies: Unpack[Policies]) -> Collaboration:
        """Return who takes part, as the runtime context of a graph of one's own.

        Raises:
            GeneralistError: the generalist cannot be loaded or reached.
        """
        self.generalist()
        return self._collaboration(None, policies)

    def close(self) -> None:
        """Cancel what still runs, and release threads and store; closing twice is harmless."""
        self._loop.close()
        self._intake.close()
        self._deciding.close()
        self.specialists.close()
        self.retrieval.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _many(
        self,
        cases: Sequence[CaseSource],
        task: str | Task | None,
        policies: Policies,
        strict: bool,
        done: Callable[[], object],
    ) -> list[Any]:
        slots = asyncio.Semaphore(IN_FLIGHT)

        async def one(case: CaseSource) -> Diagnosis | GscoError:
            async with slots:
                try:
                    return await self._diagnose(Asked(case), task, policies)
                except GscoError as error:
                    if strict:
                        raise
                    return error
                finally:
                    done()

        running = [asyncio.ensure_future(one(case)) for case in cases]
        try:
            return await asyncio.gather(*running)
        finally:
            for each in running:
                each.cancel()

    async def _diagnose(self, asked: Asked, task: str | Task | None, policies: Policies) -> Diagnosis:
        from ..graphs.diagnosis import diagnosis_graph

        start = time.perf_counter()
        name = task.name if isinstance(task, Task) else task and self.tasks.get(task).name
        case = await self._intake.case(asked)
        read = time.perf_counter()
        await self._load(name)
        collaboration = self._collaboration(task if isinstance(task, Task) else None, policies)
        timings = {"read": read - start, "load": time.perf_counter() - read}
        state = await diagnosis_graph().ainvoke(
            {"case": case, "task": name, "timings": timings}, context=collaboration
        )
        return state["diagnosis"]

    async def _load(self, task: str | None) -> None:
        """Load models that are not loaded yet, in threads, before the loop would have to wait for them."""
        await asyncio.gather(self._deciding.load(), self.specialists.load(task))

    def _collaboration(self, given: Task | None, policies: Policies) -> Collaboration:
        from ..graphs.collaboration import Collaboration
        from ..models.generalist.prompts import PROFILES

        chosen: dict[str, Any] = {**self._policies, **policies}
        name = chosen.pop("profile", "paper")
        if name not in PROFILES:
            raise ConfigurationError(f"no prompt profile {name!r}; there are: {', '.join(PROFILES)}")
        return Collaboration(
            tasks=self.tasks,
            specialists=self.specialists,
            retrieval=self.retrieval,
            choose=self._deciding.choose,
            generate=self._deciding.generate,
            generalist=self._deciding.name,
            profile=PROFILES[name],
            given=given,
            **chosen,
        )

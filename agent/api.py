"""The Python API: ``GSCo.from_settings().diagnose(image, task=…)``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, overload

from .._support.background import BackgroundLoop
from ..case import Diagnosis, Evidence, ImageRef, Task
from ..errors import ConfigurationError, GscoError, UnknownArgument
from .case_reader import CaseInput, CaseReader
from .conversation_runner import ConversationRunner
from .conversation_store import BROWSER, LOCAL, MEMORY, ConversationStore, key_of
from .generalist_pool import GeneralistPool
from .text_limits import DEFAULT_TEXT_LIMITS, TextLimits

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool

    from ..graphs.collaboration_fit import CollaborationFit
    from ..graphs.consultation_context import ConsultationContext
    from ..graphs.diagnosis_context import DiagnosisContext
    from ..graphs.drift import DriftMonitor
    from ..graphs.events import Event
    from ..graphs.fusion import RuleWanted
    from ..graphs.policy import GatePolicy
    from ..graphs.state import DiagnosisInput
    from ..graphs.system_prompts import WordingName
    from ..images import ImageStore
    from ..models.generalist.discovery import Level
    from ..models.generalist.protocol import Generalist
    from ..models.specialist.panel import Panel
    from ..models.specialist.protocol import Specialist
    from ..settings import EvidencePolicy, Settings
    from ..tasks import TaskBook
    from ..tools.retrieval import KnownCases, Retrieval
    from ..tools.specialists import Specialists
    from ..tools.stores.protocol import CaseStore
    from .case_reader import CaseSource
    from .conversation import Conversation
    from .records import ThreadRecord, ThreadSummary

IN_FLIGHT = 64
"""Cases that ``diagnose_many`` processes at once."""


class Policies(TypedDict, total=False):
    """Per-call overrides of the settings."""

    moed: EvidencePolicy
    """Specialists: required, used where possible, or off."""
    rad: EvidencePolicy
    """The same for similar cases."""
    gate: GatePolicy
    neighbours: int
    profile: str
    """Prompt profile; see ``Settings.profile``."""
    near_duplicates: float | None
    """Known cases more similar than this count as copies of the case and are not retrieved."""
    decision: RuleWanted
    """Which rule decides; see ``Settings.decision``."""
    max_error: float | None
    """Share of the answers given without review that may be wrong; see ``Settings.max_error``."""
    floors: tuple[tuple[str, float], ...]
    """By label, the share of its cases that answers given without review may miss."""


class GSCo:
    """Diagnoses cases with a generalist, specialists and known cases.

    All of it runs in one background event loop, whichever thread asks, so that concurrent cases share
    the models' batches. Use it as a context manager, or ``close`` it. Methods may be called from any
    thread.

    Args:
        tasks: the task cards.
        panels: specialists by task name; they may be loaded at the first access.
        specialists: further ones, of the caller's own; see ``gsco.Specialist``.
        store: known cases, or a function that opens them.
        generalist: a generalist, a LangChain chat model that takes images, or a function that loads the
            generalist at the first case.
        images: where images are kept.
        conversations: where they are kept: a file, ``postgresql://…``, or for this process only.
        review: where a consultation stops until a person has decided; see ``settings.ReviewReason``.
        tool_calls: how the generalist calls tools in a consultation.
        wording: what it is told in one.
        fits: what was fitted for a task, by its name.
        fit_problems: by task, why its fit cannot be read; each diagnosis of the task says so.
        monitor: watches whether the cases are still like those of the fits.
        trained_tasks: tasks that the generalist was trained on, where that is known.
        text_limits: how long questions, contexts and messages may be.
        policies: how cases are diagnosed unless a call says otherwise.
    """

    def __init__(
        self,
        *,
        tasks: TaskBook,
        panels: Mapping[str, Panel],
        store: CaseStore | Callable[[], CaseStore],
        generalist: Generalist | BaseChatModel | Callable[[], Generalist],
        images: ImageStore,
        specialists: Sequence[Specialist] = (),
        conversations: str | Path = MEMORY,
        review: Collection[str] = (),
        tool_calls: Level | Literal["auto"] = "auto",
        wording: WordingName = "auto",
        fits: Callable[[str], CollaborationFit | None] = lambda task: None,
        fit_problems: Mapping[str, str] = MappingProxyType({}),
        monitor: DriftMonitor | None = None,
        trained_tasks: frozenset[str] | None = None,
        text_limits: TextLimits = DEFAULT_TEXT_LIMITS,
        **policies: Unpack[Policies],
    ) -> None:
        from ..tools.retrieval import Retrieval
        from ..tools.specialists import Specialists

        check_policies(policies)
        if specialists:
            from ..models.specialist.adapter import ExtendedPanels

            panels = ExtendedPanels(panels, specialists, tasks)
        self.tasks = tasks
        self.images = images
        self.panels = panels
        self.specialists: Specialists = Specialists(panels, images)
        self.retrieval: Retrieval = Retrieval(store, self.specialists)
        self.fits = fits
        self._fit_problems = fit_problems
        self.monitor = monitor
        self._trained_tasks = trained_tasks
        self._deciding = GeneralistPool(_generalist(generalist, images))
        self._intake = CaseReader(images)
        self._policies = policies
        self._review = frozenset(review)
        self._tool_calls: Level | Literal["auto"] = tool_calls
        self._wording: WordingName = wording
        self.text_limits = text_limits
        self._passing = ConversationRunner(ConversationStore(MEMORY), self._consulting)
        self._desk = ConversationRunner(
            ConversationStore(conversations), self._consulting, images, [self._passing.threads]
        )
        self._loop = BackgroundLoop()

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        generalist: Generalist | BaseChatModel | None = None,
        specialists: str | Path | Sequence[Specialist] | None = None,
        case_store: str | Path | CaseStore | None = None,
        tasks: str | Path | Sequence[Task] | None = None,
        **overrides: Any,
    ) -> Self:
        """Build the installation that the settings name; bundled parts by default. Models load at first use.

        Args:
            settings: None reads the environment.
            generalist: replaces the one that the settings name: any LangChain chat model that takes
                images, with its callbacks and tags, or a ``Generalist``.
            specialists: objects of the caller's own that are asked beside the others (``gsco.Specialist``);
                or a folder, as in the settings.
            case_store: an open store (``gsco.CaseStore``), or an address, as in the settings.
            tasks: task cards made in Python, or a folder, as in the settings.
            overrides: further fields of ``Settings``.

        Raises:
            UnknownArgument: there is no such setting.
            ConfigurationError: a setting is wrong, or a specialist does not fit the protocol.
            TaskError: a task card of the user's is wrong.

        Example:
            ```python
            gsco = GSCo.from_settings(generalist=ChatAnthropic(model="…"), specialists=[MySpecialist()])
            diagnosis = gsco.diagnose("scan.png", task="chest_xray")
            ```
        """
        from .assembly import parts_of
        from .configuration import settings_from

        own = {"specialists": specialists, "case_store": case_store, "tasks": tasks}
        overrides |= {name: value for name, value in own.items() if isinstance(value, str | Path)}
        if settings is None or overrides:
            settings = settings_from(**{**(dict(settings) if settings is not None else {}), **overrides})
        objects: dict[str, Any] = {
            name: value for name, value in own.items() if not isinstance(value, str | Path | None)
        }
        parts = parts_of(settings, **objects)
        if generalist is not None:
            parts |= {"generalist": generalist, "trained_tasks": None}
        return cls(**parts)

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
            TextTooLong: question or context is over the limit on characters.
            TaskError: there is no such task, or the image does not fit it.
            EvidenceMissing: evidence that a policy requires is not available.
            GeneralistError: the generalist cannot be loaded, reached or understood.
        """
        asked = CaseInput(image, question, context, group)
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
        asked = CaseInput(image, question, context, group)
        return await asyncio.wrap_future(self._loop.submit(self._diagnose(asked, task, policies)))

    async def aevidence(
        self,
        image: CaseSource,
        *,
        task: str | Task | None = None,
        group: str | None = None,
        **policies: Unpack[Policies],
    ) -> Evidence:
        """Gather what specialists and similar cases say, without a decision; no generalist is loaded.

        See ``diagnose`` for the arguments and errors.
        """
        asked = CaseInput(image, None, None, group)
        return await asyncio.wrap_future(self._loop.submit(self._evidence(asked, task, policies)))

    @overload
    def diagnose_many(
        self,
        cases: Sequence[CaseSource],
        *,
        task: str | Task | None = ...,
        question: str | None = ...,
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
        question: str | None = ...,
        progress: bool = ...,
        on_error: Literal["return"],
        **policies: Unpack[Policies],
    ) -> list[Diagnosis | GscoError]: ...

    def diagnose_many(
        self,
        cases: Sequence[CaseSource],
        *,
        task: str | Task | None = None,
        question: str | None = None,
        progress: bool = False,
        on_error: Literal["raise", "return"] = "raise",
        **policies: Unpack[Policies],
    ) -> list[Diagnosis] | list[Diagnosis | GscoError]:
        """Diagnose many cases at once, in batches through specialists and generalist.

        Args:
            cases: see ``diagnose``; a context or group is given by a ``Case``.
            task: of all of them.
            question: put to all of them; None leaves that of each ``Case``.
            progress: show how far it is, on stderr.
            on_error: ``raise`` stops at the first error, whose ``results`` hold what was done until then;
                ``return`` puts it in the place of its case.
            policies: what this call does otherwise than the settings say.

        Returns:
            One result per case, in order.

        Example:
            try:
                diagnoses = gsco.diagnose_many(images, task="chest_xray")
            except GscoError as error:  # the server died, say
                done = [diagnosis for diagnosis in error.results if diagnosis is not None]
        """
        from .._support.progress import Progress

        asked = [CaseInput(case, question) for case in cases]
        with Progress("diagnosing", len(cases), quiet=not progress) as shown:
            return self._loop.run(self._many(asked, task, policies, on_error == "raise", shown.advance))

    def astream(
        self,
        image: CaseSource,
        *,
        task: str | Task | None = None,
        question: str | None = None,
        context: str | None = None,
        group: str | None = None,
        **policies: Unpack[Policies],
    ) -> AsyncIterator[Event]:
        """Diagnose one case and get evidence as it arrives; see ``diagnose`` for the arguments.

        Yields:
            ``EvidenceArrived`` events, ``Text`` for open tasks, and ``Final`` with the diagnosis.
        """
        asked = CaseInput(image, question, context, group)
        return self._loop.stream(self._unfolded(asked, task, policies))

    def consult(
        self,
        thread_id: str | None = None,
        *,
        user: str = LOCAL,
        task: str | None = None,
        group: str | None = None,
        context: str | None = None,
        keep: bool = True,
    ) -> Conversation:
        """Begin a conversation about a case, or continue one.

        Args:
            thread_id: its name; None makes up a new one. Conversations of different users never meet,
                whatever they are called.
            user: whose it is.
            task: what tools are about where a call names no task.
            group: patient or study pseudonym, whose known cases are not retrieved.
            context: clinical context; it is treated as data.
            keep: whether it is kept where conversations are kept, or in this process only.

        Raises:
            ThreadError: a name is not one.
            TaskUnknown: there is no such task.
        """
        from uuid import uuid4

        from .conversation import Conversation

        if task is not None:
            self.tasks.get(task)
        about = {"task": task, "group": group, "context": context}
        key = key_of(user, uuid4().hex if thread_id is None else thread_id)
        desk = self._desk if keep else self._passing
        return Conversation(key, desk, self._intake, self._loop, about, self.text_limits)

    def threads(self, *, user: str = LOCAL) -> list[ThreadSummary]:
        """List a user's conversations, the latest first."""
        return self._loop.run(self._threads(user))

    async def athreads(self, *, user: str = LOCAL) -> list[ThreadSummary]:
        """See ``threads``."""
        return await asyncio.wrap_future(self._loop.submit(self._threads(user)))

    def local_threads(self) -> list[ThreadSummary]:
        """List the conversations of this machine's owner, the latest first: without a user, and on the page.

        Without keys the page gives each browser a name of its own; whoever may read the files owns them all.
        """
        return self._loop.run(self._local_threads())

    async def areviews(self, *, reviewer: str) -> list[ThreadSummary]:
        """List other users' conversations that wait for a person's decision, the latest first.

        Who may see them is for the caller to check; see ``agent.reviewers``.
        """
        return await asyncio.wrap_future(self._loop.submit(self._reviews(reviewer)))

    def export_thread(self, thread_id: str, *, user: str = LOCAL) -> ThreadRecord:
        """A whole conversation as a record; see ``Conversation.export``."""
        return self.consult(thread_id, user=user).export()

    def delete_thread(self, thread_id: str, *, user: str = LOCAL) -> None:
        """Delete a conversation; see ``Conversation.delete``."""
        self.consult(thread_id, user=user).delete()

    def tools(self, images: Sequence[ImageRef] | None = None) -> list[BaseTool]:
        """The tools for your own LangChain agent; they are asynchronous.

        Args:
            images: that may be asked about, the latest last; None allows all of the store.

        Raises:
            GeneralistError: the generalist cannot be loaded or reached.
        """
        return self._loop.run(self._tools(images))

    async def atools(self, images: Sequence[ImageRef] | None = None) -> list[BaseTool]:
        """See ``tools``."""
        return await asyncio.wrap_future(self._loop.submit(self._tools(images)))

    @property
    def reviews(self) -> bool:
        """Whether consultations may stop until a person has decided."""
        return bool(self._review)

    @property
    def bundled(self) -> bool:
        """Whether the generalist is the small bundled one, wherever it runs; it is loaded to know.

        Raises:
            GeneralistError: it cannot be loaded or reached.
        """
        from ..models.mini import NAMES

        return self.generalist().name.partition(" ")[0] in NAMES

    def load(self) -> None:
        """Load all models and open the store now, rather than at the first case.

        Raises:
            GeneralistError: the generalist cannot be loaded or reached.
            StoreError: the case store cannot be opened.
        """
        self._loop.run(self._load(None))
        self.retrieval.store()

    def generalist(self) -> Generalist:
        """Return the generalist, loaded.

        Raises:
            GeneralistError: it cannot be loaded or reached.
        """
        return self._deciding.generalist()

    def collaboration(self, **policies: Unpack[Policies]) -> DiagnosisContext:
        """Return who takes part, as the runtime context of your own graph.

        The generalist is loaded where a graph asks it (``DiagnosisContext.load_generalist``).
        """
        return self._collaboration(None, policies)

    def known_cases(self, task: str, neighbours: int) -> KnownCases:
        """What is known about a task's cases as a whole.

        Args:
            task: its name.
            neighbours: so many of them vote on each other, to tell how reliable they are.

        Raises:
            StoreError: the case store cannot be read.
            SpecialistError: the encoder that finds them is not there.
        """
        return self._loop.run(self.retrieval.known(task, neighbours))

    def consulting(self, **policies: Unpack[Policies]) -> ConsultationContext:
        """Return who takes part in a consultation, as the runtime context of your own graph.

        Raises:
            GeneralistError: the generalist cannot be loaded or reached.
        """
        return self._consultation_context(self.collaboration(**policies))

    def close(self) -> None:
        """Cancel running work and release threads and store; closing twice is harmless."""
        self._loop.close(self._desk.threads.close)
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
        cases: Sequence[CaseInput],
        task: str | Task | None,
        policies: Policies,
        strict: bool,
        done: Callable[[], object],
    ) -> list[Diagnosis | GscoError]:
        slots = asyncio.Semaphore(IN_FLIGHT)
        results: list[Any] = [None] * len(cases)

        async def one(place: int, case: CaseInput) -> None:
            async with slots:
                try:
                    results[place] = await self._diagnose(case, task, policies)
                except GscoError as error:
                    if strict:
                        raise
                    results[place] = error
                finally:
                    done()

        running = [asyncio.ensure_future(one(place, case)) for place, case in enumerate(cases)]
        try:
            await asyncio.gather(*running)
            return results
        except GscoError as error:
            error.results = tuple(results)
            known = sum(result is not None for result in results)
            error.add_note(f"{known} of {len(cases)} cases were diagnosed before; they are in error.results")
            raise
        finally:
            for each in running:
                each.cancel()

    async def _diagnose(self, asked: CaseInput, task: str | Task | None, policies: Policies) -> Diagnosis:
        from ..graphs.diagnosis import diagnosis_graph

        given, collaboration = await self._prepared(asked, task, policies)
        case = given.get("case")
        with self.images.held(case.images if case else (), case.group if case else None):
            state = await diagnosis_graph().ainvoke(given, context=collaboration)
        return state["diagnosis"]

    async def _evidence(self, asked: CaseInput, task: str | Task | None, policies: Policies) -> Evidence:
        from ..graphs.diagnosis import diagnosis_graph

        given, collaboration = await self._prepared(asked, task, policies)
        collaboration = replace(collaboration, evidence_only=True)
        state = await diagnosis_graph().ainvoke(given, context=collaboration)
        return state["evidence"]

    async def _unfolded(
        self, asked: CaseInput, task: str | Task | None, policies: Policies
    ) -> AsyncIterator[Event]:
        from ..graphs.events import Final, Text
        from ..graphs.progress import unfold

        given, collaboration = await self._prepared(asked, task, policies)
        case = given.get("case")
        with self.images.held(case.images if case else (), case.group if case else None):
            async for step in unfold(given, collaboration):
                if not isinstance(step, Diagnosis):
                    yield step
                    continue
                if step.text:
                    yield Text(text=step.text)
                yield Final(text=step.text or "", diagnosis=step, diagnoses=(step,))

    async def _prepared(
        self, asked: CaseInput, task: str | Task | None, policies: Policies
    ) -> tuple[DiagnosisInput, DiagnosisContext]:
        check_policies(policies)
        start = time.perf_counter()
        name = task.name if isinstance(task, Task) else task and self.tasks.get(task).name
        case = await self._intake.case(asked)
        self.text_limits.check((case.question, case.context))
        read = time.perf_counter()
        await self.specialists.load(name)
        collaboration = self._collaboration(task if isinstance(task, Task) else None, policies)
        timings = {"read": read - start, "load": time.perf_counter() - read}
        return {"case": case, "task": name, "timings": timings}, collaboration

    async def _threads(self, user: str) -> list[ThreadSummary]:
        from .records import summary_of

        key_of(user, "any")
        return [summary_of(found) async for found in self._desk.threads.of(user)]

    async def _local_threads(self) -> list[ThreadSummary]:
        from .records import summary_of

        found = [summary_of(one) async for one in self._desk.threads.of(None)]
        return [one for one in found if one.user == LOCAL or one.user.startswith(BROWSER)]

    async def _reviews(self, reviewer: str) -> list[ThreadSummary]:
        from .records import summary_of

        found = [summary_of(one) async for one in self._desk.threads.of(None)]
        return [one for one in found if one.status == "review" and one.user != reviewer]

    async def _tools(self, images: Sequence[ImageRef] | None) -> list[BaseTool]:
        consulting = await self._consulting()
        toolbox = consulting.toolbox({"images": tuple(images or ())}, confined=images is not None)
        return [self._anywhere(tool) for tool in toolbox.tools()]

    def _anywhere(self, tool: Any) -> BaseTool:
        """A tool that may be called in any event loop."""

        async def call(**arguments: object) -> object:
            return await asyncio.wrap_future(self._loop.submit(tool.coroutine(**arguments)))

        return tool.model_copy(update={"coroutine": call})

    async def _consulting(self) -> ConsultationContext:
        await self._load(None)
        # In a thread: how tools are called is asked of the server.
        return await asyncio.to_thread(self._consultation_context, self._collaboration(None, {}))

    def _consultation_context(self, collaboration: DiagnosisContext) -> ConsultationContext:
        from ..graphs.consultation_context import ConsultationContext
        from ..graphs.system_prompts import converses, level_of, wording_for

        generalist = self._deciding.generalist()
        return ConsultationContext(
            collaboration=collaboration,
            generalist=generalist,
            images=self.images,
            wording=wording_for(generalist, self._wording),
            level=level_of(generalist, self._tool_calls),
            converses=converses(generalist),
            review=self._review,
        )

    async def _load(self, task: str | None) -> None:
        """Load models that are not loaded yet, in threads, before the loop would have to wait for them."""
        await asyncio.gather(self._deciding.load(), self.specialists.load(task))

    def _collaboration(self, given: Task | None, policies: Policies) -> DiagnosisContext:
        from ..graphs.diagnosis_context import DiagnosisContext
        from ..models.generalist.prompts import prompt_profile

        chosen: dict[str, Any] = {**self._policies, **policies}
        profile = prompt_profile(chosen.pop("profile", "paper"))
        return DiagnosisContext(
            tasks=self.tasks,
            specialists=self.specialists,
            retrieval=self.retrieval,
            choose=self._deciding.choose,
            generate=self._deciding.generate,
            load_generalist=self._deciding.load,
            generalist_name=lambda: self._deciding.name,
            fits=self.fits,
            fit_problems=self._fit_problems,
            monitor=self.monitor,
            trained_tasks=self._trained_tasks,
            profile=profile,
            pictures=self.images.passing,
            given=given,
            **chosen,
        )


def check_policies(policies: Mapping[str, object]) -> None:
    """Check the names of policies.

    Raises:
        UnknownArgument: there is no such policy.
    """
    known = Policies.__annotations__
    if unknown := [name for name in policies if name not in known]:
        arguments = ("task", "question", "context", "group", *known)
        raise UnknownArgument.of(unknown, arguments, "argument")


def _generalist(
    given: Generalist | BaseChatModel | Callable[[], Generalist], images: ImageStore
) -> Generalist | Callable[[], Generalist]:
    """A generalist of the caller's, or the function that loads one; a chat model is made one."""
    from ..models.generalist.protocol import Generalist as Protocol

    if isinstance(given, Protocol) or not hasattr(given, "invoke"):
        if not isinstance(given, Protocol) and not callable(given):
            raise ConfigurationError(
                f"generalist must be a LangChain chat model or a gsco generalist, not {type(given).__name__};"
                " a server is named by generalist_url and generalist_model"
            )
        return given  # type: ignore[return-value]
    from ..models.generalist.langchain_model import LangChainGeneralist

    return LangChainGeneralist(given, images)  # type: ignore[arg-type]

"""The functions that a generalist calls: what each takes, and how its result reads.

They stand here, below the tools that carry them out, because a generalist learns to call them: its
training and its tools must speak of them in the same words. A function takes the id of an image, never a
path or an address.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from ...case import Diagnosis, Missing, Opinion, Review, SimilarCase, Task
from .messages import neutralise, quote

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

MOST_NEIGHBOURS = 50
MOST_PROBABILITIES = 3
"""So many options of an opinion are listed with their probability, the likeliest first."""
REPORT_CHARACTERS = 400


@dataclass(frozen=True)
class Function:
    """What a model is told about a function."""

    name: str
    description: str
    arguments: type[BaseModel]


def _image_id(value: str) -> str:
    if not value.startswith("img-") or not value[4:].isalnum():
        raise ValueError(
            "this is not an image id; give the id of an image of this conversation, such as "
            "img-0123456789ab, never a path or an address"
        )
    return value


ImageId = Annotated[str, AfterValidator(_image_id)]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


def functions(tasks: Sequence[Task], default: str | None = None) -> dict[str, Function]:
    """The functions by name, as the bundled generalist is trained on them.

    Args:
        tasks: that can be named; their modality and options are told, so that the right one is found.
        default: the task of calls that name none; without one a call must.
    """
    return dict(_functions(tuple(task.name for task in tasks), described(tasks), default))


@lru_cache(maxsize=64)  # pydantic takes longer to make the arguments' classes than most tools to answer
def _functions(names: tuple[str, ...], about: str, default: str | None) -> dict[str, Function]:
    kind: object = Literal[names] if names else str
    start: object = ... if default is None else default
    task = (kind, Field(default=start, description=about))
    same = (kind, Field(default=start, description="As in classify."))
    image = _image()
    several = (
        list[str],
        Field(default_factory=list, description="Names of specialists; empty asks all."),
    )
    count = (int, Field(default=10, ge=1, le=MOST_NEIGHBOURS, description="How many cases at most."))
    encoder = (str, Field(default="", description="Whose space; leave it out for the task's own."))

    found = (
        Function(
            "classify",
            "Ask the specialist classifiers of a task about an image.",
            arguments("classify", image=image, task=task, specialists=several),
        ),
        Function(
            "retrieve_cases",
            "Find the known cases whose images are most similar.",
            arguments("retrieve_cases", image=image, task=same, k=count, encoder=encoder),
        ),
        Function(
            "diagnose",
            "Diagnose an image with specialists, similar cases and your own view together.",
            arguments("diagnose", image=image, task=same),
        ),
        Function("list_tasks", "List the tasks.", arguments("list_tasks")),
    )
    return {function.name: function for function in found}


def further_functions(reports: Sequence[Task] = ()) -> dict[str, Function]:
    """Functions for models that can do more with an image than choose; the bundled one cannot.

    Args:
        reports: tasks whose answer is a report.
    """
    return dict(_further_functions(described(reports)))


@lru_cache(maxsize=64)
def _further_functions(reports: str) -> dict[str, Function]:
    which = f"Which report: {reports}; leave it out where there is only one."
    task = (str, Field(default="", description=which))
    found = (
        Function(
            "describe",
            "Look at an image once more on its own and describe what it shows.",
            arguments("describe", image=_image()),
        ),
        Function(
            "report",
            "Write a report of an image, with the reports of similar cases at hand.",
            arguments("report", image=_image(), task=task),
        ),
    )
    return {function.name: function for function in found}


def arguments(name: str, **fields: Any) -> type[BaseModel]:
    """The arguments of a function; an argument that it does not have is an error."""
    return create_model(name, __base__=_Arguments, **fields)


def _image() -> tuple[object, object]:
    return (ImageId, Field(default="", description="Id of an image; leave it out for the latest one."))


def declared(function: Function, carried_out: Callable[..., Awaitable[object]] | None = None) -> BaseTool:
    """A function as a LangChain tool; without what carries it out, it can be shown to a model only."""
    from langchain_core.tools import StructuredTool, ToolException

    def absent(**_: object) -> str:
        raise ToolException(f"the tool {function.name} is not available here")

    return StructuredTool(
        name=function.name,
        description=function.description,
        args_schema=function.arguments,
        func=None if carried_out else absent,
        coroutine=carried_out,
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=_explain,
    )


def described(tasks: Iterable[Task], between: str = "; ") -> str:
    """Tasks by name, modality and options."""
    return between.join(f"{task.name}: {task.modality} ({_options(task)})" for task in tasks)


def classified(outcomes: Sequence[Opinion | Missing]) -> str:
    """What ``classify`` found, one specialist per line."""
    return "\n".join(map(sentence, outcomes))


def retrieved(cases: Sequence[SimilarCase]) -> str:
    """What ``retrieve_cases`` found, numbered, the most similar first."""
    return "\n".join(
        f"{rank}. {_labels(case)}, similarity {case.similarity:.2f}"
        + (f", report: {quote(case.report, REPORT_CHARACTERS)}" if case.report else "")
        for rank, case in enumerate(cases, start=1)
    )


def diagnosed(diagnosis: Diagnosis) -> str:
    """What ``diagnose`` found: the decision, then what it rests on."""
    evidence = diagnosis.evidence
    parts = [f"diagnosis: {', '.join(diagnosis.labels) or diagnosis.text or 'none'}"]
    if diagnosis.probabilities:
        parts.append(f"probabilities: {_probabilities(diagnosis.probabilities.items(), None)}")
    if diagnosis.abstained:
        parts.append("abstained: a person must decide")
    if diagnosis.review is not None:
        parts.append(reviewed(diagnosis.review))
    said = (*evidence.opinions, *evidence.missing)
    if said:
        parts.append(f"specialists:\n{classified(said)}")
    if evidence.similar_cases:
        parts.append(f"similar cases:\n{retrieved(evidence.similar_cases)}")
    return "\n".join(parts)


def reviewed(review: Review) -> str:
    """What a person decided on a diagnosis."""
    labels = ", ".join(review.decision.labels)
    done = {
        "approve": "a person approved this",
        "edit": f"a person corrected this to {labels}",
        "reject": "a person rejected this",
    }[review.decision.action]
    reason = f": {quote(review.decision.reason, REPORT_CHARACTERS)}" if review.decision.reason else ""
    return f"{done}{reason}"


def sentence(outcome: Opinion | Missing) -> str:
    """One specialist's opinion, or why there is none."""
    if isinstance(outcome, Missing):
        return f"{outcome.source.removeprefix('specialist:')}: no opinion ({outcome.reason})"
    trust = "" if outcome.reliability is None else f"; reliability {outcome.reliability:.0%}"
    said = ", ".join(outcome.labels) or outcome.text or "none of the options"
    numbers = _probabilities(outcome.probabilities.items(), MOST_PROBABILITIES) or "no probabilities"
    return f"{outcome.specialist}: {said} ({numbers}{trust})"


def _explain(error: object) -> str:
    """Say to the model which argument is wrong and why."""
    if not isinstance(error, ValidationError):
        return str(error)
    faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return f"wrong arguments: {'; '.join(faults)}"


def _labels(case: SimilarCase) -> str:
    # A store may hold anything: a label is one line without control tokens, as all that is data.
    return " ".join(neutralise(", ".join(case.labels)).split()) or "none of the options"


def _options(task: Task) -> str:
    return ", ".join(task.options) or task.kind.value.replace("_", " ")


def _probabilities(pairs: Iterable[tuple[str, float]], most: int | None) -> str:
    ranked = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:most]
    return ", ".join(f"{label} {value:.0%}" for label, value in ranked)

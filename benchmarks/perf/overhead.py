"""What graph, prompts and evidence cost per case, over the bare model calls.

The models answer from memory here, so that nothing but the work around them is timed: the networks'
embeddings of the one image are remembered, and the generalist is a stand-in that answers at once. What
the bare calls do (the specialists' heads and the search) is timed on its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from operator import add
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from .pictures import fresh_cases
from .timing import Race, print_table, race

if TYPE_CHECKING:
    from ...agent.api import GSCo
    from ...case import Answer, Case
    from ...graphs.diagnosis_context import DiagnosisContext
    from ...models.generalist.protocol import Choice

CASES = 100
LIMIT_MS = 5.0
"""``diagnosis graph`` may take so much longer than ``bare calls``."""
BARE = "bare calls: heads and search"
EMPTY = "empty graph of the same shape"
GRAPH = "diagnosis graph"


async def _instantly(choice: Choice) -> Answer:
    """Answer at once, in place of the generalist."""
    from ...case import Answer

    share = 1 / len(choice.options)
    return Answer(labels=choice.options[:1], probabilities=dict.fromkeys(choice.options, share))


async def bare(case: Case, task: str, collaboration: DiagnosisContext) -> object:
    """Ask specialists and store, and nobody else."""
    specialists, retrieval = collaboration.specialists, collaboration.retrieval
    return await asyncio.gather(
        *(specialists.opinion(task, name, case.images) for name in specialists.members(task)),
        retrieval.surroundings(case.images, 10),
        retrieval.similar(case.images, task, collaboration.neighbours),
    )


async def graph(case: Case, task: str, collaboration: DiagnosisContext) -> object:
    """Run the diagnosis graph."""
    from ...graphs.diagnosis import diagnosis_graph

    return await diagnosis_graph().ainvoke({"case": case, "task": task}, context=collaboration)


class _Nothing(TypedDict):
    case: object
    found: Annotated[tuple[int, ...], add]


def empty_graph(branches: int) -> Any:
    """Compile a graph of the same shape whose nodes do nothing."""
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    async def nothing(state: Any) -> dict[str, Any]:
        return {"found": (1,)}

    made = StateGraph(_Nothing)
    for name in ("gate", "moed", "rad", "decide"):
        made.add_node(name, nothing)
    made.add_node("ask", nothing, defer=True)
    made.add_edge(START, "gate")
    made.add_conditional_edges(
        "gate",
        lambda state: [*(Send("moed", state) for _ in range(branches)), Send("rad", state)],
        ["moed", "rad"],
    )
    for start, end in (("moed", "ask"), ("rad", "ask"), ("ask", "decide"), ("decide", END)):
        made.add_edge(start, end)
    return made.compile()


def contenders(
    loop: asyncio.AbstractEventLoop, case: Case, task: str, collaboration: DiagnosisContext, number: int
) -> dict[str, Callable[[], object]]:
    """Name what is compared; each does its work ``number`` times."""
    empty = empty_graph(len(collaboration.specialists.members(task)))

    def times(work: Callable[[], Awaitable[object]]) -> Callable[[], object]:
        async def repeat() -> None:
            for _ in range(number):
                await work()

        return lambda: loop.run_until_complete(repeat())

    return {
        BARE: times(lambda: bare(case, task, collaboration)),
        EMPTY: times(lambda: empty.ainvoke({"case": case, "found": ()})),
        GRAPH: times(lambda: graph(case, task, collaboration)),
    }


def measure(gsco: GSCo, task: str = "brain_mri", number: int = CASES, rounds: int = 7) -> Race:
    """Let them take turns with one case that all models have seen."""
    from ...case import Case

    image = gsco.images.put(fresh_cases(1, task)[0])
    collaboration = replace(gsco.collaboration(gate="warn"), choose=_instantly)
    loop = asyncio.new_event_loop()
    try:
        case = Case(id=image.id, images=(image,))
        return race(contenders(loop, case, task, collaboration, number), rounds=rounds)
    finally:
        loop.close()


def report(result: Race, number: int) -> None:
    """Print the table."""
    bare_ms = 1000 * result.median(BARE) / number
    rows = []
    for name in result.seconds:
        ms = 1000 * result.median(name) / number
        over = "" if name in (BARE, EMPTY) else f"{ms - bare_ms:.2f}"
        limit = f"{LIMIT_MS:.0f}" if name == GRAPH else ""
        rows.append((name, f"{ms:.2f}", over, f"{1 / result.speed(name, EMPTY):.2f}", limit))
    headings = ("per case", "ms", "ms over bare calls", "times the empty graph", "limit (ms over)")
    note = f"One case, {number} times per turn, models answering from memory; median of the turns."
    print_table("Overhead", headings, rows, note=note)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure the bundled panel and bank and print the table."""
    from ...agent.api import GSCo

    with TemporaryDirectory() as home, GSCo.from_settings(home=Path(home)) as gsco:
        report(measure(gsco), CASES)


if __name__ == "__main__":
    main()

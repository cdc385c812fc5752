"""Many cases at once against one by one, and against the bare models fed in batches."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .pictures import fresh_cases
from .timing import Race, print_table, race

if TYPE_CHECKING:
    from ...agent.api import GSCo

CASES = 200
GOAL = 3.0
"""``diagnose_many`` is to be so many times as fast as one case after another."""
ONE_BY_ONE = "diagnose, one by one"
MANY = "diagnose_many"
BARE = "bare models in batches"


def contenders(gsco: GSCo, task: str, number: int, turns: int) -> dict[str, Callable[[], object]]:
    """Name what is compared; each works on fresh images, which are made before the time is taken."""
    cases = iter([fresh_cases(number, task) for _ in range(3 * turns)])
    return {
        ONE_BY_ONE: lambda: [gsco.diagnose(case, task=task, gate="warn") for case in next(cases)],
        MANY: lambda: gsco.diagnose_many(next(cases), task=task, gate="warn"),
        BARE: lambda: bare(gsco, task, next(cases)),
    }


def bare(gsco: GSCo, task: str, files: Sequence[bytes]) -> object:
    """Read, classify, search and decide with nothing in between: the limit of what a batch can gain."""
    from ...case import Case
    from ...models.generalist.prompts import PROFILES
    from ...models.generalist.protocol import Choice
    from ...tools.stores.protocol import Filter

    images = [gsco.images.put(file) for file in files]
    pixels = [gsco.images.get(image) for image in images]
    panel, card, store = gsco.panels[task], gsco.tasks.get(task), gsco.retrieval.store()
    forwards = panel.forward(pixels, batch_size=32)
    retriever = panel.members[panel.retriever]
    found = store.search(
        forwards[retriever.name].embeddings, retriever.card.encoder, 10, where=Filter((task,))
    )
    profile = PROFILES["calibrated"]
    asked = [
        Choice(
            profile.closed_messages(
                card,
                Case(id=image.id, images=(image,)),
                [panel.members[name].opinion(forward, place) for name, forward in forwards.items()],
                found[place],
            ),
            card.options,
        )
        for place, image in enumerate(images)
    ]
    generalist = gsco.generalist()
    size = generalist.batch_size
    return [generalist.choose(asked[start : start + size]) for start in range(0, len(asked), size)]


def measure(gsco: GSCo, task: str = "brain_mri", number: int = CASES, rounds: int = 3) -> Race:
    """Let them take turns; before that each goes once over a few cases."""
    race(contenders(gsco, task, 8, 1), rounds=1, warmup=0)
    return race(contenders(gsco, task, number, rounds), rounds=rounds, warmup=0)


def report(result: Race, number: int) -> None:
    """Print the table."""
    rows = [
        (
            name,
            f"{1000 * result.median(name) / number:.1f}",
            f"{result.speed(name, ONE_BY_ONE):.2f}",
            f"{GOAL:.1f}" if name == MANY else "",
        )
        for name in result.seconds
    ]
    headings = ("way", "ms per case", "times as fast as one by one", "goal")
    turns = len(result.seconds[MANY])
    note = f"{number} fresh JPEG images per turn, bundled models; median of {turns} turns each."
    print_table("Many cases", headings, rows, note=note)


def main(arguments: Sequence[str] | None = ()) -> None:
    """Measure the bundled models and print the table."""
    from ...agent.api import GSCo

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", default="brain_mri")
    asked = parser.parse_args(arguments)
    with TemporaryDirectory() as home, GSCo.from_settings(home=Path(home)) as gsco:
        report(measure(gsco, asked.task, asked.cases, asked.rounds), asked.cases)


if __name__ == "__main__":
    main(None)

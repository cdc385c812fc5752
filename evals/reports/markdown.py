"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ...case import DISCLAIMER
from .blocks import Block, Listing, ReportTable, sections, together, verdict, verdict_together
from .conditions import condition_blocks

if TYPE_CHECKING:
    from .contents import Report


def markdown(given: Report) -> str:
    """Write a report as one Markdown text."""
    lines = ["# Replay", "", DISCLAIMER, ""]
    if given.overall is not None:
        said = f"**{verdict_together(given.overall)}**"
        lines += ["## All sets", "", *written([said, *together(given.overall)])]
    for one in given.runs:
        said = [f"**{text}**"] if (text := verdict(one)) else []
        lines += [f"## {one.run.task.name}", "", *written([*said, *sections(one), *condition_blocks(one)])]
    return "\n".join(lines)


def written(blocks: Iterable[Block]) -> Iterator[str]:
    """Yield the lines of blocks, with an empty one after each."""
    for block in blocks:
        if isinstance(block, ReportTable):
            yield from _table(block)
        elif isinstance(block, Listing):
            yield from (f"- {entry}" for entry in block.entries)
        else:
            yield block
        yield ""


def _table(table: ReportTable) -> Iterator[str]:
    yield f"| {' | '.join(table.headings)} |"
    yield "|" + "---|" * len(table.headings)
    for row in table.rows:
        cells = (cell.replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"

"""The data sets that are known by name: the paper's benchmarks, and the open sets that gsco is run on."""

from __future__ import annotations

import difflib
import tomllib
from functools import cache
from pathlib import Path

from ...errors import ConfigurationError
from .entry import DatasetEntry, Edition

ENTRIES = Path(__file__).parent / "entries"


def entries() -> dict[str, DatasetEntry]:
    """Every entry, by name."""
    return dict(_entries())


def entry(name: str) -> DatasetEntry:
    """Return an entry.

    Raises:
        ConfigurationError: there is none of that name; the message lists near ones.
    """
    known = _entries()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(known))}"
    raise ConfigurationError(f"there is no data set named {name!r}, and there is no such path; {hint}")


def edition_in(folder: Path, found: DatasetEntry) -> Edition:
    """Tell in which of its published forms a set lies in a folder.

    Raises:
        ConfigurationError: in none of them; the message says what each one needs and what is missing.
    """
    lacking = {one.name: [need for need in one.needs if not _has(folder, need)] for one in found.editions}
    for one in found.editions:
        if not lacking[one.name]:
            return one
    wanted = "; ".join(f"edition {name!r} lacks {', '.join(needs)}" for name, needs in lacking.items())
    raise ConfigurationError(f"{folder} is not {found.title}: {wanted}. {how_to_get(found)}")


def how_to_get(found: DatasetEntry) -> str:
    """Say where a set comes from."""
    access = {
        "open": "It is open",
        "registration": "It asks for a registration",
        "agreement": "It asks for a data use agreement",
        "not published": "It is not published",
    }[found.access]
    return f"{access} ({found.licence}): {found.source}"


def _has(folder: Path, pattern: str) -> bool:
    return next(iter(folder.glob(pattern)), None) is not None


@cache
def _entries() -> dict[str, DatasetEntry]:
    found: dict[str, DatasetEntry] = {}
    for path in sorted(ENTRIES.glob("*.toml")):
        for content in tomllib.loads(path.read_text(encoding="utf-8"))["entry"]:
            one = DatasetEntry.model_validate(content)
            if one.name in found:
                raise ValueError(f"{path.name}: {one.name} is listed twice")
            found[one.name] = one
    return found

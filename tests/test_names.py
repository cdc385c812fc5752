"""Names that a newcomer can search for: one owner for each public class, and no metaphors or participles."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import gsco
import pytest

ROOT = Path(gsco.__file__).parent
FOLDERS = ("agent", "benchmarks", "evals", "graphs", "images", "models", "tasks", "tools", "_support")
METAPHORS = {"bench", "desk", "doorkeeper", "golden", "hand", "hands", "heap", "lent", "room"}
PRONOUNS = {"his", "nobody", "somebody", "whoever"}
PARTICIPLES = {
    "asked",
    "asking",
    "carrying",
    "concluding",
    "confirming",
    "deciding",
    "examining",
    "grounding",
    "looking",
    "said",
    "settled",
    "shown",
    "standing",
    "talking",
    "told",
    "unfolding",
}
BANNED = METAPHORS | PRONOUNS | PARTICIPLES


def sources() -> Iterator[Path]:
    yield from ROOT.glob("*.py")
    for folder in FOLDERS:
        yield from (ROOT / folder).rglob("*.py")


def definitions(text: str) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def words_of(name: str) -> set[str]:
    """``_CaseRunner`` and ``case_runner`` are both of the words case and runner."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("name", ["Desk", "_asked", "shown_in_turn", "ReviewAsked", "AGoldenOne"])
def test_a_banned_word_is_found(name):
    assert words_of(name) & BANNED


@pytest.mark.parametrize("name", ["handle", "benchmark", "showroom", "ChatSession", "Outstanding"])
def test_a_word_within_another_is_none(name):
    assert not words_of(name) & BANNED


def test_no_name_has_a_banned_word():
    found = []
    for path in sources():
        place = path.relative_to(ROOT)
        found += [f"{place}: {part}" for part in place.with_suffix("").parts if words_of(part) & BANNED]
        for node in definitions(path.read_text(encoding="utf-8")):
            if words_of(node.name) & BANNED:
                found.append(f"{place}:{node.lineno}: {node.name}")
    assert found == []


def test_a_public_class_name_has_one_owner():
    owners = defaultdict(list)
    for path in sources():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners[node.name].append(str(path.relative_to(ROOT)))
    assert len(owners) > 200, "the classes were not found"
    assert {name: places for name, places in owners.items() if len(places) > 1} == {}

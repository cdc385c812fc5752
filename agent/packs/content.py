"""What stands in a pack: its manifest, the names that its files may have, and how large they may be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from ...case import Record

MANIFEST, README, LICENCE = "manifest.json", "README.md", "LICENCE.txt"
TASK, BUILD, REPORT = "task.json", "build.json", "report.html"
METADATA = "configs/metadata.json"
CASES, VECTORS, THUMBNAILS = "cases/cases.jsonl", "cases/vectors.safetensors", "cases/thumbnails.safetensors"

MAX_FILES = 1000
MAX_MANIFEST = 2**20
MAX_TEXT = 2**28
"""Bytes of a JSON, text or HTML file."""
MAX_ARRAYS = 2**33
"""Bytes of a safetensors file."""
MAX_TOTAL = 2**34

_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
_ALLOWED = re.compile(
    rf"{MANIFEST}|{README}|{LICENCE}|{TASK}|{BUILD}|{REPORT}|{METADATA}|{CASES}|{VECTORS}|{THUMBNAILS}"
    rf"|specialists/{_NAME}/(?:panel|collaboration)\.json"
    rf"|specialists/{_NAME}/{_NAME}/(?:card\.json|weights\.safetensors)"
)
REQUIRED = frozenset({MANIFEST, README, LICENCE, TASK, METADATA})


class PackedFile(Record):
    """A file of a pack."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0, le=MAX_ARRAYS)]


class Manifest(Record):
    """``manifest.json``: every other file with its hash."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")]
    """Of the task."""
    version: Annotated[str, Field(max_length=100)] = ""
    gsco: Annotated[str, Field(max_length=100)] = ""
    """Version of gsco that wrote the pack."""
    backbones: Mapping[str, str] = Field(default_factory=dict)
    """Shared backbones that the specialists need and the pack does not hold: name and hash of weights."""
    files: Mapping[str, PackedFile]

    @property
    def digest(self) -> str:
        """Hash over every file: two packs of one digest hold the same."""
        lines = [f"{name} {one.sha256} {one.bytes}" for name, one in sorted(self.files.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def allowed(name: str) -> bool:
    """Whether a file of a pack may have this name; anything else, such as a pickle, is refused by it."""
    return _ALLOWED.fullmatch(name) is not None and ".." not in name


def limit_of(name: str) -> int:
    """Largest number of bytes of a file."""
    if name == MANIFEST:
        return MAX_MANIFEST
    return MAX_ARRAYS if name.endswith(".safetensors") else MAX_TEXT

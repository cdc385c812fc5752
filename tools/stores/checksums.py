"""Checksums of what a case store keeps: one for each row, from which those of whole tables follow.

A row's checksum covers all of its values and the names that they belong to, so that a value that moved to
another row is noticed too. The checksum of a block (all vectors of an encoder, say) is the number of its rows
and the exclusive or of their checksums, which inserting and deleting a row can bring up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import reduce
from hashlib import blake2b
from operator import xor


def case_checksum(columns: Iterable[str | None]) -> int:
    """Of a row of the table of cases: its text columns, in order."""
    return _signed(json.dumps(list(columns)).encode())


def vector_checksum(encoder: str, width: int, case: str, halves: bytes) -> int:
    """Of one vector as it lies in the file.

    Args:
        encoder: name of its space.
        width: of that space.
        case: id of its case.
        halves: the vector at half precision.
    """
    return _signed(f"{encoder}\n{width}\n{case}\n".encode(), halves)


def thumbnail_checksum(case: str, jpeg: bytes) -> int:
    """Of the small image of a case."""
    return _signed(f"{case}\n".encode(), jpeg)


def block_checksum(checksums: Iterable[int]) -> int:
    """Of rows in any order."""
    return reduce(xor, checksums, 0)


def _signed(*parts: bytes) -> int:
    """64 bits as SQLite keeps them."""
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "little", signed=True)

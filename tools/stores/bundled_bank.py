"""A bank as a store: unpacked once per machine, then only read."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from ...errors import StoreError
from .bank import read_bank, read_card
from .embedded import EmbeddedStore


def unpack_bank(bank: str | Path, folder: str | Path) -> Path:
    """Make a store of a bank, unless that was done before, and return the store's file.

    The file appears whole or not at all, also where several processes do this at once. It is named
    after the bank's hash: another bank gives another store.

    Raises:
        StoreError: the bank cannot be read, or the folder cannot be written.
    """
    folder = Path(folder)
    target = folder / f"bundled-{read_card(bank).sha256[:12]}.sqlite"
    if target.exists():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bundled-", dir=folder) as scratch:
            made = Path(scratch) / "cases.sqlite"
            with EmbeddedStore(made) as store:
                store.add(read_bank(bank))
                store.seal()
            _publish(made, target)
    except OSError as error:
        raise StoreError(f"no room for the case bank in {folder}: {error.strerror}; set GSCO_HOME") from error
    return target


def _publish(made: Path, target: Path) -> None:
    """Give the file its name, unless another process was faster: that one may be open already."""
    try:
        with suppress(FileExistsError):
            os.link(made, target)
    except OSError:  # a file system without hard links
        made.replace(target)

"""Case stores: where known cases and their vectors are kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigurationError

if TYPE_CHECKING:
    from .protocol import CaseStore

__all__ = ["open_store"]

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_FILE = "cases.sqlite"


def open_store(address: str | Path, *, home: Path, writable: bool = False) -> CaseStore:
    """Open the case store at an address.

    Args:
        address: empty for the bundled bank, or a path: a file, or a folder whose ``cases.sqlite`` it is.
        home: ``Settings.home``; the bundled bank is unpacked below it at first use.
        writable: open for adding and deleting; a store that is not there is made.

    Raises:
        ConfigurationError: an address of an unknown kind, or the bundled bank to be written.
        StoreError: the store cannot be opened.
    """
    from .embedded import EmbeddedStore

    text = str(address).strip()
    if scheme := _SCHEME.match(text):
        raise ConfigurationError(_unknown(scheme[1].lower()))
    if text:
        return EmbeddedStore(_file_of(Path(text).expanduser()), readonly=not writable)
    if writable:
        raise ConfigurationError("the bundled bank is only read; name a path for a store of your own")
    from ...models.mini import bundled
    from .unpacked import unpack_bank

    return EmbeddedStore(unpack_bank(bundled("bank") / "bank.npz", home / "banks"), readonly=True)


def _file_of(path: Path) -> Path:
    return path / _FILE if path.is_dir() or not path.suffix else path


def _unknown(scheme: str) -> str:
    if scheme == "weaviate":
        return "this version of gsco has no Weaviate store yet; give GSCO_CASE_STORE a path"
    return f"no case store has addresses of the kind {scheme}://; give GSCO_CASE_STORE a path"

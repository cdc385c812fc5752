"""Case stores: where known cases and their vectors are kept."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigurationError

if TYPE_CHECKING:
    from .protocol import CaseStore

__all__ = ["open_store"]

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_FILE = "cases.sqlite"


def open_store(address: str | Path, *, home: Path, writable: bool = False, api_key: str = "") -> CaseStore:
    """Open the case store at an address.

    Args:
        address: empty for the bundled bank, or a path: a file, or a folder whose ``cases.sqlite`` it is,
            or ``weaviate://HOST…``, see ``weaviate.address``.
        home: ``Settings.home``; the bundled bank is unpacked below it at first use.
        writable: open for adding and deleting; a store that is not there is made.
        api_key: for a server that asks for one.

    Raises:
        ConfigurationError: an address of an unknown kind, or the bundled bank to be written.
        StoreError: the store cannot be opened.
    """
    text = str(address).strip()
    if scheme := _SCHEME.match(text):
        return _served(scheme[1].lower(), text, writable, api_key)
    from .embedded import EmbeddedStore

    if text:
        return EmbeddedStore(_file_of(Path(text).expanduser()), readonly=not writable)
    if writable:
        raise ConfigurationError("the bundled case store is read-only; name a path for a store of your own")
    from ...models.mini import bundled
    from .bundled_bank import unpack_bank

    return EmbeddedStore(unpack_bank(bundled("bank") / "bank.npz", home / "banks"), readonly=True)


def _file_of(path: Path) -> Path:
    return path / _FILE if path.is_dir() or not path.suffix else path


def _served(scheme: str, address: str, writable: bool, api_key: str) -> CaseStore:
    """Open a store by the function ``open_SCHEME`` of the module that bears the scheme's name."""
    opened = None
    if scheme.isidentifier() and find_spec(f"{__name__}.{scheme}"):
        opened = getattr(import_module(f"{__name__}.{scheme}"), f"open_{scheme}", None)
    if opened is None:
        raise ConfigurationError(
            f"{scheme}:// is not an address of a case store; set GSCO_CASE_STORE to a path or weaviate://HOST"
        )
    return opened(address, writable=writable, api_key=api_key)

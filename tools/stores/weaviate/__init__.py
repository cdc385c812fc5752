"""Known cases in a Weaviate cluster."""

from .address import WeaviateAddress, parse_address
from .store import WeaviateStore

__all__ = ["WeaviateAddress", "WeaviateStore", "open_weaviate", "parse_address"]


def open_weaviate(address: str, *, writable: bool = False, api_key: str = "") -> WeaviateStore:
    """Open the store at a ``weaviate://…`` address; see ``WeaviateStore``."""
    return WeaviateStore(address, readonly=not writable, api_key=api_key)

"""Known cases in a Weaviate cluster."""

from .address import WeaviateAddress, parse_address
from .store import WeaviateStore, open_weaviate

__all__ = ["WeaviateAddress", "WeaviateStore", "open_weaviate", "parse_address"]

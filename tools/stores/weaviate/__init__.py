"""Known cases in a Weaviate cluster."""

from .address import WeaviateAddress, parse_address
from .store import WeaviateStore

__all__ = ["WeaviateAddress", "WeaviateStore", "parse_address"]

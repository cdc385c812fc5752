"""How vectors are indexed and compressed in Weaviate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .address import WeaviateAddress

if TYPE_CHECKING:
    from weaviate.collections import CollectionAsync
    from weaviate.collections.classes.config import CollectionConfig

EXACT_BELOW = 40_000
"""Among fewer cases Weaviate compares all of them: exact, and no slower than its graph."""
COMPRESSED_FROM = 250_000
"""With ``quantisation=auto`` vectors are compressed from so many cases on: a quarter of the memory."""


def vector_index(address: WeaviateAddress, quantisation: str | None = None) -> Any:
    """The index of a new named vector; ``auto`` begins uncompressed."""
    from weaviate.classes.config import Configure

    kind = quantisation or address.quantisation
    quantizers = Configure.VectorIndex.Quantizer
    quantizer = {
        "auto": quantizers.none,
        "none": quantizers.none,
        "rq": quantizers.rq,
        "sq": quantizers.sq,
        "bq": quantizers.bq,
        "pq": quantizers.pq,
    }[kind]()
    if address.index == "flat":
        return _flat(quantizer)
    if address.index == "dynamic":
        return Configure.VectorIndex.dynamic(
            distance_metric=_cosine(), threshold=EXACT_BELOW, hnsw=_hnsw(address, quantizer), flat=_flat()
        )
    return _hnsw(address, quantizer)


async def compress_large(
    collection: CollectionAsync[Any, None], config: CollectionConfig, address: WeaviateAddress, cases: int
) -> bool:
    """Compress the vectors of a bank that has become large, if that is left to us; whether it was done."""
    from weaviate.classes.config import Reconfigure

    if address.quantisation != "auto" or address.index != "hnsw" or cases < COMPRESSED_FROM:
        return False
    plain = [
        name
        for name, vector in (config.vector_config or {}).items()
        if name.startswith("v_") and getattr(vector.vector_index_config, "quantizer", None) is None
    ]
    if not plain:
        return False
    index = Reconfigure.VectorIndex.hnsw(quantizer=Reconfigure.VectorIndex.Quantizer.rq())
    await collection.config.update(
        vector_config=[Reconfigure.Vectors.update(name=name, vector_index_config=index) for name in plain]
    )
    return True


def _hnsw(address: WeaviateAddress, quantizer: Any) -> Any:
    from weaviate.classes.config import Configure

    return Configure.VectorIndex.hnsw(
        distance_metric=_cosine(),
        ef=address.ef,
        ef_construction=address.ef_construction,
        max_connections=address.connections,
        flat_search_cutoff=EXACT_BELOW,
        quantizer=quantizer,
    )


def _flat(quantizer: Any = None) -> Any:
    from weaviate.classes.config import Configure

    return Configure.VectorIndex.flat(distance_metric=_cosine(), quantizer=quantizer)


def _cosine() -> Any:
    from weaviate.classes.config import VectorDistances

    return VectorDistances.COSINE

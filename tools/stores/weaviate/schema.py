"""How a case bank lies in Weaviate: one collection, and a named vector for each encoder.

Each encoder has a property, ``has_KEY``, that says which cases have its vector and whose description holds
the encoder's name and width, and a vector ``v_KEY``; see ``Space``.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ....errors import StoreError
from .address import WeaviateAddress
from .objects import FLAG, Space

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient
    from weaviate.collections.classes.config import CollectionConfig, Property
    from weaviate.collections.classes.config_vectors import VectorConfigCreate

    from .objects import CaseCollection

SCHEMA_VERSION = 1
"""Raise it with every change of the schema; a change that is more than a new property needs a step."""
EXACT_BELOW = 40_000
"""Among fewer cases Weaviate compares all of them: exact, and no slower than its graph."""
COMPRESSED_FROM = 250_000
"""With ``quantisation=auto`` vectors are compressed from so many cases on: a quarter of the memory."""

_TITLE = "gsco case bank, schema {version}"
_VERSION = re.compile(r"^gsco case bank, schema (\d+)$")
_TRIES = 20


async def open_collection(client: WeaviateAsyncClient, address: WeaviateAddress, *, writable: bool) -> None:
    """Check the collection and, where it is written to, make it or bring it up to this version.

    Raises:
        StoreError: it is not there, not a case bank, of a newer version, or kept otherwise than the
            address says.
    """
    if not await client.collections.exists(address.collection):
        if not writable:
            raise StoreError(f"there is no case bank at {address}; build one with `gsco store build`")
        await _create(client, address)
    collection = client.collections.use(address.collection)
    config = await collection.config.get()
    version = _version_of(config, address)
    _check_settings(config, address)
    lacking = _lacking(config, address)
    if version < SCHEMA_VERSION or lacking:
        if not writable:
            raise StoreError(
                f"{address} was written by an older gsco (schema {version}); run any `gsco store` command "
                "that writes to it once, which brings it up to date"
            )
        for one in lacking:
            await collection.config.add_property(one)
        await collection.config.update(description=_TITLE.format(version=SCHEMA_VERSION))
    if address.tenant and not await collection.tenants.exists(address.tenant):
        if not writable:
            raise StoreError(f"there is no tenant {address.tenant} in {address}; `gsco store build` adds it")
        await collection.tenants.create([address.tenant])


def spaces_of(config: CollectionConfig) -> list[Space]:
    """The vector spaces that a collection is prepared for, whether or not they hold vectors."""
    marked = [p for p in config.properties if p.name.startswith(FLAG) and p.description]
    return [Space(*json.loads(p.description or "")) for p in marked]


async def add_spaces(collection: CaseCollection, address: WeaviateAddress, spaces: Sequence[Space]) -> None:
    """Prepare a collection for the vectors of encoders; several writers may do so at once.

    Raises:
        StoreError: it cannot be done.
    """
    from weaviate.classes.config import DataType, Property
    from weaviate.exceptions import WeaviateBaseError

    error: Exception | None = None
    for turn in range(_TRIES):
        config = await collection.config.get()
        vectors, properties = config.vector_config or {}, {p.name for p in config.properties}
        lacking = [s for s in spaces if s.vector not in vectors or s.flag not in properties]
        if not lacking:
            return
        for space in lacking:
            # The property comes last: who sees it may use the vector.
            try:
                if space.vector not in vectors:
                    await collection.config.add_vector(vector_config=_vector(space.vector, address))
                else:
                    text = json.dumps(list(space), ensure_ascii=False)
                    own = Property(name=space.flag, data_type=DataType.BOOL, description=text)
                    await collection.config.add_property(own)
            except WeaviateBaseError as wrong:
                error = wrong  # somebody else may have added it meanwhile: look again
        await asyncio.sleep(0.02 * turn)
    raise StoreError(f"{address} cannot be prepared for the vectors of {spaces[0].encoder!r}") from error


async def compress_large(collection: CaseCollection, address: WeaviateAddress, cases: int) -> None:
    """Compress the vectors of a bank that has become large, if the address leaves that to us."""
    from weaviate.classes.config import Reconfigure

    if address.quantisation != "auto" or address.index != "hnsw" or cases < COMPRESSED_FROM:
        return
    index = Reconfigure.VectorIndex.hnsw(quantizer=Reconfigure.VectorIndex.Quantizer.rq())
    plain = [
        Reconfigure.Vectors.update(name=name, vector_index_config=index)
        for name, vector in ((await collection.config.get()).vector_config or {}).items()
        if name.startswith("v_") and getattr(vector.vector_index_config, "quantizer", None) is None
    ]
    if plain:
        await collection.config.update(vector_config=plain)


async def _create(client: WeaviateAsyncClient, address: WeaviateAddress) -> None:
    from weaviate.classes.config import Configure, ReplicationDeletionStrategy
    from weaviate.exceptions import WeaviateBaseError

    latest = ReplicationDeletionStrategy.TIME_BASED_RESOLUTION
    try:
        await client.collections.create(
            address.collection,
            description=_TITLE.format(version=SCHEMA_VERSION),
            properties=_properties(),
            # A collection that is made without any named vector could not be given one later.
            vector_config=[_vector("none", address)],
            multi_tenancy_config=Configure.multi_tenancy(enabled=address.tenant is not None),
            replication_config=Configure.replication(address.replication or 1, deletion_strategy=latest),
        )
    except WeaviateBaseError:
        # Several writers may start at once; one of them makes it.
        if not await client.collections.exists(address.collection):
            raise


def _vector(name: str, address: WeaviateAddress) -> VectorConfigCreate:
    """A new named vector with the index that the address asks for; ``auto`` begins uncompressed."""
    from weaviate.classes.config import Configure, VectorDistances

    index, cosine = Configure.VectorIndex, VectorDistances.COSINE
    kind = "none" if address.quantisation == "auto" else address.quantisation
    quantizer = getattr(index.Quantizer, kind)()
    hnsw = index.hnsw(
        distance_metric=cosine,
        ef=address.ef,
        ef_construction=address.ef_construction,
        max_connections=address.connections,
        flat_search_cutoff=EXACT_BELOW,
        quantizer=quantizer,
    )
    if address.index == "dynamic":
        flat = index.flat(distance_metric=cosine)
        own: Any = index.dynamic(distance_metric=cosine, threshold=EXACT_BELOW, hnsw=hnsw, flat=flat)
    else:
        own = hnsw if address.index == "hnsw" else index.flat(distance_metric=cosine, quantizer=quantizer)
    return Configure.Vectors.self_provided(name=name, vector_index_config=own)


def _version_of(config: CollectionConfig, address: WeaviateAddress) -> int:
    found = _VERSION.match(config.description or "")
    if not found:
        raise StoreError(
            f"{address} is a collection of something else, not a case bank; name another one: "
            "weaviate://HOST/COLLECTION"
        )
    version = int(found[1])
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{address} was written by a newer gsco (schema {version}, this one knows {SCHEMA_VERSION}); "
            "update gsco, or name another collection"
        )
    return version


def _check_settings(config: CollectionConfig, address: WeaviateAddress) -> None:
    if config.multi_tenancy_config.enabled != (address.tenant is not None):
        way = "is divided by tenants; name one: ?tenant=NAME"
        raise StoreError(
            f"{address} {way if config.multi_tenancy_config.enabled else 'is not divided by tenants'}"
        )
    factor = config.replication_config.factor
    if address.replication and address.replication != factor:
        raise StoreError(
            f"{address} keeps {factor} copies of each case, not {address.replication}; leave "
            "replication out, or move the cases to a new collection with `gsco store move`"
        )


def _lacking(config: CollectionConfig, address: WeaviateAddress) -> list[Property]:
    """The properties that a collection of an older version has not yet."""
    there = {p.name: p.data_type for p in config.properties}
    for wanted in _properties():
        if (found := there.get(wanted.name, wanted.dataType)) != wanted.dataType:
            raise StoreError(
                f"{address} has a wrong schema: property {wanted.name} holds {found.value}, not "
                f"{wanted.dataType.value}; name another collection and index again"
            )
    return [p for p in _properties() if p.name not in there]


def _properties() -> list[Property]:
    """What every object has. What is filtered by is one word; the words of a report can be searched for."""
    from weaviate.classes.config import DataType, Property, Tokenization

    def text(name: str, *, filtered: bool = False, words: bool = False, many: bool = False) -> Property:
        return Property(
            name=name,
            data_type=DataType.TEXT_ARRAY if many else DataType.TEXT,
            tokenization=Tokenization.WORD if words else Tokenization.FIELD,
            index_filterable=filtered,
            index_searchable=words,
        )

    filtered = [text(name, filtered=True) for name in ("sha256", "task", "modality", "group")]
    kept = [text("source"), text("licence"), text("report", words=True)]
    small = Property(
        name="thumbnail", data_type=DataType.BLOB, index_filterable=False, index_searchable=False
    )
    return [*filtered, text("labels", filtered=True, many=True), *kept, small]

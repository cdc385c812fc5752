"""How a case bank lies in Weaviate: one collection, and a named vector for each encoder.

Each encoder has a property, ``has_KEY``, that says which cases have its vector and whose description holds
the encoder's name and width, and a vector ``v_KEY``; see ``Space``.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ....errors import StoreError
from .address import WeaviateAddress
from .indexes import vector_index
from .objects import FIELDS
from .space import FLAG, Space

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient
    from weaviate.collections import CollectionAsync
    from weaviate.collections.classes.config import CollectionConfig, Property

SCHEMA_VERSION = 1
"""Raise it with every change of the schema; a change that is more than a new property needs a step."""

_TITLE = "gsco case bank, schema {version}"
_VERSION = re.compile(r"^gsco case bank, schema (\d+)$")
_TRIES = 20

STEPS: Mapping[int, Callable[[CollectionAsync[Any, None]], Any]] = {}
"""What brings a collection of a version to the next, where adding the new properties is not enough."""


async def open_collection(
    client: WeaviateAsyncClient, address: WeaviateAddress, *, writable: bool
) -> CollectionConfig:
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
    if version < SCHEMA_VERSION or _lacking(config, address):
        if not writable:
            raise StoreError(
                f"{address} was written by an older gsco (schema {version}); run any `gsco store` command "
                "that writes to it once, which brings it up to date"
            )
        config = await _migrate(collection, config, version, address)
    if address.tenant:
        await _open_tenant(collection, address, writable=writable)
    return config


def spaces_of(config: CollectionConfig) -> list[Space]:
    """The vector spaces that a collection is prepared for, whether or not they hold vectors."""
    marked = [p for p in config.properties if p.name.startswith(FLAG) and p.description]
    return [Space(*json.loads(p.description or "")) for p in marked]


async def add_spaces(
    collection: CollectionAsync[Any, None], address: WeaviateAddress, spaces: Sequence[Space]
) -> None:
    """Prepare a collection for the vectors of encoders; several writers may do so at once.

    Raises:
        StoreError: it cannot be done.
    """
    from weaviate.classes.config import Configure, DataType, Property
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
                    own = Configure.Vectors.self_provided(
                        name=space.vector, vector_index_config=vector_index(address)
                    )
                    await collection.config.add_vector(vector_config=own)
                elif space.flag not in properties:
                    text = json.dumps(list(space), ensure_ascii=False)
                    await collection.config.add_property(
                        Property(name=space.flag, data_type=DataType.BOOL, description=text)
                    )
            except WeaviateBaseError as wrong:
                error = wrong  # somebody else may have added it meanwhile: look again
        await asyncio.sleep(0.02 * turn)
    raise StoreError(f"{address} cannot be prepared for the vectors of {spaces[0].encoder!r}") from error


async def _create(client: WeaviateAsyncClient, address: WeaviateAddress) -> None:
    from weaviate.classes.config import Configure, ReplicationDeletionStrategy
    from weaviate.exceptions import WeaviateBaseError

    try:
        await client.collections.create(
            address.collection,
            description=_TITLE.format(version=SCHEMA_VERSION),
            properties=_properties(),
            # A collection that is made without any named vector could not be given one later.
            vector_config=[
                Configure.Vectors.self_provided(name="none", vector_index_config=vector_index(address))
            ],
            multi_tenancy_config=Configure.multi_tenancy(enabled=address.tenant is not None),
            replication_config=Configure.replication(
                factor=address.replication or 1,
                deletion_strategy=ReplicationDeletionStrategy.TIME_BASED_RESOLUTION,
            ),
        )
    except WeaviateBaseError:
        # Several writers may start at once; one of them makes it.
        if not await client.collections.exists(address.collection):
            raise


async def _migrate(
    collection: CollectionAsync[Any, None], config: CollectionConfig, version: int, address: WeaviateAddress
) -> CollectionConfig:
    for old in range(version, SCHEMA_VERSION):
        if step := STEPS.get(old):
            await step(collection)
    for lacking in _lacking(config, address):
        await collection.config.add_property(lacking)
    await collection.config.update(description=_TITLE.format(version=SCHEMA_VERSION))
    return await collection.config.get()


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
    there = {p.name: p for p in config.properties}
    for wanted in _properties():
        found = there.get(wanted.name)
        if found and found.data_type != wanted.dataType:
            raise StoreError(
                f"{address} has a wrong schema: property {wanted.name} holds {found.data_type.value}, not "
                f"{wanted.dataType.value}; name another collection and index again"
            )
    return [p for p in _properties() if p.name not in there]


def _properties() -> list[Property]:
    from weaviate.classes.config import DataType, Property, Tokenization

    kinds = {"text": DataType.TEXT, "texts": DataType.TEXT_ARRAY, "blob": DataType.BLOB}
    return [
        Property(
            name=field.name,
            data_type=kinds[field.kind],
            # One word for the whole value where it is filtered by, words only where words are searched.
            tokenization=None
            if field.kind == "blob"
            else (Tokenization.WORD if field.words else Tokenization.FIELD),
            index_filterable=field.filtered,
            index_searchable=field.words,
        )
        for field in FIELDS
    ]


async def _open_tenant(
    collection: CollectionAsync[Any, None], address: WeaviateAddress, *, writable: bool
) -> None:
    assert address.tenant is not None
    if await collection.tenants.exists(address.tenant):
        return
    if not writable:
        raise StoreError(f"there is no tenant {address.tenant} in {address}; `gsco store build` adds it")
    await collection.tenants.create([address.tenant])

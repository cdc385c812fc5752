"""The address of a case bank in Weaviate: which servers, which collection, and how it is kept there.

``weaviate://HOST[:PORT][,HOST[:PORT]…][/COLLECTION][?OPTION=VALUE&…]``. The options are the fields of
``WeaviateAddress`` below, and ``grpc``: the gRPC port of all hosts, or one for each, joined by commas.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, ValidationError

from ....case import Record
from ....errors import ConfigurationError

SCHEME = "weaviate"
API_KEY = "GSCO_CASE_STORE_API_KEY"
"""Where the key stands; an address is shown and logged, and must hold no secret."""

_COLLECTION = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,200}$")
_TENANT = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_PLAIN, _SECURE = (8080, 50051), (443, 443)


class Host(Record):
    """One server of a cluster."""

    name: str
    port: Annotated[int, Field(ge=1, le=65535)]
    grpc_port: Annotated[int, Field(ge=1, le=65535)]

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


class WeaviateAddress(Record):
    """Where a case bank is, and how it is kept.

    What cannot be changed once the collection is there (tenancy, replication, the kind of index) holds
    when it is made; an address that contradicts the collection is refused.
    """

    hosts: Annotated[tuple[Host, ...], Field(min_length=1)]
    """Any nodes of one cluster; where one does not answer the next is asked."""
    collection: str = "GscoCases"
    tenant: str | None = None
    """Project or site: each has cases of its own that no other can find."""
    replication: Annotated[int, Field(ge=1, le=99)] | None = None
    """Copies of every case, on as many nodes; None takes what is there, and one for a new collection."""
    consistency: Literal["one", "quorum", "all"] = "quorum"
    """How many of the copies must have answered before a reading or writing counts."""
    index: Literal["hnsw", "flat", "dynamic"] = "hnsw"
    """``dynamic`` needs a server with ASYNC_INDEXING, which then finds new cases a little later."""
    quantisation: Literal["auto", "none", "rq", "sq", "bq", "pq"] = "auto"
    """How vectors are compressed in the server's memory; ``auto`` compresses large banks with rq."""
    ef: Annotated[int, Field(ge=16, le=4096)] = 384
    """Candidates that an HNSW search looks at: more find more, slower."""
    ef_construction: Annotated[int, Field(ge=16, le=4096)] = 128
    connections: Annotated[int, Field(ge=4, le=128)] = 32
    """Edges of a case in the HNSW graph."""
    timeout: Annotated[float, Field(ge=0.5, le=600)] = 10.0
    """Seconds until a server that does not answer counts as failed."""
    secure: bool = False
    """TLS, on both ports."""

    def __str__(self) -> str:
        tenant = f", tenant {self.tenant}" if self.tenant else ""
        return f"Weaviate {','.join(map(str, self.hosts))}/{self.collection}{tenant}"


def parse_address(text: str) -> WeaviateAddress:
    """Read an address.

    Raises:
        ConfigurationError: it is malformed, has an unknown option, or holds a password or key.
    """
    try:
        parts = urlsplit(text.strip())
        if parts.scheme.lower() != SCHEME or not parts.netloc:
            raise ValueError(f"it must begin with {SCHEME}://HOST")
        if "@" in parts.netloc:
            raise ValueError(f"it must not contain a user or password; put the API key into {API_KEY}")
        fields = _fields(parts.path, parts.query)
        secure = fields.get("secure", "false").lower() in ("true", "1", "yes")
        hosts = _hosts(parts.netloc, fields.pop("grpc", ""), secure=secure)
        address = WeaviateAddress.model_validate({**fields, "hosts": hosts})
    except ValidationError as error:
        where = error.errors()[0]
        name = ".".join(map(str, where["loc"]))
        raise ConfigurationError(f"case store address: {name}: {where['msg']}") from error
    except ValueError as error:
        raise ConfigurationError(f"case store address: {error}") from error
    if address.consistency == "all" and address.replication == 1:
        raise ConfigurationError("consistency=all has no effect with one copy of each case; leave it out")
    return address


def _fields(path: str, query: str) -> dict[str, str]:
    """The options and the collection, as text."""
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("an option is given twice")
    if secrets := sorted(set(fields) & {"api_key", "key", "token", "password"}):
        raise ValueError(f"{secrets[0]} must not be part of it; put the API key into {API_KEY}")
    known = set(WeaviateAddress.model_fields) - {"hosts", "collection"} | {"grpc"}
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"no option {unknown[0]!r}; available: {', '.join(sorted(known))}")
    if not _TENANT.match(fields.get("tenant", "-")):
        raise ValueError(f"{fields['tenant']!r} is not a tenant name: use up to 64 letters, digits, - and _")
    if name := unquote(path).strip("/"):
        if not _COLLECTION.match(name):
            raise ValueError(f"{name!r} is not a collection name: use a letter, then letters, digits and _")
        fields["collection"] = name[0].upper() + name[1:]
    return fields


def _hosts(netloc: str, grpc: str, *, secure: bool) -> list[dict[str, Any]]:
    places = [urlsplit(f"//{place}") for place in netloc.split(",")]
    http, default = _SECURE if secure else _PLAIN
    ports = grpc.split(",") if grpc else [str(default)]
    if len(ports) not in (1, len(places)):
        raise ValueError(f"grpc names {len(ports)} ports for {len(places)} hosts; give one, or one for each")
    if not all(place.hostname for place in places):
        raise ValueError(f"{netloc!r} names no host")
    ports *= len(places) // len(ports)
    return [
        {"name": place.hostname, "port": place.port or http, "grpc_port": own}
        for place, own in zip(places, ports, strict=True)
    ]

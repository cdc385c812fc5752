"""What a Weaviate server or its client says went wrong, in words that say what to do."""

from __future__ import annotations

from ....errors import StoreError
from .address import API_KEY


class Unreachable(StoreError):
    """This server gives no answer; another one of the cluster may."""


class Unready(Unreachable):
    """This server answers without what it should hold; a moment later, or another one, may have it."""


SILENT = "does not answer within {seconds:g} s; it is overloaded or hangs, see its log"
DOWN = "cannot be reached; start it, or correct GSCO_CASE_STORE"
NO_GRPC = (
    "answers over HTTP but not at its gRPC port {port}; correct grpc= in GSCO_CASE_STORE, or open that port"
)
STARTING = "is not ready yet; it is starting or joining its cluster, try again in a moment"

_ADVICE = (
    (("out of memory", "not enough memory", "memory usage"), "has too little memory; give it more"),
    (("no space left", "disk is full", "disk usage"), "has a full disk; make room there"),
    (("read-only", "readonly", "read only"), "is read-only; its log says why"),
    (("unauthenticated", "unauthorized", "401", "anonymous access"), f"asks for a key; set {API_KEY}"),
    (("forbidden", "permission_denied", "403"), f"does not allow this with this key; check {API_KEY}"),
    (
        ("could not find class", "class not found", "collection not found", "not found in schema"),
        "has no such collection (any more); build it with `gsco store build`",
    ),
    (
        ("achieve consistency level", "cannot reach enough replicas", "not enough replicas", "consistency"),
        "has too few nodes up for this consistency; start them, or ask for consistency=one",
    ),
    (("tenant not active",), "has this tenant deactivated; activate it there"),
)
INDEXING = "updatevectorindexconfigs"
"""Stands in what a shard says that writes nothing while its vectors are being compressed."""
_PASSING = (
    "non-existing index",
    "leader not found",
    "shard is not ready",
    "shard not loaded",
    "index is loading",
    "status loading",
    "no such prop with name",
)
"""What a server says while it makes a collection, while its cluster elects a leader, or while a node has
not heard yet what another one has added to the collection."""
_GONE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
_LONGEST = 300


def unreachable(error: BaseException) -> bool:
    """Whether an error means that this server gave no answer."""
    from weaviate import exceptions

    lost = (
        TimeoutError,
        OSError,
        Unreachable,
        exceptions.WeaviateStartUpError,
        exceptions.WeaviateGRPCUnavailableError,
        exceptions.WeaviateConnectionError,
        exceptions.WeaviateTimeoutError,
        exceptions.WeaviateClosedClientError,
        exceptions.WeaviateRetryError,
        exceptions.WeaviateBatchFailedToReestablishStreamError,
        exceptions.WeaviateBatchStreamError,
    )
    return isinstance(error, lost) or (theirs(error) and _code(error) in _GONE)


def timed_out(error: BaseException) -> bool:
    """Whether an error means that there was no answer in time."""
    from weaviate.exceptions import WeaviateTimeoutError

    return isinstance(error, (TimeoutError, WeaviateTimeoutError)) or _code(error) == "DEADLINE_EXCEEDED"


def theirs(error: BaseException) -> bool:
    """Whether an error comes from the client or the server, and not from a mistake of ours."""
    import grpc
    import httpx
    from weaviate.exceptions import WeaviateBaseError

    return isinstance(error, (WeaviateBaseError, grpc.RpcError, httpx.HTTPError))


def passing(error: BaseException) -> bool:
    """Whether an error is of the kind that is gone a moment later."""
    said = _message(error).lower()
    return isinstance(error, Unready) or any(sign in said for sign in _PASSING)


def in_words(where: str, error: BaseException) -> StoreError:
    """A ``StoreError`` that says what is wrong with the server and what to do."""
    said = _message(error)
    lowered = said.lower()
    advice = next((advice for signs, advice in _ADVICE if any(sign in lowered for sign in signs)), None)
    return StoreError(f"{where} {advice or 'refused'}: {said}")


def _message(error: BaseException) -> str:
    message = str(getattr(error, "message", None) or error or type(error).__name__)
    text = " ".join(message.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _code(error: BaseException) -> str:
    """The gRPC status behind an error of the client, which keeps its text only."""
    for cause in (error, error.__cause__, error.__context__):
        code = getattr(cause, "code", None)
        if callable(code):
            return getattr(code(), "name", "")
    return ""

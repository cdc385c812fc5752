"""Erases what is kept of a patient: known cases, thumbnails, conversations and images, found by group."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from ..case import Case, ImageRef
from ..errors import ConfigurationError
from .builds import SPECIALISTS, case_stores, forget_group
from .conversation_store import ConversationKey, ConversationStore

if TYPE_CHECKING:
    from langgraph.checkpoint.base import CheckpointTuple

    from ..images import ImageStore
    from ..settings import Settings
    from ..tools.stores.protocol import CaseStore, KnownCase


@dataclass(frozen=True)
class Erased:
    """What was erased of a group."""

    cases: int
    conversations: tuple[ConversationKey, ...]
    images: int
    kept_images: int = 0
    """Images of the group that a conversation of another group refers to."""
    citing: tuple[ConversationKey, ...] = ()
    """Conversations about others in which a case of the group still stands as a similar case."""


def forget(settings: Settings, group: str, *, citing: bool | None = None) -> Erased:
    """Erase all that is kept of a patient or study, and overwrite it in the files that it was in.

    It looks into the case store that settings name and the one in ``GSCO_HOME``, all versions of all builds,
    the conversations of all users, the image store and the uploads that wait. Run it again if it is
    interrupted.

    Args:
        settings: of the installation.
        group: the pseudonym, as it stands in ``labels.csv``, in a case or in a conversation.
        citing: whether to erase conversations about others too that cite a case of the group; None refuses
            to erase anything where there are such.

    Raises:
        ConfigurationError: the group is empty, or conversations about others cite it.
        StoreError: a case store cannot be opened or written.
        ThreadError: the conversations cannot be opened or written.
    """
    if not group:
        raise ConfigurationError("give a group: an empty name would match every case without one")
    cases = {address: _cases(address, settings, group) for address in _stores(settings)}
    hashes = {case.sha256 for found in cases.values() for case in found}
    # The cases go last: by them the conversations that cite the group are found, also after an interruption.
    erased = asyncio.run(_erased_conversations(settings, group, hashes, citing))
    shutil.rmtree(settings.home / "uploads", ignore_errors=True)
    forget_group(settings.home, group)
    for address, found in cases.items():
        with _opened(address, settings) as store:
            _erase(store, [case.id for case in found])
    _refit_builds(settings, {Path(address).parent for address, found in cases.items() if found})
    return replace(erased, cases=len(hashes))


async def remove_unreferenced(
    threads: Sequence[ConversationStore], images: ImageStore, hashes: Iterable[str]
) -> int:
    """Remove the images that no conversation refers to; return how many.

    Args:
        threads: all places where conversations are kept.
        images: where the images are.
        hashes: of the images.
    """
    wanted = sorted(set(hashes))
    referred = {one for place in threads for one in await place.referred(wanted)}
    return sum([images.discard(one) for one in wanted if one not in referred])


def images_in(state: CheckpointTuple) -> frozenset[str]:
    """Hashes of the images that a checkpoint refers to."""
    return frozenset(record.sha256 for record in _records(_held(state)) if isinstance(record, ImageRef))


def _held(state: CheckpointTuple) -> list[object]:
    """All that a checkpoint holds, and what a turn that was cut off has written after it."""
    return [state.checkpoint["channel_values"], [value for _, _, value in state.pending_writes or ()]]


def _is_about(state: CheckpointTuple, group: str) -> bool:
    values = state.checkpoint["channel_values"]
    own = [record.group for record in _records(_held(state)) if isinstance(record, Case)]
    return group in (values.get("group"), *own)


def _records(value: object) -> Iterator[BaseModel]:
    """All records within a value, however deep."""
    if isinstance(value, BaseModel):
        yield value
        value = value.__dict__
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _records(part)


def _stores(settings: Settings) -> list[str]:
    """Addresses of the case stores that hold cases of the user's."""
    own = settings.home / "cases"
    there = [str(own)] if (own / "cases.sqlite").is_file() or own.is_file() else []
    there += map(str, case_stores(settings.home))
    return list(dict.fromkeys([*([settings.case_store] if settings.case_store else []), *there]))


def _refit_builds(settings: Settings, folders: set[Path]) -> None:
    """Let the fits of builds hold for their case stores without the erased cases."""
    from .._support.jsonl import write_atomically
    from ..graphs.collaboration_fit import COLLABORATION_FILE, read_fit
    from ..tools.retrieval import digest_of

    for cases in case_stores(settings.home):
        name, specialists = cases.parent.parent.name, cases.parent / SPECIALISTS
        fit = read_fit([specialists], name)
        if cases.parent not in folders or fit is None or not fit.parts.store:
            continue
        with _opened(str(cases), settings) as store:
            parts = fit.parts.model_copy(update={"store": digest_of(store, name)})
        path = specialists / name / COLLABORATION_FILE
        write_atomically(path, fit.model_copy(update={"parts": parts}).model_dump_json(indent=1) + "\n")


@contextmanager
def _opened(address: str, settings: Settings) -> Generator[CaseStore]:
    from ..tools.stores import open_store

    key = settings.case_store_api_key.get_secret_value()
    with closing(open_store(address, home=settings.home, writable=True, api_key=key)) as store:
        yield store


def _cases(address: str, settings: Settings, group: str) -> list[KnownCase]:
    with _opened(address, settings) as store:
        return [entry.case for entry in store.scan() if entry.case.group == group]


def _erase(store: CaseStore, ids: Sequence[str]) -> None:
    from ..tools.stores.embedded import EmbeddedStore

    if isinstance(store, EmbeddedStore):
        store.erase(ids)
    elif ids:
        store.delete(ids)


async def _erased_conversations(
    settings: Settings, group: str, cases: set[str], citing: bool | None
) -> Erased:
    """Erase the conversations of a group, and the images that no other conversation refers to."""
    from ..images import ImageStore

    images = ImageStore(settings.home / "images")
    threads = ConversationStore(
        settings.conversations.get_secret_value() or settings.home / "conversations.sqlite"
    )
    try:
        own, others, hashes = (
            set[ConversationKey](),
            set[ConversationKey](),
            cases | set(images.of_group(group)),
        )
        async for key, state in threads.everything():
            if _is_about(state, group):
                own.add(key)
                hashes |= images_in(state)
            # Tools keep what they found in several forms; each of them has the hash.
            elif cases and any(sha256 in repr(_held(state)) for sha256 in cases):
                others.add(key)
        others -= own
        if others and citing is None:
            names = ", ".join(sorted(f"{key.user}/{key.thread}" for key in others))
            raise ConfigurationError(
                f"nothing was erased: cases of this group are cited in conversations about others ({names}); "
                "use --citing to erase these too, or --keep-citing to keep them"
            )
        gone = sorted(own | others if citing else own)
        for key in gone:
            await threads.delete(key)
        removed = await remove_unreferenced([threads], images, hashes)
        await threads.compact()
    finally:
        await threads.close()
    images.forget_group(group)
    kept = sum(ImageRef(sha256=one, width=1, height=1) in images for one in hashes)
    return Erased(0, tuple(gone), removed, kept, () if citing else tuple(sorted(others)))

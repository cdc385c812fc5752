"""Gradio's file references: an event names uploads by their ids, and Gradio reads no file for a client."""

from __future__ import annotations

from ...errors import ConfigurationError
from .upload_store import UPLOAD_ID


class ForeignReference(ValueError):
    """An event names a file by something other than the id of an upload."""


def with_upload_ids(value: object) -> object:
    """An event in which each file reference is nothing but the id of an upload.

    A reference that is marked as a stream is neither copied nor opened by Gradio; a listener gets the id.

    Raises:
        ForeignReference: a reference is a path or an address.

    Example:
        >>> with_upload_ids({"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}})
        Traceback (most recent call last):
        ForeignReference: a file must be named by its upload id; drop the image in again
    """
    if isinstance(value, list):
        return [with_upload_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "path" in value or "meta" in value:
        path = value.get("path")
        if not isinstance(path, str) or not UPLOAD_ID.fullmatch(path):
            raise ForeignReference("a file must be named by its upload id; drop the image in again")
        return {"path": path, "is_stream": True, "meta": {"_type": "gradio.FileData"}}
    return {name: with_upload_ids(one) for name, one in value.items()}


def refuse_file_references() -> None:
    """Keep Gradio from copying any file, or fetching any address, that an event names.

    Gradio copies what a reference points to before it calls a listener, and checks no path where it is
    mounted in another application. ``PageGuard`` leaves no such reference; this holds should one come.

    Raises:
        ConfigurationError: this version of Gradio does not do it where it is expected.
    """
    import gradio as gr
    from gradio import blocks, processing_utils

    async def refused(*given: object, **more: object) -> None:
        raise gr.Error("files and addresses are not read; upload the image itself")

    places: tuple[tuple[object, str], ...] = (
        (processing_utils, "async_ssrf_protected_get"),
        (processing_utils, "async_ssrf_protected_download"),
        (blocks.Block, "async_move_resource_to_block_cache"),
    )
    for owner, name in places:
        if not hasattr(owner, name):
            raise ConfigurationError(f"this version of gradio has no {name}; install one that gsco allows")
        setattr(owner, name, refused)

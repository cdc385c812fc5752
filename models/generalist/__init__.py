"""The vision-language model that decides, and the runtimes it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .protocol import AsyncGeneralist, Choice, Generalist

if TYPE_CHECKING:
    from ...images import ImageStore
    from ...settings import Settings

__all__ = ["AsyncGeneralist", "Choice", "Generalist", "load_generalist"]


def load_generalist(settings: Settings, images: ImageStore, *, patience: float | None = None) -> Generalist:
    """The generalist that the settings name: a server, a folder or hub id, or the bundled mini model.

    Args:
        settings: the fields that begin with ``generalist`` are read.
        images: where the generalist looks up image ids.
        patience: seconds that a server may be silent, and no second try; None leaves what is usual.

    Raises:
        GeneralistError: it cannot be loaded or reached.
    """
    if settings.generalist_url:
        from .openai_compatible import OpenAICompatibleGeneralist

        waits: dict[str, Any] = {} if patience is None else {"timeout": patience, "retries": 0}
        return OpenAICompatibleGeneralist(
            settings.generalist_url,
            images,
            model=settings.generalist_model,
            api_key=settings.generalist_api_key,
            mode=settings.generalist_mode,
            tools=settings.tool_calls,
            deadline=settings.generalist_timeout,
            omit=settings.generalist_omit,
            **waits,
        )
    from ..torch_threads import set_threads
    from .in_process import InProcessGeneralist

    set_threads(settings.torch_threads)
    if settings.generalist_model:
        return InProcessGeneralist.load(settings.generalist_model, images)
    from ..mini import bundled

    return InProcessGeneralist.load(bundled("generalist"), images)

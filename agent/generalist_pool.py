"""The generalist as something that is asked concurrently: loaded once, asked in batches or all at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .._support.batching import Batcher
from ..errors import GeneralistError
from ..models.generalist.protocol import AsyncGeneralist, Choice, Generalist

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from ..case import Answer

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


class _Loaded(NamedTuple):
    generalist: Generalist
    waiting: AsyncGeneralist | None
    """The same, if it waits rather than computes."""
    choices: Batcher[Choice, Answer]
    texts: Batcher[Sequence[BaseMessage], str]


class GeneralistPool:
    """Asks a generalist.

    Args:
        generalist: the model, or a function that loads it. Where that fails it is called again next time.
    """

    def __init__(self, generalist: Generalist | Callable[[], Generalist]) -> None:
        self._source = generalist
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def name(self) -> str:
        """The generalist's name and version; empty until it is loaded."""
        if self._loaded is None:
            return ""
        generalist = self._loaded.generalist
        return f"{generalist.name} {generalist.version}".strip()

    async def load(self) -> None:
        """Load it in a thread, if it is not loaded yet.

        Raises:
            GeneralistError: it cannot be loaded or reached.
        """
        if self._loaded is None:
            await asyncio.to_thread(self.generalist)

    def generalist(self) -> Generalist:
        """Return the model, loaded.

        Raises:
            GeneralistError: it cannot be loaded or reached.
        """
        with self._loading:
            if self._loaded is None:
                model = self._source if isinstance(self._source, Generalist) else self._source()
                self._loaded = _Loaded(
                    model,
                    model if isinstance(model, AsyncGeneralist) else None,
                    Batcher(_guarded(model.choose), max_batch=model.batch_size),
                    Batcher(_guarded(model.generate), max_batch=model.batch_size),
                )
            return self._loaded.generalist

    async def choose(self, choice: Choice) -> Answer:
        """Ask a closed question.

        Raises:
            GeneralistError: no answer could be had.
        """
        loaded = self._ready()
        if loaded.waiting is not None:
            return await _typed(loaded.waiting.achoose(choice))
        return await loaded.choices(choice)

    async def generate(self, messages: Sequence[BaseMessage]) -> str:
        """Ask an open question.

        Raises:
            GeneralistError: no answer could be had.
        """
        loaded = self._ready()
        if loaded.waiting is not None:
            return await _typed(loaded.waiting.agenerate(messages))
        return await loaded.texts(messages)

    def close(self) -> None:
        """Let running batches end; nothing may be asked any more."""
        if self._loaded is not None:
            self._loaded.choices.close()
            self._loaded.texts.close()

    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise GeneralistError("the generalist is not loaded; call load first")
        return self._loaded


async def _typed(answer: Awaitable[O]) -> O:
    """The same for one answer."""
    try:
        return await answer
    except GeneralistError:
        raise
    except Exception as error:
        raise _failure(error) from error


def _failure(error: Exception) -> GeneralistError:
    return GeneralistError(f"the generalist failed: {type(error).__name__}: {error}")


def _guarded(
    function: Callable[[Sequence[I]], Sequence[O | GeneralistError]],
) -> Callable[[Sequence[I]], Sequence[O | Exception]]:
    """Let nothing but typed errors out of a generalist, whichever runtime stands behind it."""

    def ask(requests: Sequence[I]) -> Sequence[O | Exception]:
        try:
            return function(requests)
        except GeneralistError:
            raise
        except Exception as error:
            raise _failure(error) from error

    return ask

"""Imports torchvision and timm without torch's compiler, which takes half of the start and is not needed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo.utils"
_importing = Lock()


class _Compiler(ModuleType):
    """Stands for the compiler's module during an import; gives the real one's parts when they are used."""

    def is_compile_supported(self, device_type: str) -> bool:
        return _real().is_compile_supported(device_type)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(), name)


def import_torchvision() -> Any:
    """Import torchvision; call it before transformers, which does so for itself.

    ``torchvision.ops.roi_align`` takes one function from torch's compiler, and with it the whole compiler,
    inductor and sympy. It calls it only where a region of interest is cut out.
    """
    with _without_compiler():
        return import_module("torchvision")


def import_timm() -> Any:
    """Import timm; its ``naflexvit`` excludes one function from compilation, which loads the compiler too."""
    with _without_compiler():
        return import_module("timm")


@contextmanager
def _without_compiler() -> Generator[None]:
    with _importing:
        if _COMPILER in sys.modules:
            yield
            return
        import torch

        stand_in, disable = _Compiler(_COMPILER), torch.compiler.disable
        sys.modules[_COMPILER] = stand_in
        torch.compiler.disable = _excluded_when_called(disable)
        try:
            yield
        finally:
            torch.compiler.disable = disable
            if sys.modules.get(_COMPILER) is stand_in:
                del sys.modules[_COMPILER]


def _excluded_when_called(disable: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.compiler.disable`` for a decorator at import: the function is excluded at its first call."""

    def decorator(function: object = None, *given: object, **options: object) -> object:
        if not callable(function):
            return disable(function, *given, **options)

        @functools.cache
        def excluded() -> Callable[..., object]:
            return disable(function, *given, **options)

        @functools.wraps(function)
        def called(*args: object, **kwargs: object) -> object:
            return excluded()(*args, **kwargs)

        return called

    return decorator


def _real() -> Any:
    if isinstance(sys.modules.get(_COMPILER), _Compiler):
        del sys.modules[_COMPILER]
    return import_module(_COMPILER)

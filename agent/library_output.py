"""Keeps warnings and progress of other libraries off the terminal; errors are still shown."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from .configuration import RenamedVariable

_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_LIBRARIES = ("transformers", "timm", "huggingface_hub", "httpx", "openai", "pydicom", "PIL", "torch")


def silence_libraries() -> None:
    """Let other libraries report errors only. Call it before they are imported.

    ``python -W …`` and ``PYTHONWARNINGS`` keep their meaning: they show the warnings of all libraries.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("once", RenamedVariable)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)

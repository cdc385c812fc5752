"""What comes with gsco: small trained weights, a bank of known cases and sample images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

NAMES = ("gsco-mini-generalist", "mini")
"""What the bundled generalist is called, in this process and where ``gsco serve generalist`` serves it."""

Part = Literal["backbones", "specialists", "generalist", "bank", "samples", "recipes"]


def bundled(part: Part | str) -> Path:
    """Return where a bundled part lies, a folder; its loader says so if it is not there."""
    return Path(__file__).parent / part

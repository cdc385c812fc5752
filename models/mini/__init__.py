"""What comes with gsco: small trained weights, a bank of known cases and sample images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Part = Literal["backbones", "specialists", "generalist", "bank", "samples", "recipes"]


def bundled(part: Part | str) -> Path:
    """Return where a bundled part lies, a folder; its loader says so if it is not there."""
    return Path(__file__).parent / part

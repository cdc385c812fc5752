"""``python -m gsco.evals``: the same as ``gsco eval``."""

from __future__ import annotations

import sys

from ..agent.cli import app
from .commands import app as commands

# Registered here as well, so that it is found where gsco was installed before it declared the command.
app.add_typer(commands)

if __name__ == "__main__":
    sys.argv.insert(1, "eval")
    sys.exit(app())

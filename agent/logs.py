"""What the servers log: single lines on stderr, without addresses and what was asked."""

from __future__ import annotations

import logging
import sys


def log_to_stderr(*names: str) -> None:
    """Let loggers write to stderr and nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)

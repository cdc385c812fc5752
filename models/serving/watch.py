"""Ends a process group when the process that started it is gone, however that one ended.

It runs as a program of its own beside vLLM, with the standard library alone: a process that is killed cannot
clean up behind itself, and vLLM handles the kernel's signal of its parent's death as it likes while it loads.
Its standard input is a pipe that the parent holds: a byte from there means that all is done, the pipe's end
means that the parent is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time

PATIENCE = 10.0
"""Seconds between asking the processes to end and ending them."""


def watch(group: int, patience: float = PATIENCE) -> None:
    """Wait for the parent; where it is gone, end the group.

    Args:
        group: id of the process group.
        patience: seconds that it may take to end by itself.
    """
    if os.read(sys.stdin.fileno(), 1):
        return
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 0.0)):
        try:
            os.killpg(group, number)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.1)
                os.killpg(group, 0)
        except ProcessLookupError:
            return


if __name__ == "__main__":
    # A terminal's interrupt is for the parent, which ends the group itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch(int(sys.argv[1]), *map(float, sys.argv[2:]))

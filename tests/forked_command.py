"""One command of gsco in a forked process that has the libraries loaded: the script of ``ForkedCommand``.

Its global ``GIVEN`` holds ``words``, ``environment``, and the files ``out`` and ``err``.
"""

import atexit
import os
import sys
from typing import Any

from gsco.agent.cli import app


def main(words: list[str], environment: dict[str, str], out: str, err: str) -> None:
    """Do what ``python -m gsco.agent.cli`` does."""
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["gsco", *words]
    try:
        app()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()  # a process that multiprocessing made does not run them


if __name__ == "gsco_command":
    given: dict[str, Any] = globals()["GIVEN"]
    main(**given)

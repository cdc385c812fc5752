"""``python -m gsco.benchmarks.perf [NAME…]``: run the benchmarks of this folder and print their tables."""

from __future__ import annotations

import pkgutil
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path


def benchmarks() -> list[str]:
    """Name the modules of this folder that have a ``main``."""
    here = Path(__file__).parent
    names = sorted(module.name for module in pkgutil.iter_modules([str(here)]))
    sources = {name: (here / f"{name}.py").read_text(encoding="utf-8") for name in names if name[0] != "_"}
    return [name for name, source in sources.items() if "\ndef main(" in source]


def run(names: Sequence[str]) -> list[str]:
    """Run the named benchmarks one after another; one that fails does not keep the next from running.

    Returns:
        The names of those that failed.
    """
    failed = []
    for name in names:
        try:
            import_module(f"{__package__}.{name}").main()
        except Exception:
            traceback.print_exc()
            failed.append(name)
    return failed


def main(arguments: Sequence[str]) -> int:
    """Run what is named, or everything; the exit status says whether all of it ran."""
    known = benchmarks()
    if unknown := [name for name in arguments if name not in known]:
        print(f"no benchmark {', '.join(unknown)}; available: {', '.join(known)}", file=sys.stderr)
        return 2
    if failed := run(arguments or known):
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What is bundled, file by file with its hash: ``gsco doctor`` checks an installation against it.

``python -m gsco.models.mini.manifest`` writes it anew; ``make mini`` ends with that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ...disk import file_hash, replacing

FOLDER = Path(__file__).parent
_NAME = "manifest.json"
_PARTS = ("backbones", "specialists", "generalist", "bank", "samples")


def present(folder: Path = FOLDER) -> dict[str, str]:
    """Hash every bundled file: path below the folder to sha256, in order of path."""
    files = [file for part in _PARTS for file in sorted((folder / part).rglob("*")) if file.is_file()]
    names = {file: file.relative_to(folder) for file in files}
    # What is hidden is unfinished work, a training's for example.
    shown = [file for file in files if not any(part.startswith(".") for part in names[file].parts)]
    return {names[file].as_posix(): file_hash(file) for file in shown}


def listed(folder: Path = FOLDER) -> Mapping[str, str]:
    """Read the manifest; empty where there is none."""
    try:
        return json.loads((folder / _NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def differences(folder: Path = FOLDER) -> list[str]:
    """Name the files that are missing, added or changed against the manifest."""
    expected, found = listed(folder), present(folder)
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def write(folder: Path = FOLDER) -> Path:
    """Write the manifest of what is there now."""
    text = json.dumps(present(folder), indent=1) + "\n"
    with replacing(folder / _NAME) as fresh:
        fresh.write_text(text, encoding="utf-8")
    return folder / _NAME


if __name__ == "__main__":
    write()
    size = sum((FOLDER / name).stat().st_size for name in listed())
    print(f"{len(listed())} bundled files, {size / 1e6:.1f} MB")

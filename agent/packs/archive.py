"""The file of a pack: written so that equal content gives equal bytes, and read without trusting it."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import zipfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from ...disk import DAMAGED_ZIP, disk_error, file_hash, writing
from ...errors import ConfigurationError
from .content import (
    MANIFEST,
    MAX_FILES,
    MAX_MANIFEST,
    MAX_TOTAL,
    REQUIRED,
    Manifest,
    PackedFile,
    allowed,
    limit_of,
)

_CHUNK = 2**20
_DATE = (1980, 1, 1, 0, 0, 0)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_UNIX = 3


def write_archive(path: Path, files: Mapping[str, bytes | Path], manifest: Manifest) -> None:
    """Write a pack; the same files give the same bytes.

    Args:
        path: of the pack.
        files: content, or where it lies, by name; without the manifest.
        manifest: of them.
    """
    text = manifest.model_dump_json(indent=1) + "\n"
    with (
        writing(path),
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file,
    ):
        try:
            with zipfile.ZipFile(file, "w") as archive:
                for name, content in [(MANIFEST, text.encode()), *sorted(files.items())]:
                    _write(archive, name, content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def packed_file(content: bytes | Path) -> PackedFile:
    """Hash and size of a file."""
    if isinstance(content, bytes):
        return PackedFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    return PackedFile(sha256=file_hash(content), bytes=content.stat().st_size)


def _write(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.create_system = _UNIX
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".safetensors") else zipfile.ZIP_DEFLATED
    if isinstance(content, bytes):
        archive.writestr(entry, content)
        return
    entry.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a pack and make sure that the file holds what it names, no more and no less.

    Raises:
        ConfigurationError: the file is no pack, or holds what no pack may hold.
    """
    with _opened(path) as archive:
        return _manifest(archive, path)


def unpack(path: Path, folder: Path) -> Manifest:
    """Write the files of a pack into an empty folder; each is checked against its hash while it is read.

    Raises:
        ConfigurationError: the file is no pack, is damaged, or holds what no pack may hold.
    """
    with _opened(path) as archive:
        manifest = _manifest(archive, path)
        for name, expected in manifest.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with writing(target), target.open("xb") as file:
                for chunk in _content(archive, name, expected, path):
                    file.write(chunk)
    return manifest


@contextmanager
def _opened(path: Path) -> Generator[zipfile.ZipFile]:
    try:
        if not path.is_file():
            raise ConfigurationError(f"there is no pack {path}")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DAMAGED_ZIP as error:
        raise ConfigurationError(f"{path.name} is damaged or not a pack: {error}; fetch it again") from error
    except OSError as error:
        # zipfile seeks to whatever offset the file names.
        if error.filename is None and disk_error(error) is None:
            raise ConfigurationError(f"{path.name} is damaged or not a pack; fetch it again") from error
        raise


def _manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    entries = archive.infolist()
    if len(entries) > MAX_FILES:
        raise ConfigurationError(f"{path.name} holds {len(entries)} files; a pack has at most {MAX_FILES}")
    for entry in entries:
        _check_entry(entry, path)
    names = [entry.filename for entry in entries]
    if len({name.casefold() for name in names}) < len(names):
        raise ConfigurationError(f"{path.name} holds a file twice; it is not a pack")
    if missing := sorted(REQUIRED - set(names)):
        raise ConfigurationError(f"{path.name} lacks {', '.join(missing)}; it is not a pack")
    with archive.open(MANIFEST) as file:
        content = file.read(MAX_MANIFEST + 1)
    if len(content) > MAX_MANIFEST:
        raise ConfigurationError(f"the manifest of {path.name} is too large; it is not a pack")
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise ConfigurationError(
            f"the manifest of {path.name} is not one that this version of gsco can read: "
            f"{error.errors()[0]['msg']}"
        ) from error
    _check_files(manifest, set(names) - {MANIFEST}, path)
    return manifest


def _check_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    name, mode = entry.filename, entry.external_attr >> 16
    shown = name if name.isprintable() and len(name) < 200 else repr(name)[:200]
    if not allowed(name) or entry.orig_filename != name:
        raise ConfigurationError(f"{path.name} holds {shown!r}, which a pack must not contain; do not use it")
    if entry.create_system == _UNIX and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ConfigurationError(f"{shown!r} in {path.name} is a link or not a plain file; do not use it")
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _METHODS:
        raise ConfigurationError(f"{shown!r} in {path.name} is encrypted or uses an unsupported compression")
    if entry.file_size > limit_of(name):
        raise ConfigurationError(f"{shown!r} in {path.name} unpacks to {entry.file_size} bytes: too large")


def _check_files(manifest: Manifest, names: set[str], path: Path) -> None:
    if odd := sorted(names ^ set(manifest.files)):
        raise ConfigurationError(f"{odd[0]!r} is in only one of {path.name} and its manifest; do not use it")
    for name, one in manifest.files.items():
        if one.bytes > limit_of(name):
            raise ConfigurationError(f"{name} in {path.name} is declared with {one.bytes} bytes: too large")
    total = sum(one.bytes for one in manifest.files.values())
    if total > MAX_TOTAL:
        raise ConfigurationError(f"{path.name} unpacks to {total} bytes; a pack has at most {MAX_TOTAL}")


def _content(archive: zipfile.ZipFile, name: str, expected: PackedFile, path: Path) -> Iterator[bytes]:
    """Yield what a file holds and no more than its manifest says, whatever its header says."""
    left, digest = expected.bytes, hashlib.sha256()
    with archive.open(name) as file:
        while chunk := file.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            yield chunk
    if left or digest.hexdigest() != expected.sha256:
        raise ConfigurationError(
            f"{name} in {path.name} is not the file that the manifest names: it was changed or damaged; "
            "fetch the pack again from where it was made"
        )

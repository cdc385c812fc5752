"""Archives that were made to do harm, or were damaged: each is refused, and nothing is written elsewhere.

``python tests/agent/packs/test_hostile_packs.py 10000`` tries as many as one likes.
"""

import io
import random
import stat
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from gsco.agent.packs.archive import packed_file, read_manifest, unpack, write_archive
from gsco.agent.packs.content import Manifest
from gsco.errors import ConfigurationError

FUZZED = 400


def made(files: Mapping[str, bytes], path: Path, listed: Mapping[str, bytes] | None = None) -> Path:
    """A pack of these files, with a manifest of these or of others."""
    manifest = Manifest(
        name="small", files={name: packed_file(one) for name, one in (listed or files).items()}
    )
    write_archive(path, files, manifest)
    return path


def added(pack: Path, entry: zipfile.ZipInfo, content: bytes) -> Path:
    with zipfile.ZipFile(pack, "a") as archive:
        archive.writestr(entry, content)
    return pack


def refused(pack: Path, folder: Path, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        unpack(pack, folder / "unpacked")


def test_a_sound_pack_is_unpacked(small_files, tmp_path):
    unpack(made(small_files, tmp_path / "p.zip"), tmp_path / "unpacked")
    for name, content in small_files.items():
        assert (tmp_path / "unpacked" / name).read_bytes() == content


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/etc/evil.json",
        "specialists/../../evil/card.json",
        "specialists/small/..",
        "C:\\evil.json",
        "specialists\\small\\probe\\card.json",
        "model.pkl",
        "specialists/small/probe/weights.pt",
        "specialists/small/probe/weights.safetensors.pkl",
        "setup.py",
        ".gsco/current",
        "MANIFEST.JSON",
        "specialists/small/Probe/card.json",
    ],
)
def test_names_that_no_pack_has(small_files, tmp_path, name):
    files = {**small_files, "specialists/small/probe/card.json": b"{}"}
    pack = added(made(files, tmp_path / "p.zip"), zipfile.ZipInfo(name), b"x")
    refused(pack, tmp_path, "must not contain|holds a file twice|in only one of")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(small_files, tmp_path, kind):
    entry = zipfile.ZipInfo("report.html")
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    pack = made({**small_files}, tmp_path / "p.zip")
    refused(added(pack, entry, b"/etc/passwd"), tmp_path, "a link or not a plain file")


@pytest.mark.parametrize("name", ["task.json", "specialists/small/probe/weights.safetensors"])
def test_a_changed_file_or_hash(small_files, tmp_path, name):
    changed = {**small_files, name: small_files[name][:-1] + b"!"}
    refused(made(changed, tmp_path / "p.zip", listed=small_files), tmp_path, "not the file that the manifest")


def test_files_beside_the_manifest_and_files_that_are_missing(small_files, tmp_path):
    more = {**small_files, "build.json": b"{}"}
    refused(made(more, tmp_path / "p.zip", listed=small_files), tmp_path, "only one of")
    refused(made(small_files, tmp_path / "q.zip", listed=more), tmp_path, "only one of")
    fewer = {name: one for name, one in small_files.items() if name != "README.md"}
    refused(made(fewer, tmp_path / "r.zip"), tmp_path, "lacks README.md")


def test_a_file_twice(small_files, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        pack = added(made(small_files, tmp_path / "p.zip"), zipfile.ZipInfo("task.json"), b"{}")
    refused(pack, tmp_path, "holds a file twice")


def test_a_bomb_writes_no_more_than_its_manifest_says(small_files, tmp_path):
    bomb = {**small_files, "report.html": bytes(2**27)}
    pack = made(bomb, tmp_path / "p.zip", listed={**small_files, "report.html": b"x" * 1000})
    assert pack.stat().st_size < 2**20
    refused(pack, tmp_path, "not the file that the manifest")
    written = sum(path.stat().st_size for path in (tmp_path / "unpacked").rglob("*") if path.is_file())
    assert written < 2**20


def test_a_size_that_its_header_lies_about(small_files, tmp_path):
    pack = made({**small_files, "report.html": bytes(2**20)}, tmp_path / "p.zip")
    content = pack.read_bytes().replace(struct.pack("<L", 2**20), struct.pack("<L", 2**31 - 1))
    pack.write_bytes(content)
    refused(pack, tmp_path, "too large|damaged")


def test_too_many_files(small_files, tmp_path):
    files = {**small_files} | {f"specialists/small/m{n}/card.json": b"{}" for n in range(1200)}
    refused(made(files, tmp_path / "p.zip"), tmp_path, "at most 1000")


def test_other_compressions_and_encryption(small_files, tmp_path):
    pack = tmp_path / "p.zip"
    with (
        zipfile.ZipFile(made(small_files, tmp_path / "q.zip")) as source,
        zipfile.ZipFile(pack, "w") as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry), zipfile.ZIP_LZMA)
    refused(pack, tmp_path, "unsupported compression")


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"not a zip" * 100])
def test_files_that_are_no_archive(tmp_path, content):
    (tmp_path / "p.zip").write_bytes(content)
    refused(tmp_path / "p.zip", tmp_path, "damaged or not a pack|lacks")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Damage an archive: bytes, ends, repeats, headers, sizes."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(data))
        match rng.randrange(7):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place : place + rng.randrange(64)] = rng.randbytes(rng.randrange(64))
            case 2:
                del data[place : place + rng.randrange(256)]
            case 3:
                other = rng.randrange(len(data))
                data[place:place] = data[other : other + rng.randrange(512)]
            case 4:
                signature = rng.choice([b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06"])
                found = data.find(signature, place)
                if 0 <= found < len(data) - 44:
                    data[found + 4 + rng.randrange(40)] = rng.randrange(256)
            case 5:
                data[place : place + 4] = struct.pack("<L", rng.choice([0, 2**31, 2**32 - 1, len(data)]))
            case _:
                del data[place:]
        if not data:
            data = bytearray(b"PK")
    return bytes(data)


def hostile(files: Mapping[str, bytes], rng: random.Random) -> bytes:
    """An archive that is whole, but whose entries lie."""
    buffer = io.BytesIO()
    names = [*files, "../x", "/x", "a\\..\\b", "x" * 300, "specialists/small/probe/card.json/", "\u202e.json"]
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in rng.sample(names, rng.randint(1, len(names))):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = rng.choice([0, stat.S_IFLNK | 0o777, stat.S_IFREG | 0o644]) << 16
            entry.create_system = rng.choice([0, 3])
            entry.compress_type = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
            archive.writestr(entry, files.get(name, rng.randbytes(rng.randrange(100))))
        manifest = rng.choice([b"{}", b"[" * 10**5, rng.randbytes(50), b'{"format":1,"name":"x","files":{}}'])
        archive.writestr("manifest.json", manifest)
    return buffer.getvalue()


def fuzz(files: Mapping[str, bytes], folder: Path, count: int, seed: int) -> int:
    """Try so many archives; how many were refused. The others hold exactly what they should."""
    rng = random.Random(seed)
    sound, place, refusals = made(files, folder / "sound.zip").read_bytes(), folder / "p.zip", 0
    for number in range(count):
        place.write_bytes(mutated(sound, rng) if rng.random() < 0.8 else hostile(files, rng))
        target = folder / "box" / "inside"
        try:
            manifest = unpack(place, target)
        except ConfigurationError:
            refusals += 1
        else:
            found = {name: (target / name).read_bytes() for name in manifest.files}
            assert found == dict(files), f"archive {number} of seed {seed} holds something else"
        box = [path for path in (folder / "box").rglob("*") if not path.is_dir()]
        assert all(path.is_file() and not path.is_symlink() for path in box)
        assert {path.name for path in folder.iterdir()} <= {"sound.zip", "p.zip", "box"}
        assert {path.name for path in (folder / "box").iterdir()} <= {"inside"} if box else True
        for path in sorted((folder / "box").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    return refusals


def test_damaged_and_hostile_archives_are_refused_and_write_nothing_elsewhere(small_files, tmp_path):
    refusals = fuzz(small_files, tmp_path, FUZZED, seed=0)
    assert refusals > 0.8 * FUZZED


def test_weights_that_were_changed_with_their_manifest_are_refused_by_the_card(busi_pack, tmp_path):
    from gsco.agent.packs.verification import checked_pack

    name = "specialists/busi/regnet/weights.safetensors"
    with zipfile.ZipFile(busi_pack) as archive:
        files = {one: archive.read(one) for one in archive.namelist() if one != "manifest.json"}
    changed = bytearray(files[name])
    changed[-5] ^= 1
    files[name] = bytes(changed)
    manifest = read_manifest(busi_pack)
    listed = {one: packed_file(content) for one, content in files.items()}
    write_archive(tmp_path / "p.zip", files, manifest.model_copy(update={"files": listed}))
    with pytest.raises(ConfigurationError, match="its card says"), checked_pack(tmp_path / "p.zip"):
        pass


if __name__ == "__main__":
    from conftest import small_files as fixture

    with tempfile.TemporaryDirectory() as name:
        wanted = int(sys.argv[1])
        said = fuzz(fixture.__wrapped__(), Path(name), wanted, seed=zlib.crc32(b"packs"))
        print(f"{wanted} archives, {said} refused, the others whole")

"""No clinical text is logged, also where the program sets the root logger to DEBUG."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from gsco import GSCo
from gsco.agent.mcp import mcp_server
from gsco.library_logging import GUARDED, guard_libraries
from mcp import Client
from packaging.requirements import Requirement
from PIL import Image, PngImagePlugin, TiffImagePlugin
from pydicom.data import get_testdata_file

from .server.conftest import make_gsco, served

__all__ = ["make_gsco"]

SECRET = "Zybulska"
"""A made-up name that stands for whatever belongs to a patient."""


class Kept(logging.Handler):
    """Keeps every record as it would be written."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {self.format(record)}")


@pytest.fixture
def kept() -> Iterator[Kept]:
    """All that is logged with the root logger at DEBUG."""
    root, handler = logging.getLogger(), Kept()
    level = root.level
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def gsco(make_gsco) -> Iterator[GSCo]:
    with make_gsco() as made:
        yield made


def files(folder: Path) -> Iterator[Path]:
    """Images of four kinds that carry the name in their headers and file names."""
    import pydicom

    image = Image.new("L", (48, 40), 90)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET)
    image.save(folder / f"{SECRET}.png", pnginfo=text)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = tags[315] = SECRET
    image.save(folder / f"{SECRET}.tif", tiffinfo=tags)
    image.save(folder / f"{SECRET}.jpg", comment=SECRET)
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.PatientName = dataset.PatientID = dataset.StudyDescription = SECRET
    dataset.save_as(folder / f"{SECRET}.dcm")
    yield from sorted(folder.iterdir())


@pytest.mark.attack
def test_nothing_of_a_case_is_logged(gsco: GSCo, kept: Kept, tmp_path: Path) -> None:
    for path in files(tmp_path):
        gsco.diagnose(path, task="shade", gate="off", question=SECRET, context=SECRET, group=SECRET)
    conversation = gsco.consult("one", group=SECRET, context=SECRET)
    conversation.send(f"What does {SECRET} have?", [tmp_path / f"{SECRET}.png"])
    conversation.send(f"Is {SECRET} ill?")
    assert SECRET in conversation.export().model_dump_json()
    gsco.delete_thread("one")
    assert kept.lines, "the handler works"
    assert [line for line in kept.lines if SECRET in line] == []


@pytest.mark.attack
def test_nothing_of_a_request_is_logged(gsco: GSCo, kept: Kept, tmp_path: Path) -> None:
    path = next(files(tmp_path))
    address = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    content = [{"type": "text", "text": SECRET}, {"type": "image_url", "image_url": {"url": address}}]
    chat = {"model": "gsco", "messages": [{"role": "user", "content": content}], "stream": True}
    with served(gsco) as url:
        answered = httpx.post(f"{url}/v1/chat/completions", json=chat, timeout=120)
        assert answered.status_code == 200, answered.text
        kept_thread = {**chat, "metadata": {"thread": "kept"}, "stream": False}
        assert httpx.post(f"{url}/v1/chat/completions", json=kept_thread, timeout=120).status_code == 200
        httpx.post(f"{url}/v1/diagnose", json={"image": address, "context": SECRET, "x": SECRET}, timeout=120)
    assert [line for line in kept.lines if SECRET in line or address[40:120] in line] == []


@pytest.mark.attack
def test_nothing_of_a_tool_call_is_logged(gsco: GSCo, kept: Kept) -> None:
    async def call() -> None:
        buffer = io.BytesIO()
        Image.new("L", (48, 40), 90).save(buffer, "PNG")
        given = {"data": base64.b64encode(buffer.getvalue()).decode()}
        async with Client(mcp_server(gsco)) as client:
            assert not (await client.call_tool("add_image", given)).is_error
            await client.call_tool("classify", {"task": SECRET})
            await client.call_tool(SECRET, {"task": SECRET})

    asyncio.run(call())
    assert [line for line in kept.lines if SECRET in line] == []


def test_a_level_that_a_program_has_set_is_kept() -> None:
    logger = logging.getLogger("aiosqlite")
    assert logger.level == logging.WARNING
    try:
        logger.setLevel(logging.DEBUG)
        guard_libraries()
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(logging.WARNING)


HARMLESS = {
    "absl",
    "accelerate",
    "anyio",
    "charset_normalizer",
    "distro",
    "dotenv",
    "filelock",
    "joblib",
    "jsonpath_ng",
    "matplotlib",
    "networkx",
    "nltk",
    "packaging",
    "portalocker",
    "psycopg_pool",
    "pydantic_settings",
    "pydub",
    "sacrebleu",
    "setuptools",
    "sklearn",
    "sympy",
    "timm",
    "torch",
    "torchgen",
    "tqdm",
    "triton",
}
"""They log, and see neither images nor text of a case, or log under the name of a guarded one."""


def test_every_library_that_logs_was_looked_at() -> None:
    logging_ones = {name for name in top_level_packages() if logs(name)}
    assert "aiosqlite" in logging_ones
    assert logging_ones - set(GUARDED) - HARMLESS == set()


def top_level_packages() -> set[str]:
    """The packages that a user's gsco and its extras bring along, by the name that they are imported by."""
    found: set[str] = set()
    known: dict[str, frozenset[str]] = {}
    offered = frozenset(metadata.metadata("gsco").get_all("Provides-Extra") or ())
    waiting = [("gsco", offered - {"dev", "docs"})]
    while waiting:
        name, extras = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in known and extras <= known[key]:
            continue
        known[key] = known.get(key, frozenset()) | extras
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if key != "gsco":
            parts = [file.parts for file in distribution.files or () if file.suffix == ".py"]
            found |= {part[0].removesuffix(".py") for part in parts if part[0] not in ("..", "bin")}
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                waiting.append((needed.name, frozenset(needed.extras)))
    return found


def logs(package: str) -> bool:
    place = Path(str(metadata.distribution("pydantic").locate_file(package)))
    sources = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    return any(
        "getLogger(" in source.read_text(encoding="utf-8", errors="ignore")
        for source in sources
        if source.is_file()
    )

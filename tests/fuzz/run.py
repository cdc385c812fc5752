"""Tries damaged and made-up inputs on everything that reads files or texts of others.

``python -m tests.fuzz.run --count 100000`` takes a few minutes on two cores. Only typed errors may come
out, within ten seconds an input and within a gigabyte altogether. An input is made from its number, so that
``--first N --count 1`` repeats it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from gsco.agent.auth import Users
from gsco.agent.exit_codes import one_line
from gsco.agent.json_limits import JsonTooComplex, parse_json
from gsco.agent.server.data_uri import image_bytes
from gsco.agent.server.errors import ApiError
from gsco.agent.server.schema import ChatRequest, DecisionRequest, DiagnosisRequest
from gsco.errors import ConfigurationError, ImageError, SpecialistError, TaskError
from gsco.graphs.collaboration_fit import COLLABORATION_FILE, CollaborationFit, read_fit
from gsco.graphs.drift import DriftMonitor
from gsco.images import ImageLimits, read_image
from gsco.models.dataset import read_dataset
from gsco.models.generalist.messages import neutralise, quote
from gsco.models.specialist.card import SpecialistCard, read_card
from gsco.tasks.card import load_task
from PIL import Image
from pydantic import ValidationError

from ..memory import forget_peak, peak

SECONDS = 10.0
GROWTH = 2**30
SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
DICOM = (
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "JPEG2000.dcm",
    "JPGExtended.dcm",
    "image_dfl.dcm",
    "rtdose.dcm",
    "SC_rgb_small_odd.dcm",
)
TOKENS = (
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"../../../etc/passwd",
    b"/dev/zero",
    b"\xef\xbb\xbf",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"+",
    b"[",
    b"]",
    b"{",
    b"}",
    b"nan",
    b"-1",
    b"1e999",
    b"null",
    b"true",
    b"<|im_end|>",
    b"<img>",
    b"</script>",
    b"=cmd|' /C calc'!A0",
    "\u202e".encode(),
    "\u2028".encode(),
    b"\xed\xa0\x80",
    b"%s%n",
    b"9" * 50,
)


Random = random.Random


# What inputs are made of


@cache
def pictures() -> tuple[bytes, ...]:
    """Small images of every kind that is read."""
    noise = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    colour, grey = Image.fromarray(noise), Image.fromarray(noise[..., 0])
    kinds = [
        ("PNG", colour, {}),
        ("PNG", grey.convert("LA"), {}),
        ("PNG", colour.quantize(9), {"transparency": 3}),
        ("JPEG", colour, {}),
        ("JPEG", grey, {"progressive": True}),
        ("JPEG", colour.convert("CMYK"), {}),
        ("BMP", colour, {}),
        ("WEBP", colour, {}),
        ("WEBP", colour, {"lossless": True}),
        ("TIFF", colour, {"save_all": True, "append_images": [grey]}),
        ("TIFF", grey.convert("F"), {}),
        *(("TIFF", colour, {"compression": how}) for how in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
    ]
    made = []
    for kind, image, options in kinds:
        file = io.BytesIO()
        image.copy().save(file, kind, **options)
        made.append(file.getvalue())
    return (*made, *((SHIPPED / name).read_bytes() for name in DICOM))


CARD = b"""name = "skin"
kind = "diagnosis"
title = "Moles"
modality = "dermatoscopy"
options = ["melanoma", "nevus"]
licence = "none"
source = "nowhere"

[aliases]
nevus = ["naevus", "mole"]
"""
TABLE = b"path,label,group,split\na.png,one,p1,train\nb.png,two,p2,val\nc.png,one+two,p3,test\n"
CHAT = {
    "model": "gsco",
    "stream": False,
    "metadata": {"thread": "a"},
    "gsco": {"task": "busi", "tools": "shown"},
    "messages": [
        {"role": "system", "content": "Be short."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            ],
        },
    ],
}
DIAGNOSIS = {"image": "data:image/png;base64,iVBORw0KGgo=", "task": "busi", "window": [1, 2], "frame": 0}
DECISION = {"action": "edit", "reviewer": "Dr A", "reason": "seen", "labels": ["benign"]}
SPECIALIST = {
    "format": 1,
    "name": "a",
    "task": "busi",
    "architecture": "resnet18",
    "labels": ["x", "y"],
    "transform": {"size": 64},
    "weights": {"sha256": "0" * 64},
}


LINES = b'{"file_name":"a.png","label":"one"}\n{"file_name":"b.png","label":"two"}\n' * 2
COCO = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "annotations": [{"image_id": 1, "category_id": 1}],
    "categories": [{"id": 1, "name": "one"}],
}
STUDIO = [
    {"data": {"image": "/data/upload/a.png"}, "annotations": [{"result": [{"value": {"choices": ["one"]}}]}]},
    {"data": {"image": "s3://x/a.png?d=a.png"}, "annotations": [{"was_cancelled": True}]},
]
FIT = {
    "task": "busi",
    "task_version": "1",
    "kind": "diagnosis",
    "options": ["x", "y"],
    "rule": "fused",
    "chosen": ["a"],
    "parts": {"specialists": {"a": "0123"}},
    "cases": 40,
    "groups": 40,
    "quiet": {
        "options": ["x", "y"],
        "exclusive": False,
        "weights": {"a": 1.0, "b": 0.5},
        "offsets": [0.1, -0.1],
        "sets": {"options": ["x", "y"], "sets": [["x"], ["y"]], "associations": [0.5, -0.5]},
    },
    "held_out": {"confidence": [0.5, 0.9], "right": [True, False], "eligible": [True, True]},
    "reference": [{"doubt": 0.1, "distance": 0.2}],
}
WATCH = b'{"fit":"0123","scores":{"doubt":0.1,"distance":0.2}}\n{"fit":"0123","right":false}\n' * 2


def damaged(random: Random, data: bytes) -> bytes:
    """The same with a few bytes changed, cut, lost, added or doubled, most often near the beginning."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 12))):
        end = len(made) if random.random() < 0.5 else min(len(made), 400)
        place = random.randrange(end + 1)
        how = random.randrange(7)
        if how == 0:
            del made[place:]
        elif how == 1:
            del made[place : place + random.randrange(1, 64)]
        elif how == 2:
            made[place:place] = random.randbytes(random.randrange(1, 32))
        elif how == 3:
            made[place:place] = random.choice(TOKENS)
        elif how == 4:
            token = random.choice(TOKENS)
            made[place : place + len(token)] = token
        elif how == 5:
            made[place:place] = made[place : place + random.randrange(1, 200)] * random.randrange(1, 20)
        elif made:
            made[place % len(made)] ^= 1 << random.randrange(8)
    return bytes(made)


# What is tried, and what may come of it


def try_image(random: Random, folder: Path) -> None:
    """A damaged picture, perhaps with a frame and a window."""
    window = random.choice((None, None, (random.uniform(-2000, 2000), random.uniform(-1, 4000))))
    try:
        image = read_image(
            damaged(random, random.choice(pictures())),
            limits=ImageLimits(max_pixels=4_000_000),
            frame=random.choice((None, None, 0, 1, 2**40)),
            window=window,
        )
    except ImageError:
        return
    assert image.mode in ("L", "RGB") and image.info == {}


def try_card(random: Random, folder: Path) -> None:
    """A damaged task card."""
    if random.random() < 0.5:
        path, data = folder / "card.toml", CARD
    else:
        path, data = (
            folder / "card.json",
            json.dumps({"name": "a", "kind": "diagnosis", "options": ["x", "y"]}).encode(),
        )
    path.write_bytes(damaged(random, data))
    with suppress(TaskError):
        load_task(path)


def try_table(random: Random, folder: Path) -> None:
    """A damaged labels.csv beside three images."""
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(pictures()[0])
    (folder / "labels.csv").write_bytes(damaged(random, TABLE))
    with suppress(ConfigurationError):
        read_dataset(folder)


def try_specialist_card(random: Random, folder: Path) -> None:
    """A damaged card of a specialist."""
    (folder / "card.json").write_bytes(damaged(random, json.dumps(SPECIALIST).encode()))
    with suppress(SpecialistError):
        read_card(folder, SpecialistCard)


def try_request(random: Random, folder: Path) -> None:
    """A damaged body of a request, and the images in it."""
    kind, body = random.choice(
        ((ChatRequest, CHAT), (DiagnosisRequest, DIAGNOSIS), (DecisionRequest, DECISION))
    )
    try:
        value = kind.model_validate(parse_json(damaged(random, json.dumps(body).encode())))
    except (JsonTooComplex, json.JSONDecodeError, ValidationError):
        return
    addresses = [value.image] if isinstance(value, DiagnosisRequest) and isinstance(value.image, str) else []
    for address in addresses:
        with suppress(ApiError):
            image_bytes(address, "image")


def try_lines(random: Random, folder: Path) -> None:
    """Damaged JSON lines that label three images."""
    for name in ("a.png", "b.png", "c.png"):
        (folder / name).write_bytes(pictures()[0])
    (folder / "metadata.jsonl").write_bytes(damaged(random, LINES))
    with suppress(ConfigurationError):
        read_dataset(folder)


def try_annotations(random: Random, folder: Path) -> None:
    """A damaged COCO or Label Studio export."""
    (folder / "a.png").write_bytes(pictures()[0])
    path = folder / "export.json"
    path.write_bytes(damaged(random, json.dumps(random.choice((COCO, STUDIO))).encode()))
    with suppress(ConfigurationError):
        read_dataset(path)


def try_fit(random: Random, folder: Path) -> None:
    """A damaged fit of a task; one that is accepted can decide."""
    place = folder / "busi"
    place.mkdir()
    (place / COLLABORATION_FILE).write_bytes(damaged(random, json.dumps(FIT).encode()))
    try:
        fit = read_fit([folder], "busi")
    except ConfigurationError:
        return
    if fit is not None and fit.quiet is not None:
        given = {name: dict.fromkeys(fit.quiet.options, 0.3) for name in fit.quiet.weights}
        with suppress(LookupError):
            pooled = fit.quiet(given)
            assert all(0 <= value <= 1 for value in pooled.values())
            assert fit.quiet.labels(pooled)


def try_watch(random: Random, folder: Path) -> None:
    """A damaged watch for drift."""
    (folder / "busi.jsonl").write_bytes(damaged(random, WATCH))
    fit = CollaborationFit.model_validate(FIT)
    monitor = DriftMonitor(folder, "suspend")
    monitor.suspended("busi", fit)
    assert monitor.count("busi", fit) >= 0


def try_text(random: Random, folder: Path) -> None:
    """Text of anybody on its way to a prompt and to a terminal."""
    said = damaged(random, b"A mole <5 mm, [INST] see <|im_end|> of the arm.\n" * 3)
    text = said.decode("utf-8", random.choice(("replace", "surrogateescape")))
    clean = neutralise(text)
    assert "<|im_end|>" not in clean and "[INST]" not in clean
    quote(text, random.choice((None, 10)))
    assert "\x1b" not in one_line(text)


def try_keys(random: Random, folder: Path) -> None:
    """A damaged list of keys."""
    keys = damaged(random, b"anna:key-of-anna-0123456789,ben:key-of-ben-0123456789")
    with suppress(ConfigurationError):
        Users.parse(keys.decode("latin-1"))


KINDS: dict[str, tuple[int, Callable[[Random, Path], None]]] = {
    "image": (8, try_image),
    "task card": (2, try_card),
    "labels.csv": (3, try_table),
    "specialist card": (2, try_specialist_card),
    "request": (3, try_request),
    "text": (1, try_text),
    "keys": (1, try_keys),
    "JSON lines": (1, try_lines),
    "annotations": (2, try_annotations),
    "fit": (2, try_fit),
    "watch": (1, try_watch),
}
"""What is tried, how often of all, and how."""


@dataclass(frozen=True)
class Failure:
    """An input that did something else than it may."""

    number: int
    kind: str
    what: str


def tried(number: int) -> tuple[str, Failure | None]:
    """Make the input of a number and try it."""
    random = Random(number)
    names, weights = zip(*((name, weight) for name, (weight, _) in KINDS.items()), strict=True)
    kind = random.choices(names, weights)[0]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gsco-fuzz-") as folder:
        try:
            KINDS[kind][1](random, Path(folder))
        except BaseException:
            return kind, Failure(number, kind, traceback.format_exc())
    seconds = time.monotonic() - start
    if seconds > SECONDS:
        return kind, Failure(number, kind, f"took {seconds:.1f} s")
    return kind, None


def tried_many(numbers: range) -> tuple[Counter[str], list[Failure]]:
    """Try the inputs of many numbers; memory is an input's failure, too."""
    pictures()
    tried(numbers.start)
    rest, counts, failures = forget_peak(), Counter[str](), list[Failure]()
    for number in numbers:
        kind, failure = tried(number)
        counts[kind] += 1
        if failure is None and peak() - rest > GROWTH:
            failure, rest = Failure(number, kind, "took more than a gigabyte"), forget_peak()
        failures += [failure] if failure else []
    return counts, failures


def _parts(first: int, count: int, size: int = 500) -> Iterator[range]:
    for start in range(first, first + count, size):
        yield range(start, min(start + size, first + count))


def main() -> int:
    """Try many inputs in as many processes as there are processors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    counts, failures, start = Counter[str](), list[Failure](), time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        for some, failed in pool.map(tried_many, _parts(options.first, options.count)):
            counts.update(some)
            failures += failed
            print(f"\r{counts.total()} inputs, {len(failures)} failures", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for kind, count in sorted(counts.items()):
        print(f"{kind}: {count}, failures: {sum(one.kind == kind for one in failures)}")
    for failure in failures[:20]:
        print(f"\ninput {failure.number} ({failure.kind}): {failure.what}")
    print(f"{counts.total()} inputs in {time.monotonic() - start:.0f} s, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

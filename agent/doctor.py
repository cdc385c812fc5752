"""What is here, what is missing and what to do about it.

It looks before it loads: cards, hashes and addresses tell most, in a few seconds. The bundled models are
as they were released where their hashes are; a generalist of the user's own is asked one question before it
passes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigurationError, GscoError

if TYPE_CHECKING:
    from pathlib import Path

    from ..settings import Settings

State = Literal["ok", "note", "wrong"]

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "langgraph",
    "langchain-core",
    "pydicom",
    "pillow",
)
PATIENCE = 30.0
"""Seconds for a server's answer to one question."""
REINSTALL = "reinstall gsco, or rebuild the bundled parts with make mini"
REPORT = "this is a fault of gsco; please report it with the message"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    subject: str
    state: State
    """``wrong`` where the default cannot run with it; ``note`` where only something optional is missing."""
    found: str
    advice: str = ""


Finding = Callable[["Settings"], "Iterator[Check]"]


def examine(
    settings: Settings, *, load: bool = False, looking: Callable[[str], object] = lambda subject: None
) -> Iterator[Check]:
    """Look at everything, one after the other; a thing that fails does not end the examination.

    Args:
        settings: what is examined.
        load: also load every bundled model, and ask the bundled generalist a question.
        looking: called with each subject before it is looked at.
    """
    for subject, look in (*_LOOKS, *(_LOADS if load else ())):
        looking(subject)
        try:
            yield from look(settings)
        except GscoError as error:
            yield Check(subject, "wrong", str(error))
        # Whatever an installation's broken parts raise is a finding here, never a crash.
        except Exception as error:
            advice = REINSTALL if subject in _BUNDLED else REPORT
            yield Check(subject, "wrong", f"{type(error).__name__}: {error}", advice)


def healthy(checks: Sequence[Check]) -> bool:
    """Whether the default can run."""
    return all(check.state != "wrong" for check in checks)


def _python(settings: Settings) -> Iterator[Check]:
    from .. import __version__

    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("gsco", "ok", f"{__version__} on Python {version}")
    for package in PACKAGES:
        try:
            yield Check(package, "ok", metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Check(package, "wrong", "not installed", "reinstall gsco: pip install gsco")


def _computing(settings: Settings) -> Iterator[Check]:
    from ..models.torch_threads import planned_threads

    yield Check("computing", "ok", planned_threads(settings.torch_threads).reason)


def _torch(settings: Settings) -> Iterator[Check]:
    import torch

    from ..models.torch_threads import set_threads

    yield Check("computing", "ok", set_threads(settings.torch_threads).reason)
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU (the default needs none)"
    yield Check("torch device", "ok", place)


def _home(settings: Settings) -> Iterator[Check]:
    import tempfile

    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.home):
            yield Check("home", "ok", f"{settings.home} can be written")
    except OSError as error:
        advice = "set GSCO_HOME to a folder that you may write"
        yield Check("home", "wrong", f"{settings.home}: {error.strerror}", advice)


def _bundled(settings: Settings) -> Iterator[Check]:
    from ..models.mini import manifest

    listed, different = manifest.listed(), manifest.differences()
    if not listed:
        yield Check("bundled parts", "wrong", "their manifest is missing", REINSTALL)
    elif different:
        yield Check("bundled parts", "wrong", f"missing or changed: {', '.join(different[:5])}", REINSTALL)
    else:
        yield Check("bundled parts", "ok", f"{len(listed)} files, all as they were released")


def _codecs(settings: Settings) -> Iterator[Check]:
    from PIL import features

    missing = [name for name in ("jpg", "zlib", "webp", "libtiff") if not features.check(name)]
    if missing:
        yield Check(
            "image formats", "wrong", f"Pillow lacks {', '.join(missing)}", "install Pillow's own wheel"
        )
    else:
        yield Check("image formats", "ok", "PNG, JPEG, TIFF, BMP and WebP")
    yield _dicom()


def _dicom() -> Check:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import HTJ2K, JPEG2000, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

    kinds = {
        "JPEG": JPEGBaseline8Bit,
        "JPEG-LS": JPEGLSLossless,
        "JPEG 2000": JPEG2000,
        "HTJ2K": HTJ2K,
        "RLE": RLELossless,
    }
    available = {name: get_decoder(syntax).is_available for name, syntax in kinds.items()}
    lacking = [name for name, there in available.items() if not there]
    if lacking:
        advice = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        return Check("DICOM", "note", f"no decoder for {', '.join(lacking)}", advice)
    return Check("DICOM", "ok", f"uncompressed, {', '.join(available)}")


def _specialists(settings: Settings) -> Iterator[Check]:
    from ..models.specialist.inventory import inventory
    from .assembly import LazyPanels, specialist_folders
    from .builds import task_book

    folders = specialist_folders(settings)
    own = folders[1:]
    tasks = sorted(LazyPanels(folders))
    if not tasks:
        yield Check("specialists", "wrong", "there are none", REINSTALL)
    book = task_book(settings)
    for task in tasks:
        options = book.get(task).options if task in book else ()
        names, missing = inventory(task, folders, options)
        for one in missing:
            name = one.source.removeprefix("specialist:")
            found = f"{one.source} is left out: {one.reason}"
            yield Check(f"specialists {task}", "wrong", found, _mending(own, task, name))
        yield Check(f"specialists {task}", "ok", ", ".join(names) or "none")


def _backbone(settings: Settings) -> Iterator[Check]:
    from ..models.specialist.backbone import LITE0, read_backbone

    card, tensors = read_backbone(LITE0)
    yield Check("backbone", "ok", f"{card.name}, {card.architecture}, {len(tensors)} tensors")


def _panels(settings: Settings) -> Iterator[Check]:
    from .assembly import LazyPanels, specialist_folders
    from .builds import task_book

    folders = specialist_folders(settings)
    own, panels = folders[1:], LazyPanels(folders, task_book(settings))
    for task in sorted(panels):
        panel = panels[task]
        for missing in panel.missing:
            name = missing.source.removeprefix("specialist:")
            found = f"{missing.source} is left out: {missing.reason}"
            yield Check(f"panel {task}", "wrong", found, _mending(own, task, name))
        yield Check(f"panel {task}", "ok", f"{len(panel.members)} specialists load")


def _mending(own: Sequence[Path], task: str, name: str) -> str:
    """Say how to mend one specialist: the user's own, or a bundled one."""
    for folder in own:
        if (folder / task / name).is_file():
            return f"correct {folder / task / name}, or delete it: gsco store retriever writes it again"
        if (folder / task / name).exists():
            return (
                f"train it again (gsco train specialist --dataset DATASET --task {task}), copy the whole "
                f"folder again, or move {folder / task / name} away; the other specialists work without it"
            )
    return REINSTALL


def _store(settings: Settings) -> Iterator[Check]:
    from contextlib import closing

    from .builds import installed_builds, joined_store

    with closing(joined_store(settings, installed_builds(settings.home))) as store:
        tasks = ", ".join(f"{task} {count}" for task, count in store.tasks().items())
        where = settings.case_store or "bundled bank"
        if not store.count():
            yield Check("known cases", "wrong", f"{where} is empty", "gsco store build DATASET --task NAME")
        else:
            yield Check("known cases", "ok", f"{store.count()} in the {where}: {tasks}")


def _tasks(settings: Settings) -> Iterator[Check]:
    from .builds import damaged_builds, task_book

    for name, error in damaged_builds(settings.home).items():
        yield Check(
            f"build {name}", "wrong", str(error), "correct the file; the other builds go on without it"
        )
    book = task_book(settings)
    for name, error in book.wrong.items():
        advice = f"correct the card, or move it out of {settings.tasks}; only the task {name} waits for it"
        yield Check(f"task {name}", "wrong", str(error), advice)
    yield Check("tasks", "ok", ", ".join(book.names()))


def _generalist(settings: Settings) -> Iterator[Check]:
    import json

    from ..models.mini import bundled, manifest

    if settings.generalist_url or settings.generalist_model:
        yield from _generalist_answer(settings)
    elif any(name.startswith("generalist/") for name in manifest.differences()):
        yield Check("generalist", "wrong", "the bundled one is not as it was released", REINSTALL)
    else:
        card = json.loads((bundled("generalist") / "card.json").read_text(encoding="utf-8"))
        yield Check("generalist", "ok", f"{card['name']}, bundled, as released; --load asks it a question")


def _generalist_answer(settings: Settings) -> Iterator[Check]:
    """Load or reach the generalist, and put one real question to it in the way that diagnoses do."""
    import tempfile
    from pathlib import Path

    from ..images import ImageStore
    from ..models.generalist import load_generalist
    from .serving_verification import one_question

    with tempfile.TemporaryDirectory() as folder:
        images = ImageStore(Path(folder))
        model = load_generalist(settings, images, patience=PATIENCE)
        yield one_question(model, images)


def _optional(settings: Settings) -> Iterator[Check]:
    from ..models.serving.interpreter import find_python

    url = "not set; to use a served model such as MedDr, set GSCO_GENERALIST_URL=http://host:8000/v1"
    if not settings.generalist_url:
        yield Check("served generalist", "note", url)
    try:
        yield Check("vLLM", "ok", f"found by {find_python(settings.vllm_python)}")
    except ConfigurationError as error:
        yield Check("vLLM", "note", "not found; gsco serve generalist needs it", str(error))
    if find_spec("weaviate") is None:
        yield Check("Weaviate client", "note", "not installed; this version keeps known cases in a file")


_BUNDLED = ("gsco", "computing", "image formats", "bundled parts", "backbone")
"""What only an installation can have wrong."""

_LOOKS: tuple[tuple[str, Finding], ...] = (
    ("gsco", _python),
    ("computing", _computing),
    ("home", _home),
    ("image formats", _codecs),
    ("bundled parts", _bundled),
    ("tasks", _tasks),
    ("specialists", _specialists),
    ("known cases", _store),
    ("generalist", _generalist),
    ("optional", _optional),
)
_LOADS: tuple[tuple[str, Finding], ...] = (
    ("torch device", _torch),
    ("backbone", _backbone),
    ("panels", _panels),
    ("answer", _generalist_answer),
)

"""What is here, what is missing and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigurationError, GscoError

if TYPE_CHECKING:
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
REINSTALL = "reinstall gsco, or rebuild the bundled parts with make mini"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    subject: str
    state: State
    """``wrong`` where the default cannot run with it; ``note`` where only something optional is missing."""
    found: str
    advice: str = ""


Finding = Callable[["Settings"], "Iterator[Check]"]


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything, one after the other; a thing that fails does not end the examination."""
    for subject, look in _LOOKS:
        try:
            yield from look(settings)
        except GscoError as error:
            yield Check(subject, "wrong", str(error))
        # Whatever an installation's broken parts raise is a finding here, never a crash.
        except Exception as error:
            yield Check(subject, "wrong", f"{type(error).__name__}: {error}", REINSTALL)


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


def _torch(settings: Settings) -> Iterator[Check]:
    import torch

    from .assembly import set_threads

    set_threads(settings.threads)
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU (the default needs none)"
    yield Check("computing", "ok", f"{torch.get_num_threads()} threads, {place}")


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


def _backbone(settings: Settings) -> Iterator[Check]:
    from ..models.specialist.backbone import LITE0, read_backbone

    card, tensors = read_backbone(LITE0)
    yield Check("backbone", "ok", f"{card.name}, {card.architecture}, {len(tensors)} tensors")


def _specialists(settings: Settings) -> Iterator[Check]:
    from ..models.mini import bundled
    from .assembly import LazyPanels, own_specialists

    panels = LazyPanels([bundled("specialists"), *own_specialists(settings)])
    if not len(panels):
        yield Check("specialists", "wrong", "there are none", REINSTALL)
    for task in sorted(panels):
        panel = panels[task]
        for missing in panel.missing:
            yield Check(f"specialists {task}", "wrong", f"{missing.source}: {missing.reason}", REINSTALL)
        yield Check(f"specialists {task}", "ok", ", ".join(panel.members) or "none")


def _store(settings: Settings) -> Iterator[Check]:
    from contextlib import closing

    from ..tools.stores import open_store

    key = settings.case_store_api_key.get_secret_value()
    with closing(open_store(settings.case_store, home=settings.home, api_key=key)) as store:
        tasks = ", ".join(f"{task} {count}" for task, count in store.tasks().items())
        where = settings.case_store or "bundled bank"
        if not store.count():
            yield Check("known cases", "wrong", f"{where} is empty", "gsco index build DATASET --task NAME")
        else:
            yield Check("known cases", "ok", f"{store.count()} in the {where}: {tasks}")


def _tasks(settings: Settings) -> Iterator[Check]:
    from ..tasks import TaskBook

    yield Check("tasks", "ok", ", ".join(TaskBook(settings.tasks).names()))


def _generalist(settings: Settings) -> Iterator[Check]:
    from ..images import ImageStore
    from ..models.generalist import load_generalist

    images = ImageStore(settings.image_folder)
    if settings.generalist_url:
        from ..models.generalist.openai_compatible import OpenAICompatibleGeneralist

        server = OpenAICompatibleGeneralist(
            settings.generalist_url,
            images,
            model=settings.generalist_model,
            api_key=settings.generalist_api_key,
            timeout=5.0,
            retries=0,
        )
        kind = "vLLM" if server.endpoint.vllm else "OpenAI-compatible"
        yield Check("generalist", "ok", f"{server.name} ({kind}) serves {', '.join(server.endpoint.models)}")
    else:
        model = load_generalist(settings, images)
        yield Check("generalist", "ok", f"{model.name}, version {model.version}, loads")


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


_LOOKS: tuple[tuple[str, Finding], ...] = (
    ("gsco", _python),
    ("computing", _torch),
    ("home", _home),
    ("image formats", _codecs),
    ("bundled parts", _bundled),
    ("tasks", _tasks),
    ("backbone", _backbone),
    ("specialists", _specialists),
    ("known cases", _store),
    ("generalist", _generalist),
    ("optional", _optional),
)

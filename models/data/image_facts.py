"""What one look at each image of a data set says: size, content, border, origin and embedding."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..._support.progress import Progress
from ...errors import ImageError
from ...images import is_dicom, pixel_hash, read_image
from ...images.fingerprints import fingerprint

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..specialist.card import Transform

Floats = npt.NDArray[np.floating]

_CHUNK = 256
_DECODERS = 4
_SIDE = 64
"""Pictures are measured at this size."""
_STRIP = 3
"""Pixels of the border at that size."""
_CORNER = 12
_INSET = 16
_BRIGHT = 245
_COLOURED = 24
"""Difference of the channels from which a pixel counts as coloured."""


@dataclass(frozen=True)
class ImageFacts:
    """One readable image."""

    width: int
    height: int
    pixels: str
    """Hash of the decoded pixels: equal whatever the file format."""
    fingerprint: npt.NDArray[np.bool_]
    """(144,): see ``images.fingerprints``."""
    colour: float
    """Share of coloured pixels."""
    border: Floats
    """(12,): mean, spread and darkness of the four sides."""
    corners: Floats
    """(12,): brightest value, share of bright pixels and edges of the four corners."""
    inner_border: Floats
    """(12,): what ``border`` is, of four strips around the middle."""
    inner_corners: Floats
    """(12,): what ``corners`` is, of four patches around the middle."""
    spread: float
    """Standard deviation of the grey values, 0 to 255."""
    format: str
    """Of the file, with mode and compression: ``PNG L``, ``JPEG RGB 1f2e``."""
    device: str
    """Hash of maker and model from the header; empty where there is none."""
    modality: str
    """DICOM's modality; empty for other files."""


@dataclass(frozen=True)
class LookedAt:
    """A data set's images after one reading."""

    facts: tuple[ImageFacts | None, ...]
    """One for each path; None where the image cannot be read."""
    errors: dict[int, str]
    """Place of an image that cannot be read, and why."""
    embeddings: Floats | None
    """(n, d) of the shared backbone, float32, rows of zeros for unreadable images; None if not wanted."""
    trunk: str = ""
    """``trunk_hash`` of that backbone."""


def look_at(paths: Sequence[Path], *, embed: bool = True, quiet: bool = False) -> LookedAt:
    """Read every image once.

    Args:
        paths: image files.
        embed: whether to embed them with the bundled backbone too (about 50 images a second on two cores).
        quiet: show no progress.
    """
    backbone = _Backbone() if embed else None
    facts: list[ImageFacts | None] = []
    errors: dict[int, str] = {}
    rows: list[Floats] = []
    transform = backbone.transform if backbone else None
    with ThreadPoolExecutor(_DECODERS) as pool, Progress("reading images", len(paths), quiet=quiet) as bar:
        for start in range(0, len(paths), _CHUNK):
            part = paths[start : start + _CHUNK]
            small = []
            for n, (found, pixels, error) in enumerate(pool.map(lambda path: _look(path, transform), part)):
                facts.append(found)
                small.append(pixels)
                if error:
                    errors[start + n] = error
            if backbone:
                rows += backbone.embed(small)
            bar.advance(len(part))
    trunk = backbone.trunk if backbone else ""
    return LookedAt(tuple(facts), errors, np.concatenate(rows) if rows else None, trunk)


def _look(
    path: Path, transform: Transform | None
) -> tuple[ImageFacts | None, npt.NDArray[np.uint8] | None, str]:
    try:
        image = read_image(path)
        facts = _facts(path, image)
    except ImageError as error:
        return None, None, str(error)
    return facts, transform.resize(image) if transform else None, ""


def _facts(path: Path, image: Image) -> ImageFacts:
    small = image.resize((_SIDE, _SIDE))
    grey = np.asarray(small.convert("L"), dtype=np.float32)
    colour = 0.0
    if image.mode == "RGB":
        channels = np.asarray(small, dtype=np.int16)
        colour = float((np.ptp(channels, axis=2) > _COLOURED).mean())
    format_, device, modality = _origin(path, image)
    return ImageFacts(
        image.width,
        image.height,
        pixel_hash(image),
        fingerprint(image),
        colour,
        _border(grey),
        _corners(grey),
        _border(grey[_INSET:-_INSET, _INSET:-_INSET]),
        _corners(grey[_INSET:-_INSET, _INSET:-_INSET]),
        float(grey.std()),
        format_,
        device,
        modality,
    )


def _border(grey: Floats) -> Floats:
    sides = grey[:_STRIP], grey[-_STRIP:], grey[:, :_STRIP], grey[:, -_STRIP:]
    return np.array([value for side in sides for value in (side.mean(), side.std(), (side < 8).mean())])


def _corners(grey: Floats) -> Floats:
    ends = slice(None, _CORNER), slice(-_CORNER, None)
    return np.array([value for rows in ends for columns in ends for value in _marks(grey[rows, columns])])


def _marks(corner: Floats) -> tuple[float, float, float]:
    edges = np.abs(np.diff(corner, axis=0)).mean() + np.abs(np.diff(corner, axis=1)).mean()
    return float(corner.max()), float((corner > _BRIGHT).mean()), float(edges)


def _origin(path: Path, image: Image) -> tuple[str, str, str]:
    """Format, device and modality by the file's header, as far as it can be read."""
    if is_dicom(path):
        return _dicom_origin(path, image.mode)
    from PIL import Image as Images

    try:
        with warnings.catch_warnings(), Images.open(path) as file:
            warnings.simplefilter("ignore")
            tables = getattr(file, "quantization", None)
            exif = file.getexif()
            device = [str(exif.get(tag) or "").strip() for tag in (0x010F, 0x0110)]
            told = f"{file.format} {file.mode}" + (
                f" {_short(repr(sorted(tables.items())))}" if tables else ""
            )
    except Exception:  # a header that Pillow alone cannot read says nothing here
        return f"other {image.mode}", "", ""
    return told, _short("/".join(device)) if any(device) else "", ""


def _dicom_origin(path: Path, mode: str) -> tuple[str, str, str]:
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tags = ["Modality", "Manufacturer", "ManufacturerModelName", "StationName"]
            header = dcmread(path, stop_before_pixels=True, specific_tags=tags, force=True)
            device = "/".join(str(header.get(tag) or "") for tag in tags[1:])
            modality = str(header.get("Modality") or "")
        except Exception:  # the pixels could be read; a damaged header says nothing more
            return f"DICOM {mode}", "", ""
    return f"DICOM {mode}", _short(device) if device.strip("/") else "", modality


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:4]


class _Backbone:
    """The bundled frozen backbone, as a function of pixels."""

    def __init__(self) -> None:
        from ..specialist.backbone import LITE0, read_backbone
        from ..specialist.device import choose_device
        from ..specialist.network import classifier_of, create_network, load_state, place, trunk_hash

        card, state = read_backbone(LITE0)
        network = create_network(card.architecture, 2, image_size=card.transform.side)
        load_state(network, state, source="the shared backbone", skip=[classifier_of(network)[0]])
        self.transform, self._width = card.transform, card.embedding_width
        self._device = choose_device("auto")
        self.trunk = trunk_hash(network, self.transform)
        self._network = place(network, self._device)

    def embed(self, pixels: Sequence[npt.NDArray[np.uint8] | None]) -> Iterator[Floats]:
        import torch

        from ..specialist.network import normalise, trunk

        empty = np.zeros((self.transform.side, self.transform.side, 3), np.uint8)
        for start in range(0, len(pixels), 64):
            part = pixels[start : start + 64]
            stacked = np.stack([empty if one is None else one for one in part])
            batch = torch.from_numpy(stacked).permute(0, 3, 1, 2).to(self._device)
            with torch.inference_mode():
                rows = trunk(self._network, normalise(batch, self.transform)).float().cpu().numpy()
            rows[[one is None for one in part]] = 0
            yield rows

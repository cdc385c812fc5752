"""The image store: pictures under the hash of their pixels, in a folder and in memory."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..case import ImageRef
from ..errors import ImageMissing, ImageUnreadable, ImageUnsupported, StoreError
from .grey import Values, Window, grey8
from .limits import DEFAULT_LIMITS, ImageLimits, check_size
from .rasters import plain
from .reading import guarded, pixel_hash, read_image, read_unguarded
from .repairs import collected_repairs

Source = str | Path | bytes | Image.Image | Values
"""What the image store takes."""

_GROUPS = "groups"
"""Folder with an empty file for each image of a group, in a folder that is named after the group's hash."""
_REPAIRS = "repairs"
"""Keyword of a text in a stored file: see ``ImageRef.repairs``."""
_ID = re.compile(r"img-([0-9a-f]{12})")


class ImageStore:
    """Images by the hash of their pixels, as PNG files in a folder.

    The same picture is kept once, whichever lossless format it came in. A file appears whole or not at
    all, so that several processes may share a folder. Decoded images stay in memory up to a bound, for
    gate, specialists and generalist to decode once. Nothing but pixels and the notes on repairs is stored.

    Args:
        folder: made at the first ``put``, readable by its owner only.
        limits: for what is put in.
        cache_bytes: bound on the decoded images in memory.
    """

    def __init__(
        self, folder: str | Path, limits: ImageLimits = DEFAULT_LIMITS, *, cache_bytes: int = 256 * 2**20
    ) -> None:
        self.folder = Path(folder)
        self.limits = limits
        self._cache = _Cache(cache_bytes)
        self._held: Counter[str] = Counter()
        self._passing: dict[str, list[Image.Image]] = {}
        self._lock = threading.Lock()

    def put(self, source: Source, *, frame: int | None = None, window: Window | None = None) -> ImageRef:
        """Keep an image and return its reference. Putting it twice keeps it once.

        Args:
            source: path, a file's bytes, a Pillow image, or an array of shape (h, w) or (h, w, 3): uint8,
                uint16 or float from 0 to 1.
            frame: which frame of a path or of bytes, as for ``read_image``.
            window: as for ``read_image``.

        Raises:
            ImageError: the image cannot be used (see ``read_image``).
            StoreError: the folder cannot be written.
        """
        with collected_repairs() as repairs:
            image = guarded(lambda: self._image(source, frame, window))
        ref = ImageRef(
            sha256=pixel_hash(image), width=image.width, height=image.height, repairs=tuple(repairs)
        )
        path = self._path(ref.sha256)
        if not path.exists():
            _write(image, path, ref.repairs)
        self._cache.add(ref.sha256, image)
        return ref

    def get(self, ref: ImageRef | str) -> Image.Image:
        """Return the image of a reference or an id; the copy is the caller's own.

        Raises:
            ImageMissing: it is not in the store, or the id is malformed or ambiguous.
            ImageUnreadable: the stored file is damaged.
        """
        sha256 = ref.sha256 if isinstance(ref, ImageRef) else self._named(ref)
        image = self._passed(sha256) or self._cache.get(sha256)
        if image is None:
            image = self._stored(sha256)
            self._cache.add(sha256, image)
        return image.copy()

    def resolve(self, id: str) -> ImageRef:
        """Return the reference that an id (``img-`` and twelve hex digits) stands for.

        Raises:
            ImageMissing: it is not in the store, or the id is malformed or ambiguous.
            ImageUnreadable: the stored file is damaged.
        """
        sha256 = self._named(id)
        return guarded(lambda: _described(self._path(sha256)))

    def __contains__(self, ref: object) -> bool:
        if isinstance(ref, ImageRef):
            return self._path(ref.sha256).exists()
        try:
            return isinstance(ref, str) and bool(self._named(ref))
        except ImageMissing:
            return False

    @contextmanager
    def passing(self, sources: Iterable[bytes]) -> Generator[tuple[str, ...]]:
        """Give images ids for as long as the block lasts, in memory only: nothing is written.

        Args:
            sources: the bytes of image files.

        Raises:
            ImageError: an image cannot be used.
        """
        images = [guarded(lambda source=source: self._image(source, None, None)) for source in sources]
        named = [(pixel_hash(image), image) for image in images]
        with self._lock:
            for sha256, image in named:
                self._passing.setdefault(sha256, []).append(image)
        try:
            yield tuple(f"img-{sha256[:12]}" for sha256, _ in named)
        finally:
            with self._lock:
                for sha256, _ in named:
                    self._passing[sha256].pop()
                    if not self._passing[sha256]:
                        del self._passing[sha256]

    @contextmanager
    def held(self, images: Iterable[ImageRef], group: str | None = None) -> Generator[None]:
        """Keep images from being discarded by this process, and note whose they are.

        Args:
            images: that are in the store.
            group: patient or study pseudonym, by which ``of_group`` finds them.

        Raises:
            StoreError: the folder cannot be written.
        """
        hashes = [image.sha256 for image in images]
        with self._lock:
            self._held.update(hashes)
        try:
            if group:
                self._assign(hashes, group)
            yield
        finally:
            with self._lock:
                self._held.subtract(hashes)
                self._held += Counter()

    def of_group(self, group: str) -> list[str]:
        """Hashes of the images that are on record as those of a patient or study."""
        return sorted(mark.name for mark in self._group(group).glob("*"))

    def forget_group(self, group: str) -> None:
        """Forget which images are those of a patient or study."""
        shutil.rmtree(self._group(group), ignore_errors=True)

    def discard(self, sha256: str) -> bool:
        """Remove an image, unless this process holds it; whether it was there.

        Raises:
            StoreError: the folder cannot be written.
        """
        path = self._path(sha256)
        with self._lock:
            if self._held[sha256]:
                return False
            self._cache.remove(sha256)
            try:
                for mark in (self.folder / _GROUPS).glob(f"*/{sha256}"):
                    mark.unlink(missing_ok=True)
                there = path.exists()
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(
                    f"the image store cannot write to {path.parent}: {error.strerror}"
                ) from error
        for folder in (path.parent, path.parents[1]):
            with suppress(OSError):  # another image is in it
                folder.rmdir()
        return there

    def _assign(self, hashes: Sequence[str], group: str) -> None:
        folder = self._group(group)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for one in hashes:
                (folder / one).touch()
        except OSError as error:
            raise StoreError(f"the image store cannot write to {folder}: {error.strerror}") from error

    def _group(self, group: str) -> Path:
        return self.folder / _GROUPS / hashlib.sha256(group.encode()).hexdigest()

    def _image(self, source: Source, frame: int | None, window: Window | None) -> Image.Image:
        if isinstance(source, (str, Path, bytes)):
            return read_unguarded(source, self.limits, frame, window)
        if frame is not None:
            raise ImageUnsupported("a frame can be chosen from a file only; pass the image that you mean")
        if isinstance(source, Image.Image):
            check_size(source.width, source.height, self.limits)
            return plain(source, window, most=self.limits.max_decoded_pixels)
        if isinstance(source, np.ndarray):
            return _from_array(source, self.limits, window)
        raise ImageUnsupported(f"an image is a path, bytes, a Pillow image or an array, not {type(source)}")

    def _named(self, id: str) -> str:
        """The full hash of an id. Only hex digits of it come near a path."""
        match = _ID.fullmatch(id)
        if not match:
            raise ImageMissing("an image id is img- and twelve hex digits, which this is not")
        prefix = match[1]
        with self._lock:
            passing = [sha256 for sha256 in self._passing if sha256.startswith(prefix)]
        if len(passing) == 1:
            return passing[0]
        found = [path.stem for path in (self.folder / prefix[:2] / prefix[2:4]).glob(f"{prefix}*.png")]
        if len(found) != 1:
            raise ImageMissing(f"{'two images' if found else 'no image'} in the store go by the id {id}")
        return found[0]

    def _passed(self, sha256: str) -> Image.Image | None:
        with self._lock:
            images = self._passing.get(sha256)
            return images[-1] if images else None

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256[2:4] / f"{sha256}.png"

    def _stored(self, sha256: str) -> Image.Image:
        path = self._path(sha256)
        # A PNG may be larger than the file that the picture came from.
        limits = replace(self.limits, max_bytes=max(self.limits.max_bytes, 4 * self.limits.max_pixels))
        try:
            image = read_image(path, limits=limits)
        except ImageUnreadable:
            image = None
        if image is None or pixel_hash(image) != sha256:
            raise ImageUnreadable(f"the stored image is damaged; delete {path} and add the image again")
        return image


class _Cache:
    """The decoded images that were used last, within a bound on their bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._images: OrderedDict[str, Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Image.Image | None:
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def remove(self, key: str) -> None:
        with self._lock:
            if key in self._images:
                self._used -= _size(self._images.pop(key))

    def add(self, key: str, image: Image.Image) -> None:
        with self._lock:
            if key in self._images or _size(image) > self._capacity:
                return
            self._images[key] = image
            self._used += _size(image)
            while self._used > self._capacity:
                self._used -= _size(self._images.popitem(last=False)[1])


def _size(image: Image.Image) -> int:
    # Pillow keeps a colour pixel in four bytes.
    return image.width * image.height * (1 if image.mode == "L" else 4)


def _write(image: Image.Image, path: Path, repairs: Sequence[str]) -> None:
    """Write a PNG that appears whole or not at all."""
    temporary, said = None, PngInfo()
    if repairs:
        said.add_text(_REPAIRS, "\n".join(repairs))
    try:
        for folder in (path.parents[2], path.parents[1], path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            temporary = Path(file.name)
            image.save(file, "PNG", compress_level=1, pnginfo=said)
        temporary.replace(path)
    except OSError as error:
        if temporary:
            temporary.unlink(missing_ok=True)
        why = error.strerror or "the disk may be full"
        raise StoreError(
            f"the image store cannot write to {path.parent}: {why}; free some space, or check the limit on"
            " files (ulimit -f) and the folder's permissions, and try again"
        ) from error


def _described(path: Path) -> ImageRef:
    """The reference of a stored file, by its header."""
    with Image.open(path, formats=["PNG"]) as image:
        repairs = image.info.get(_REPAIRS, "").splitlines()
        return ImageRef(sha256=path.stem, width=image.width, height=image.height, repairs=tuple(repairs))


def _from_array(values: Values, limits: ImageLimits, window: Window | None) -> Image.Image:
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)):
        raise ImageUnsupported(f"an array of shape (h, w) or (h, w, 3) is an image, not {values.shape}")
    check_size(values.shape[1], values.shape[0], limits)
    most = limits.max_decoded_pixels
    if values.dtype.kind == "f" and not (window or (values.min() >= 0 and values.max() <= 1)):
        raise ImageUnsupported("a float array must lie from 0 to 1, unless a window is given")
    if values.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)) and values.dtype.kind != "f":
        raise ImageUnsupported(f"an array must be uint8, uint16 or float, not {values.dtype}")
    if values.dtype == np.uint8:
        return plain(Image.fromarray(np.ascontiguousarray(values)), window, most=most)
    if values.ndim == 2:
        return plain(Image.fromarray(grey8(values, window)), most=most)
    grey = grey8(values.reshape(len(values), -1))
    return plain(Image.fromarray(grey.reshape(values.shape)), window, most=most)

"""What frozen networks made of images that they have seen, for work that looks at the same images again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

Floats = npt.NDArray[np.floating]


class FeatureCache:
    """Embeddings by trunk and pixels, in memory: about 5 KiB per image and trunk of the bundled backbone."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], Floats] = {}

    def add(self, trunk: str, hashes: Sequence[str], rows: Floats) -> None:
        """Remember embeddings.

        Args:
            trunk: ``Specialist.trunk_key``.
            hashes: ``pixel_hash`` of the images.
            rows: (n, d), not normalised.
        """
        self._rows.update({(trunk, one): row for one, row in zip(hashes, rows, strict=True)})

    def known(self, trunk: str, hashes: Callable[[], Sequence[str]]) -> Floats | None:
        """Embeddings (n, d) of images, if all of them are remembered.

        Args:
            trunk: ``Specialist.trunk_key``.
            hashes: gives ``pixel_hash`` of the images; asked only if anything of this trunk is remembered.
        """
        if not any(name == trunk for name, _ in self._rows):
            return None
        rows = [self._rows.get((trunk, one)) for one in hashes()]
        found = [row for row in rows if row is not None]
        return np.stack(found) if found and len(found) == len(rows) else None

    def rows(
        self, trunk: str, images: Sequence[Image], compute: Callable[[Sequence[Image]], Floats]
    ) -> Floats:
        """Embeddings of images, (n, d); only those that are not remembered are computed."""
        from ...images import pixel_hash

        keys = [(trunk, pixel_hash(image)) for image in images]
        missing = [place for place, key in enumerate(keys) if key not in self._rows]
        if missing:
            rows = compute([images[place] for place in missing])
            self._rows.update({keys[place]: row for place, row in zip(missing, rows, strict=True)})
        return np.stack([self._rows[key] for key in keys])

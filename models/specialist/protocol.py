"""The interface of your own specialist: a name, a task, its labels and ``predict``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image


@runtime_checkable
class Specialist(Protocol):
    """Your own classifier, in any framework or behind any service.

    Three more attributes are optional:

    - ``version`` (str): change it with the weights, so that a fit knows which model it was made for.
    - ``reliability`` (float): balanced accuracy on validation images, 0 to 1. Without it the specialist has
      no weight in the decision as long as the reliability of another source is known.
    - ``multilabel`` (bool, False): the labels are independent of each other. A label is chosen at a
      probability of 0.5 or more.

    Methods are called in worker threads, one call at a time for each specialist. An exception, or a result
    of the wrong shape, becomes missing evidence of that case; it never stops a diagnosis.

    Example:
        ```python
        class Brightness:
            name, task, labels = "brightness", "chest_xray", ("normal", "pneumonia")

            def predict(self, images):
                means = np.array([np.asarray(image.convert("L")).mean() / 255 for image in images])
                return np.stack([1 - means, means], axis=1)


        gsco = GSCo.from_settings(specialists=[Brightness()])
        ```
    """

    @property
    def name(self) -> str:
        """Letters, digits, ``_``, ``.`` and ``-``; unique among the specialists of the task."""
        ...

    @property
    def task(self) -> str:
        """Name of its task."""
        ...

    @property
    def labels(self) -> Sequence[str]:
        """The task's options, in the order of the columns that ``predict`` returns."""
        ...

    def predict(self, images: Sequence[Image]) -> npt.ArrayLike:
        """Return calibrated probabilities, (n, labels); rows sum to one unless ``multilabel`` is set.

        Args:
            images: upright 8-bit images of any size, modes L or RGB.
        """
        ...


@runtime_checkable
class EmbeddingSpecialist(Specialist, Protocol):
    """A specialist whose embeddings can also find similar known cases."""

    @property
    def encoder(self) -> str:
        """Name of the embedding space, ``TASK/NAME``; the case store keeps vectors under it."""
        ...

    def embed(self, images: Sequence[Image]) -> npt.ArrayLike:
        """Return embeddings, (n, d); they need not be normalised."""
        ...

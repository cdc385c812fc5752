"""An ONNX file as a specialist, run by onnxruntime.

Run it with ``python examples/own_specialist_onnx.py``; it needs ``pip install onnxruntime skl2onnx``.
The file here is exported from a scikit-learn pipeline; any classifier with one input works alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from gsco import GSCo
from gsco.models.mini.samples import samples
from known_images import LABELS, SIDE, TASK, pixels
from own_specialist_sklearn import train
from PIL.Image import Image


class OnnxSpecialist:
    """An ONNX classifier: grey pixels (n, SIDE²) in, probabilities (n, labels) out."""

    name, task, labels, version = "onnx", TASK, LABELS, "1"

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def predict(self, images: Sequence[Image]) -> np.ndarray:
        """Return probabilities, (n, labels)."""
        x = pixels(images).reshape(len(images), -1)
        return np.asarray(self.session.run(["probabilities"], {self.input: x})[0])


def export(path: Path) -> None:
    """Write a trained pipeline as an ONNX file."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    pipeline, _ = train()
    model = convert_sklearn(
        pipeline,
        initial_types=[("pixels", FloatTensorType([None, SIDE * SIDE]))],
        options={"zipmap": False},
    )
    path.write_bytes(model.SerializeToString())  # pyright: ignore[reportAttributeAccessIssue]


def main() -> None:
    """Export a model, load it with onnxruntime and diagnose one image with it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classifier.onnx"
        export(path)
        specialist = OnnxSpecialist(path)
    with GSCo.from_settings(specialists=[specialist]) as gsco:
        diagnosis = gsco.diagnose(samples(TASK)[3].path, task=TASK)
    print(f"decision: {diagnosis.label}, confidence {diagnosis.confidence:.2f}")
    for opinion in diagnosis.evidence.opinions:
        print(f"{opinion.specialist}: {opinion.labels[0]} {opinion.probabilities[opinion.labels[0]]:.2f}")


if __name__ == "__main__":
    main()

"""A scikit-learn pipeline as a specialist.

Run it with ``python examples/own_specialist_sklearn.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gsco import GSCo
from gsco.models.mini.samples import samples
from known_images import LABELS, TASK, known_images, pixels
from PIL.Image import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


class PipelineSpecialist:
    """A fitted pipeline with ``predict_proba`` whose classes are the numbers of the labels."""

    name, task, labels, version = "pca-logistic", TASK, LABELS, "1"

    def __init__(self, pipeline: Pipeline, reliability: float) -> None:
        self.pipeline = pipeline
        self.reliability = reliability

    def predict(self, images: Sequence[Image]) -> np.ndarray:
        """Return probabilities, (n, labels)."""
        return self.pipeline.predict_proba(pixels(images).reshape(len(images), -1))


def train() -> tuple[Pipeline, float]:
    """Fit the pipeline and measure its balanced accuracy on images that it was not fitted on."""
    x, y = known_images()
    x_fit, x_test, y_fit, y_test = train_test_split(
        x.reshape(len(x), -1), y, test_size=0.25, stratify=y, random_state=0
    )
    pipeline = make_pipeline(StandardScaler(), PCA(32, random_state=0), LogisticRegression(max_iter=1000))
    pipeline.fit(x_fit, y_fit)
    return pipeline, float(balanced_accuracy_score(y_test, pipeline.predict(x_test)))


def main() -> None:
    """Train it, add it to the bundled specialists and diagnose one image."""
    pipeline, reliability = train()
    with GSCo.from_settings(specialists=[PipelineSpecialist(pipeline, reliability)]) as gsco:
        diagnosis = gsco.diagnose(samples(TASK)[3].path, task=TASK)
    print(f"decision: {diagnosis.label}, confidence {diagnosis.confidence:.2f}")
    for opinion in diagnosis.evidence.opinions:
        print(f"{opinion.specialist}: {opinion.labels[0]}, reliability {opinion.reliability:.2f}")


if __name__ == "__main__":
    main()

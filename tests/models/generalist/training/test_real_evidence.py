from pathlib import Path

import numpy as np
import pytest
from gsco.errors import ConfigurationError
from gsco.models.generalist.training.real_evidence import (
    RealEvidence,
    judged,
    read_evidence,
    write_evidence,
)

MEMBERS, IMAGES, KNOWN = ("good", "poor"), 12, 30
LABELS = np.arange(KNOWN) % 2


def evidence() -> RealEvidence:
    """Two members; known cases lie at +x and -x, images near those of their own label."""
    random = np.random.default_rng(0)
    truth = np.arange(IMAGES) % 2
    good = np.where(np.eye(2)[truth] > 0, 0.8, 0.2)
    probabilities = np.stack([good, random.dirichlet([1, 1], size=IMAGES)]).astype(np.float32)
    reliabilities = np.repeat(np.array([[0.9], [0.5]], dtype=np.float32), IMAGES, axis=1)
    known = np.stack(
        [np.cos(LABELS * np.pi + 0.01 * np.arange(KNOWN)), np.sin(0.01 * np.arange(KNOWN))], axis=1
    )
    queries = np.stack([np.cos(truth * np.pi), np.zeros(IMAGES)], axis=1)
    vectors = [
        value.astype(np.float32) / np.linalg.norm(value, axis=1, keepdims=True) for value in (queries, known)
    ]
    return judged(MEMBERS, probabilities, reliabilities, vectors[0], vectors[1], LABELS, 5)


def test_neighbours_are_the_most_similar_known_cases() -> None:
    found = evidence()
    assert np.array_equal(found.neighbours, np.repeat((np.arange(IMAGES) % 2)[:, None], 5, axis=1))
    assert (np.diff(found.similarities, axis=1) <= 0).all()
    assert [case.labels[0] for case in found.similar(1, ("x", "y"), 3)] == ["y"] * 3


def test_opinions_keep_the_panels_order_and_carry_the_names_they_are_given() -> None:
    found, random = evidence(), np.random.default_rng(0)
    whole = found.opinions(1, ("x", "y"), random, whole=1.0)
    assert [opinion.specialist for opinion in whole] == list(MEMBERS)
    assert whole[0].labels == ("y",)
    assert whole[0].probabilities == pytest.approx({"x": 0.2, "y": 0.8})
    assert whole[0].reliability == pytest.approx(0.9)
    sizes = {len(found.opinions(1, ("x", "y"), random, whole=0.0)) for _ in range(40)}
    assert sizes == {1, 2}


def test_a_file_brings_it_back_and_another_is_refused(tmp_path: Path) -> None:
    found = evidence()
    path = tmp_path / "sub" / "evidence.npz"
    write_evidence(found, path)
    again = read_evidence(path, IMAGES, 2)
    assert again.members == MEMBERS
    np.testing.assert_allclose(again.probabilities, found.probabilities, atol=5e-4)
    assert np.array_equal(again.neighbours, found.neighbours)
    assert [file.name for file in path.parent.iterdir()] == ["evidence.npz"]
    with pytest.raises(ConfigurationError, match="other images"):
        read_evidence(path, 7, 2)
    path.write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="remove it"):
        read_evidence(path, IMAGES, 2)

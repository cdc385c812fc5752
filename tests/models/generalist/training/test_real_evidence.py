from pathlib import Path

import numpy as np
import pytest
from gsco.errors import ConfigurationError
from gsco.models.generalist.training.real_evidence import read_evidence, real_evidence, write_evidence

GROUPS, PER_GROUP = 30, 4


def embeddings(informative: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of one group are nearly equal and share a label; the label shows only where informative."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(GROUPS), PER_GROUP)
    targets = (groups % 2).astype(np.int64)
    centres = random.normal(size=(GROUPS, 16))
    centres[:, 0] += 6.0 * informative * (np.arange(GROUPS) % 2)
    found = centres[groups] + 0.01 * random.normal(size=(len(groups), 16))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32), targets, groups.astype(str)


def test_a_group_does_not_speak_of_itself() -> None:
    vectors, targets, groups = embeddings(informative=False)
    found = real_evidence(vectors, targets, groups)
    # Within its group each image has three copies: only excluding them keeps this at chance.
    assert found.similarities.max() < 0.99
    assert 0.25 < np.mean(found.neighbours == targets[:, None]) < 0.75
    assert found.reliabilities.max() < 0.8


def test_what_can_be_seen_is_said() -> None:
    vectors, targets, groups = embeddings(informative=True)
    found = real_evidence(vectors, targets, groups)
    assert found.reliabilities[0] > 0.9
    said = found.probabilities[0].argmax(1)
    assert np.mean(said == targets) == pytest.approx(found.reliabilities[0], abs=1e-6)
    assert np.allclose(found.probabilities.sum(2), 1, atol=1e-4)


def test_other_images_may_find_every_training_image() -> None:
    vectors, targets, groups = embeddings(informative=False)
    found = real_evidence(vectors, targets, groups, vectors[:3])
    assert found.probabilities.shape == (3, 3, 2)
    assert np.allclose(found.similarities[:, 0], 1, atol=1e-4)


def test_opinions_carry_the_names_they_are_given() -> None:
    vectors, targets, groups = embeddings(informative=True)
    found = real_evidence(vectors, targets, groups)
    opinions = found.opinions(0, ("x", "y"), np.random.default_rng(0), 3)
    assert opinions
    for opinion in opinions:
        assert opinion.labels[0] == max(opinion.probabilities, key=lambda name: opinion.probabilities[name])
        assert set(opinion.probabilities) == {"x", "y"}
    assert [similar.labels[0] for similar in found.similar(0, ("x", "y"), 4)] == [
        "xy"[label] for label in found.neighbours[0, :4]
    ]


def test_too_few_groups_are_refused() -> None:
    vectors, targets, _ = embeddings(informative=True)
    with pytest.raises(ConfigurationError, match="groups"):
        real_evidence(vectors, targets, np.array(["one"] * len(targets)))


def test_a_file_brings_it_back_and_another_is_refused(tmp_path: Path) -> None:
    vectors, targets, groups = embeddings(informative=True)
    found = real_evidence(vectors, targets, groups)
    path = tmp_path / "sub" / "evidence.npz"
    write_evidence(found, path)
    again = read_evidence(path, len(targets), 2)
    assert np.array_equal(again.probabilities, found.probabilities)
    assert np.array_equal(again.neighbours, found.neighbours)
    assert [file.name for file in path.parent.iterdir()] == ["evidence.npz"]
    with pytest.raises(ConfigurationError, match="other images"):
        read_evidence(path, 7, 2)
    path.write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="remove it"):
        read_evidence(path, len(targets), 2)


def test_a_large_group_leaves_fewer_neighbours_but_never_its_own() -> None:
    vectors, targets, groups = embeddings(informative=False)
    groups = np.where(np.arange(len(groups)) < len(groups) - 6, "large", groups)
    groups[-6:] = [f"single-{number}" for number in range(6)]
    found = real_evidence(vectors, targets, groups)
    assert found.neighbours.shape == (len(groups), 6)
    assert np.isfinite(found.similarities).all()

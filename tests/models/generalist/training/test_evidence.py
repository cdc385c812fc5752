import numpy as np
import pytest
from gsco.case import Opinion
from gsco.models.generalist.training.config import EvidenceConfig
from gsco.models.generalist.training.evidence import draw_circumstances, draw_neighbours, draw_opinions

OPTIONS = ("a", "b", "c")
HONEST = EvidenceConfig(all_wrong=0.0)


def panels(settings: EvidenceConfig, count: int) -> list[tuple[str, tuple[Opinion, ...]]]:
    random = np.random.default_rng(1)
    drawn = []
    for _ in range(count):
        truth = int(random.integers(len(OPTIONS)))
        case = draw_circumstances(random, OPTIONS, truth, settings)
        drawn.append((OPTIONS[truth], draw_opinions(random, case, settings)))
    return drawn


@pytest.fixture(scope="module")
def claims() -> np.ndarray:
    """Per opinion: stated reliability, stated probability, right or not."""
    return np.array(
        [
            (opinion.reliability, opinion.probabilities[opinion.labels[0]], opinion.labels == (truth,))
            for truth, opinions in panels(HONEST, 5000)
            for opinion in opinions
        ],
        dtype=np.float64,
    )


@pytest.mark.parametrize("column", [0, 1], ids=["reliability", "probability"])
def test_stated_numbers_are_true(claims: np.ndarray, column: int) -> None:
    for low in np.arange(0.35, 0.95, 0.1):
        chosen = claims[(claims[:, column] >= low) & (claims[:, column] < low + 0.1)]
        assert len(chosen) > 200
        assert abs(chosen[:, 2].mean() - chosen[:, column].mean()) < 0.05


def test_experts_are_of_every_quality(claims: np.ndarray) -> None:
    assert (claims[:, 0] > 0.9).mean() > 0.05
    assert (claims[:, 0] < 0.5).mean() > 0.1


def test_an_opinion_says_its_most_probable_option() -> None:
    for _, opinions in panels(HONEST, 200):
        assert 1 <= len(opinions) <= 6
        for opinion in opinions:
            assert set(opinion.probabilities) == set(OPTIONS)
            assert sum(opinion.probabilities.values()) == pytest.approx(1)
            assert opinion.probabilities[opinion.labels[0]] == max(opinion.probabilities.values())


def test_evidence_can_be_all_wrong_in_one_voice() -> None:
    settings = EvidenceConfig(all_wrong=1.0)
    random = np.random.default_rng(2)
    for _ in range(50):
        case = draw_circumstances(random, OPTIONS, 1, settings)
        said = {label for opinion in draw_opinions(random, case, settings) for label in opinion.labels}
        found = {label for similar in draw_neighbours(random, case, settings) for label in similar.labels}
        assert said == found
        assert "b" not in said


def test_neighbours_are_ordered_and_mostly_right() -> None:
    random = np.random.default_rng(3)
    right = []
    for _ in range(500):
        found = draw_neighbours(random, draw_circumstances(random, OPTIONS, 0, HONEST), HONEST)
        similarities = [similar.similarity for similar in found]
        assert similarities == sorted(similarities, reverse=True)
        assert HONEST.neighbours[0] <= len(found) <= HONEST.neighbours[1]
        right.append(np.mean([similar.labels == ("a",) for similar in found]))
    assert 0.5 < np.mean(right) < 0.8
    assert min(right) == 0
    assert max(right) == 1

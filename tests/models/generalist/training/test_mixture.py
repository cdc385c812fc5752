from collections import Counter

import numpy as np
import pytest
from gsco.case import Task
from gsco.models.generalist.prompts import PROFILES
from gsco.models.generalist.training.config import EvidenceConfig, GeneralistTraining, Language
from gsco.models.generalist.training.example import Material, TrainingPrompt
from gsco.models.generalist.training.mixture import Mixture

LABELS = ("apple", "banana", "cherry")
TASK = Task(name="fruit", modality="fruit", options=LABELS)
TARGETS = np.repeat(np.arange(3), 4)


def mixture(views: np.ndarray | None = None, **given: object) -> Mixture:
    sources = [{"folder": "fruit", "task": "fruit"}]
    config = GeneralistTraining.model_validate({"out": "o", "work": "w", "sources": sources, **given})
    return Mixture(config, [Material(TASK, LABELS, TARGETS, np.eye(3) if views is None else views)])


def prompts(made: Mixture, count: int = 150) -> list[TrainingPrompt]:
    return [prompt for number in range(count) for prompt in made.prompts(number)]


def test_a_scene_is_the_same_in_every_run() -> None:
    assert [mixture().prompts(n) for n in range(20)] == [mixture().prompts(n) for n in range(20)]
    assert mixture(seed=1).prompts(0) != mixture().prompts(0)


def test_every_family_and_both_wordings_come() -> None:
    made = prompts(mixture())
    assert set(Counter(prompt.family for prompt in made)) == set(Language().families)
    assert any("(probability, reliability)" in prompt.text for prompt in made)
    assert any("specialist models are" in prompt.text for prompt in made)


def test_families_hold_the_evidence_that_they_are_named_for() -> None:
    for prompt in prompts(mixture()):
        if prompt.family in ("plain", "moed", "rad", "both"):
            assert bool(prompt.opinions) == (prompt.family in ("moed", "both"))
            assert bool(prompt.similar) == (prompt.family in ("rad", "both"))


def test_the_answer_is_among_the_options_and_their_order_says_nothing() -> None:
    places: Counter[int] = Counter()
    for prompt in prompts(mixture(evidence={"invented": 0}), 300):
        if prompt.options and prompt.family != "presence":
            places[prompt.options.index(prompt.answer)] += 1
    assert min(places.values()) > 0.25 * places.total()


def test_a_plain_answer_is_what_is_shown() -> None:
    unsure = np.full((3, 3), 1 / 3)
    for prompt in prompts(mixture(unsure)):
        if prompt.family == "plain":
            assert prompt.answer == LABELS[TARGETS[prompt.view.image]]


def test_a_clear_plain_prompt_shows_the_image_itself_and_stands_alone() -> None:
    unsure = np.full((3, 3), 1 / 3)
    language = {"clear": 1.0, "between": 1.0, "families": {"plain": 0.5, "both": 0.5}}
    made = mixture(unsure, language=language, evidence={"invented": 0, "renamed": 0})
    rows = [made.prompts(number) for number in range(200)]
    plain = [row for row in rows if any(prompt.family == "plain" for prompt in row)]
    assert all(len(row) == 1 and row[0].view.share == 1 for row in plain) and len(plain) > 100
    assert all(row[0].answer == LABELS[TARGETS[row[0].view.image]] for row in plain)
    assert any(prompt.view.share < 1 for row in rows for prompt in row), "beside evidence it errs as before"


def test_the_view_is_as_wrong_as_the_tower() -> None:
    views = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    made = prompts(mixture(views, evidence={"invented": 0, "renamed": 0}), 600)
    evident = [prompt for prompt in made if prompt.family in ("moed", "rad", "both")]
    shown = Counter(TARGETS[prompt.view.image] for prompt in evident if prompt.answer == "apple")
    assert shown[1] / shown.total() == pytest.approx(0.3, abs=0.06)
    assert all(TARGETS[prompt.view.image] == 1 for prompt in evident if prompt.answer == "banana")


def test_renamed_labels_are_renamed_everywhere() -> None:
    for prompt in prompts(mixture(evidence={"invented": 0, "renamed": 1.0}), 60):
        assert prompt.family != "plain"
        said = {name for opinion in prompt.opinions for name in opinion.probabilities}
        found = {label for similar in prompt.similar for label in similar.labels}
        assert not (said | found | {prompt.answer}) & set(LABELS)
        if prompt.family != "presence":
            assert said | found <= set(prompt.options)


def test_validation_prompts_show_their_own_image() -> None:
    made = mixture(evidence={"invented": 0.5, "renamed": 0.5})
    random = np.random.default_rng(0)
    for image in range(len(TARGETS)):
        prompt = made.about(random, "both", PROFILES["paper"], 0, image)
        assert prompt.view.image == image
        assert prompt.answer == LABELS[TARGETS[image]]


def test_shares_are_kept() -> None:
    made = mixture(evidence=EvidenceConfig(invented=0.3, renamed=0.3).model_dump())
    kinds = Counter(
        "own" if set(scene[0].options) == set(LABELS) else "other"
        for scene in map(made.prompts, range(500))
        if scene[0].family != "presence"
    )
    assert kinds["own"] / kinds.total() == pytest.approx(0.4, abs=0.08)


def test_something_between_two_images_errs_as_the_tower_does() -> None:
    views = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9]])
    made = mixture(views, evidence={"invented": 0, "renamed": 0}, language={"between": 1.0})
    shown = [scene[0].view for scene in map(made.prompts, range(1500))]
    between = [view for view in shown if view.share < 1]
    assert len(between) / len(shown) == pytest.approx(0.4, abs=0.04)
    assert np.mean([view.share < 0.5 for view in between]) == pytest.approx(0.25, abs=0.05)
    assert all(TARGETS[view.image] != TARGETS[view.other] for view in between)
    for prompt in prompts(made):
        if prompt.family == "plain" and prompt.view.share < 1:
            assert prompt.answer == LABELS[TARGETS[prompt.view.image]]


def test_sources_can_be_drawn_equally_often() -> None:
    materials = [Material(TASK, LABELS, np.repeat(np.arange(3), size), np.eye(3)) for size in (4, 400)]
    config = {
        "out": "o",
        "work": "w",
        "sources": [{"folder": "a", "task": "a"}, {"folder": "b", "task": "b"}],
    }
    shares = []
    for balance in (0.0, 1.0):
        given = GeneralistTraining.model_validate(config | {"language": {"source_balance": balance}})
        drawn = [Mixture(given, materials).prompts(n)[0].view.source for n in range(300)]
        shares.append(np.mean(drawn))
    assert shares[0] == pytest.approx(0.5, abs=0.08) and shares[1] > 0.95

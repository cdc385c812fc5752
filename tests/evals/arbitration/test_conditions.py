"""Alterations change what they name, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from gsco.case import Case, Evidence, GateReport, ImageRef, Opinion, SimilarCase, Task
from gsco.evals.arbitration.conditions import (
    ALL_RIGHT,
    ALL_WRONG,
    ALL_WRONG_AT_RANDOM,
    ANOTHERS,
    NOISE,
    PERMUTED,
    SHUFFLED,
    SPECIALISTS_WRONG,
    evidence_label,
    hard_lure,
)
from gsco.evals.arms import GENERALISTS
from gsco.evals.case_runner import restricted
from gsco.evals.conditions import Cohort, GatheredCase, exchanged
from gsco.images import ImageStore

TASK = Task(name="t", modality="MRI", options=("a", "b", "c"))
ALONE = Cohort(TASK, {})
"""No other cases."""


def mixed(cases: list[GatheredCase]) -> Cohort:
    by_name = {one.id: one for one in cases}
    pairs = exchanged(list(by_name), 0)
    return Cohort(TASK, {one: by_name[other] for one, other in pairs.items()})


def case(name: str) -> Case:
    return Case(id=name, images=(ImageRef(sha256="0" * 64, width=1, height=1),))


def known(name: str = "one", truth: str = "a", said: str = "aab", near: str = "acc") -> GatheredCase:
    opinions = tuple(
        Opinion(
            specialist=str(place),
            architecture="x",
            labels=(label,),
            reliability=0.8,
            probabilities={
                option: 0.7 if option == label else {"a": 0.1, "b": 0.2, "c": 0.15}[option]
                for option in TASK.options
            },
        )
        for place, label in enumerate(said)
    )
    similar = tuple(
        SimilarCase(
            id=str(k), sha256="0" * 64, task="t", labels=(label,), similarity=0.9 - 0.1 * k, encoder="e"
        )
        for k, label in enumerate(near)
    )
    evidence = Evidence(gate=GateReport(task="t"), opinions=opinions, similar_cases=similar)
    return GatheredCase(name, name, (truth,), case(name), evidence)


def said(evidence: Evidence) -> str:
    return "".join(opinion.labels[0] for opinion in evidence.opinions)


def near(evidence: Evidence) -> str:
    return "".join(one.labels[0] for one in evidence.similar_cases)


def test_forced_evidence_names_the_lure_with_the_numbers_it_had() -> None:
    before = known(truth="a", said="aab", near="acc").evidence
    after = ALL_WRONG.alter(known(truth="a", said="aab", near="acc"), ALONE).evidence
    assert said(after) == "bbb" and near(after) == "bbb"
    for one, other in zip(before.opinions, after.opinions, strict=True):
        assert sorted(one.probabilities.values()) == sorted(other.probabilities.values())
        assert max(other.probabilities, key=other.probabilities.__getitem__) == "b"
    assert [one.similarity for one in before.similar_cases] == [one.similarity for one in after.similar_cases]
    assert said(before) == "aab"


def test_the_hard_lure_is_the_likeliest_wrong_option() -> None:
    assert hard_lure(known(truth="a", said="abb"), TASK) == "b"
    assert hard_lure(known(truth="b", said="abb"), TASK) == "a"


def test_wrong_specialists_leave_the_neighbours() -> None:
    question = SPECIALISTS_WRONG.alter(known(), ALONE)
    assert (said(question.evidence), near(question.evidence)) == ("bbb", "acc")
    first = question.evidence.opinions[0]
    assert first.probabilities["b"] == 0.7
    assert first.probabilities["a"] == 0.2
    assert first.reliability == 0.8


@pytest.mark.parametrize(("condition", "label"), [(ALL_WRONG, "b"), (ALL_RIGHT, "a")])
def test_all_evidence_names_one_label(condition: object, label: str) -> None:
    question = condition.alter(known(), ALONE)  # type: ignore[attr-defined]
    assert (said(question.evidence), near(question.evidence)) == (label * 3, label * 3)
    assert [one.similarity for one in question.evidence.similar_cases] == pytest.approx([0.9, 0.8, 0.7])


def test_a_random_lure_is_wrong_and_always_the_same() -> None:
    drawn = {said(ALL_WRONG_AT_RANDOM.alter(known(f"case {k}"), ALONE).evidence)[0] for k in range(30)}
    assert drawn == {"b", "c"}
    once, again = (ALL_WRONG_AT_RANDOM.alter(known("x"), ALONE) for _ in range(2))
    assert once == again


def test_every_case_gets_another_s_evidence() -> None:
    cases = [known(f"case {k}", said="abc"[k % 3] * 3) for k in range(7)]
    cohort = mixed(cases)
    assert sorted(other.id for other in cohort.others.values()) == sorted(one.id for one in cases)
    assert all(cohort.others[one.id].id != one.id for one in cases)
    question = ANOTHERS.alter(cases[0], cohort)
    assert question.evidence == cohort.others[cases[0].id].evidence
    assert question.case == cases[0].case


def test_shuffled_neighbours_bring_other_cases_labels() -> None:
    cases = [known("one", near="aaa"), known("two", near="bbb"), known("three", near="ccc")]
    question = SHUFFLED.alter(cases[0], mixed(cases))
    assert sorted(near(question.evidence)) == ["a", "b", "c"]
    assert said(question.evidence) == "aab"
    assert [one.similarity for one in question.evidence.similar_cases] == pytest.approx([0.9, 0.8, 0.7])


def test_noise_and_order_leave_the_evidence(tmp_path: Path) -> None:
    one, images = known(), ImageStore(tmp_path)
    noise = NOISE.alter(one, Cohort(TASK, {}, images))
    assert noise.case.images != one.case.images and noise.case.images[0] in images
    assert noise == NOISE.alter(one, Cohort(TASK, {}, images))
    permuted = [condition.alter(one, ALONE) for condition in PERMUTED]
    assert all(sorted(question.task.options) == ["a", "b", "c"] for question in permuted)
    assert len({question.task.options for question in permuted}) > 1
    assert all(question.evidence == one.evidence for question in (noise, *permuted))


def test_an_arm_sees_its_own_evidence() -> None:
    evidence = known().evidence
    seen = {arm.name: restricted(evidence, arm) for arm in GENERALISTS}
    assert {arm: (said(one), near(one)) for arm, one in seen.items()} == {
        "generalist": ("", ""),
        "moed": ("aab", ""),
        "rad": ("", "acc"),
        "gsco-paper": ("aab", "acc"),
    }
    assert evidence_label(evidence, TASK, "moed") == "a"
    assert evidence_label(evidence, TASK, "rad") == "c"
    assert evidence_label(evidence, TASK, "generalist") is None
    # One voice each for a, b and the neighbours' c: the likeliest to the specialists.
    assert evidence_label(known(said="ab", near="ccc").evidence, TASK, "gsco-paper") == "b"

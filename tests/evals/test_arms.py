from __future__ import annotations

import pytest
from gsco.case import Evidence, GateReport, Opinion, SimilarCase, Task, TaskKind
from gsco.errors import ConfigurationError
from gsco.evals.arms import KNN, MEAN, STACKING, VOTE, DerivedArm, NoEvidence, arms_of, best_single_source
from gsco.graphs.fusion import disputed

SINGLE = Task(name="t", modality="X-ray", options=("a", "b", "c"), abstain_below=0.5)
SEVERAL = Task(name="m", modality="fundus", kind=TaskKind.MULTILABEL, options=("n", "a", "b"), negative="n")


def opinion(name: str, labels: tuple[str, ...], **probabilities: float) -> Opinion:
    return Opinion(specialist=name, architecture="test_resnet", labels=labels, probabilities=probabilities)


def neighbour(similarity: float, *labels: str) -> SimilarCase:
    return SimilarCase(id="i", sha256="0" * 64, task="t", labels=labels, similarity=similarity, encoder="e")


def evidence(*found: Opinion | SimilarCase) -> Evidence:
    return Evidence(
        gate=GateReport(task="t"),
        opinions=tuple(one for one in found if isinstance(one, Opinion)),
        similar_cases=tuple(one for one in found if isinstance(one, SimilarCase)),
    )


def named(name: str) -> DerivedArm:
    (arm,) = arms_of(["x", "y"], [name])
    assert isinstance(arm, DerivedArm)
    return arm


class TestVote:
    def test_the_majority_decides_against_the_larger_mean(self) -> None:
        given = evidence(
            opinion("x", ("a",), a=0.51, b=0.49, c=0.0),
            opinion("y", ("a",), a=0.51, b=0.49, c=0.0),
            opinion("z", ("b",), a=0.0, b=1.0, c=0.0),
        )
        decision = VOTE.decide(SINGLE, given, None)
        assert decision.labels == ("a",)
        assert decision.probabilities == pytest.approx({"a": 2 / 3, "b": 1 / 3, "c": 0.0})
        assert decision.confidence == pytest.approx(2 / 3)
        assert MEAN.decide(SINGLE, given, None).labels == ("b",)

    def test_a_tie_goes_to_the_larger_mean_probability(self) -> None:
        given = evidence(opinion("x", ("a",), a=0.6, b=0.4, c=0.0), opinion("y", ("b",), a=0.1, b=0.9, c=0.0))
        assert VOTE.decide(SINGLE, given, None).labels == ("b",)

    def test_the_decision_of_a_specialist_counts_and_not_its_largest_probability(self) -> None:
        assert VOTE.decide(SINGLE, evidence(opinion("x", ("b",), a=0.6, b=0.4, c=0.0)), None).labels == ("b",)

    def test_a_draft_report_is_no_vote(self) -> None:
        draft = Opinion(specialist="r", architecture="vit", text="no finding")
        with pytest.raises(NoEvidence):
            VOTE.decide(SINGLE, evidence(draft), None)

    def test_each_option_of_a_multilabel_task_is_voted_on(self) -> None:
        given = evidence(
            opinion("x", ("a", "b"), n=0.1, a=0.8, b=0.6),
            opinion("y", ("a",), n=0.2, a=0.7, b=0.1),
        )
        decision = VOTE.decide(SEVERAL, given, None)
        assert decision.labels == ("a",)  # b is tied, and its mean of 0.35 says no
        assert decision.probabilities == {"n": 0.0, "a": 1.0, "b": 0.5}
        assert decision.confidence == pytest.approx(0.5), "of a set: all of its labels together"


class TestMean:
    def test_probabilities_are_averaged(self) -> None:
        given = evidence(opinion("x", ("a",), a=0.6, b=0.4, c=0.0), opinion("y", ("b",), a=0.2, b=0.5, c=0.3))
        decision = MEAN.decide(SINGLE, given, None)
        assert decision.probabilities == pytest.approx({"a": 0.4, "b": 0.45, "c": 0.15})
        assert decision.labels == ("b",)
        assert decision.abstained  # 0.45 is below the card's limit

    def test_none_of_the_findings_of_a_multilabel_task_is_its_negative(self) -> None:
        assert MEAN.decide(SEVERAL, evidence(opinion("x", (), n=0.4, a=0.1, b=0.2)), None).labels == ("n",)

    def test_a_finding_and_the_negative_exclude_each_other(self) -> None:
        assert MEAN.decide(SEVERAL, evidence(opinion("x", (), n=0.6, a=0.9, b=0.7)), None).labels == (
            "a",
            "b",
        )
        assert MEAN.decide(SEVERAL, evidence(opinion("x", (), n=0.9, a=0.6, b=0.1)), None).labels == ("n",)


class TestNeighbours:
    def test_votes_weigh_as_much_as_the_similarity(self) -> None:
        given = evidence(neighbour(0.9, "a"), neighbour(0.3, "b"), neighbour(0.3, "b"), neighbour(-0.8, "c"))
        decision = KNN.decide(SINGLE, given, None)
        assert decision.labels == ("a",)
        shares = {"a": (4 * 0.6 + 0.5) / 5.5, "b": (4 * 0.4 + 0.5) / 5.5, "c": 0.5 / 5.5}
        assert decision.probabilities == pytest.approx(shares), "half a case is added to each option"

    def test_cases_without_any_similarity_count_alike(self) -> None:
        given = evidence(neighbour(-0.1, "a"), neighbour(-0.2, "b"), neighbour(-0.9, "b"))
        assert KNN.decide(SINGLE, given, None).labels == ("b",)

    def test_labels_of_a_multilabel_task_add_up_one_by_one(self) -> None:
        given = evidence(neighbour(0.5, "a", "b"), neighbour(0.5, "a"), neighbour(0.5, "n"))
        decision = KNN.decide(SEVERAL, given, None)
        assert decision.labels == ("a",)
        assert decision.probabilities == pytest.approx({"n": 1.5 / 4, "a": 2.5 / 4, "b": 1.5 / 4})

    def test_nothing_found_is_no_evidence(self) -> None:
        with pytest.raises(NoEvidence):
            KNN.decide(SINGLE, evidence(), None)


class TestSpecialists:
    def test_says_what_the_specialist_said(self) -> None:
        given = evidence(opinion("x", ("a",), a=1.0, b=0.0, c=0.0), opinion("y", ("c",), a=0.3, b=0.3, c=0.4))
        decision = named("specialist:y").decide(SINGLE, given, None)
        assert (decision.labels, decision.confidence, decision.abstained) == (("c",), 0.4, True)

    def test_a_missing_specialist_is_no_evidence(self) -> None:
        with pytest.raises(NoEvidence, match="y"):
            named("specialist:y").decide(SINGLE, evidence(opinion("x", ("a",), a=1.0)), None)


class TestDispute:
    def test_specialists_of_one_mind_with_the_similar_cases(self) -> None:
        said = (opinion("x", ("a",), a=1.0), opinion("y", ("a",), a=0.9))
        assert not disputed(SINGLE, evidence(*said))
        assert not disputed(SINGLE, evidence(*said, neighbour(0.9, "a"), neighbour(0.8, "b")))
        assert disputed(SINGLE, evidence(*said, neighbour(0.9, "b")))

    def test_specialists_who_disagree(self) -> None:
        assert disputed(SINGLE, evidence(opinion("x", ("a",), a=1.0), opinion("y", ("b",), b=1.0)))

    def test_the_order_of_labels_is_no_dispute(self) -> None:
        given = evidence(opinion("x", ("a", "b"), n=0, a=1, b=1), opinion("y", ("b", "a"), n=0, a=1, b=1))
        assert not disputed(SEVERAL, given)


class TestBestSingleSource:
    def test_without_a_fit_it_is_the_specialist_that_its_card_favours(self) -> None:
        assert best_single_source(None, {"x": 0.7, "y": 0.8, "z": None}, True)[0] == "specialist:y"
        assert best_single_source(None, {"x": None}, True)[0] == "knn"
        assert best_single_source(None, {}, False) == ("", "")

    def test_nothing_is_stacked_without_a_fit(self) -> None:
        with pytest.raises(NoEvidence, match="nothing was fitted for t"):
            STACKING.decide(SINGLE, evidence(opinion("x", ("a",), a=1.0)), None)


class TestNames:
    def test_all_arms_in_the_order_of_a_report(self) -> None:
        names = [arm.name for arm in arms_of(["x", "y"])]
        assert names == [
            "specialist:x",
            "specialist:y",
            "vote",
            "mean",
            "knn",
            "stacking",
            "generalist",
            "moed",
            "rad",
            "gsco-paper",
            "gsco",
        ]

    def test_some_arms_keep_that_order(self) -> None:
        names = [arm.name for arm in arms_of(["x", "y"], ["gsco", "specialists", "knn"])]
        assert names == ["specialist:x", "specialist:y", "knn", "gsco"]

    def test_an_unknown_arm_lists_the_known_ones(self) -> None:
        with pytest.raises(ConfigurationError, match=r"no arm fusion.*vote"):
            arms_of(["x"], ["fusion"])

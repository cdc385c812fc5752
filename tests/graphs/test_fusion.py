import itertools
import math

import numpy as np
import pytest
from gsco.case import Answer, Evidence, GateReport, Opinion, SimilarCase, Task, TaskKind
from gsco.graphs.collaboration_fit import CollaborationFit, FittedParts, observed_meaning
from gsco.graphs.fitting import fit_pool, sample_of
from gsco.graphs.fusion import (
    GENERALIST,
    SIMILAR,
    AskLimits,
    asks_generalist,
    decide_by,
    plan_of,
    reliability_weights,
    similar_shares,
    sources_of,
)
from gsco.graphs.label_sets import LabelSets
from gsco.graphs.pool import Pool, set_log_odds
from gsco.graphs.selection import select_rule
from hypothesis import given
from hypothesis import strategies as st

CT = Task(name="ct", modality="lung CT", options=("benign", "malignant", "normal"))
EYE = Task(
    name="eye",
    kind=TaskKind.MULTILABEL,
    modality="fundus photograph",
    options=("Normal", "Glaucoma", "Cataract"),
    negative="Normal",
)


def opinion(name: str, **p: float) -> Opinion:
    label = max(p, key=lambda option: p[option])
    return Opinion(specialist=name, architecture="x", labels=(label,), probabilities=p, version=f"v-{name}")


def similar(label: str, similarity: float = 0.9, number: int = 0) -> SimilarCase:
    return SimilarCase(
        id=f"{label}-{number}",
        sha256="1" * 64,
        task="ct",
        labels=(label,),
        similarity=similarity,
        encoder="e",
    )


def evidence(*opinions: Opinion, cases: tuple[SimilarCase, ...] = ()) -> Evidence:
    return Evidence(gate=GateReport(task="ct"), opinions=opinions, similar_cases=cases)


SURE = evidence(
    opinion("a", benign=0.01, malignant=0.98, normal=0.01),
    opinion("b", benign=0.03, malignant=0.95, normal=0.02),
    cases=tuple(similar("malignant", number=n) for n in range(10)),
)
WRONG = Answer(labels=("normal",), probabilities={"benign": 0.05, "malignant": 0.15, "normal": 0.8})
RELIABLE = {"a": 0.85, "b": 0.8, SIMILAR: 0.85}


def fitted(**changes) -> CollaborationFit:
    weights = {"a": 0.6, "b": 0.3, SIMILAR: 0.5}
    quiet = Pool(options=CT.options, exclusive=True, weights=weights, offsets=(0.1, 0.0, -0.1), cases=300)
    full = quiet.model_copy(update={"weights": {**weights, GENERALIST: 0.4}})
    made = CollaborationFit(
        task="ct",
        task_version="1",
        kind=CT.kind,
        options=CT.options,
        rule="adaptive",
        chosen=(*weights, GENERALIST),
        quiet=quiet,
        full=full,
        limits=AskLimits(limit=0.8, disputed_limit=0.95, calls=0.3),
        parts=FittedParts(specialists={"a": "v-a", "b": "v-b"}, store="s", encoder="e", generalist="g"),
        cases=300,
        groups=300,
    )
    return made.model_copy(update=changes)


def test_a_generalist_nobody_measured_does_not_outvote_evidence_of_one_mind():
    plan = plan_of(CT, SURE, reliabilities=RELIABLE)
    decision = decide_by(plan, CT, SURE, WRONG)
    assert decision.labels == ("malignant",) and decision.confidence > 0.95
    generalist = next(voice for voice in decision.fusion.voices if voice.source == GENERALIST)
    assert generalist.labels == ("normal",) and generalist.weight == 0 and "not measured" in generalist.note
    assert any("gsco fit" in note for note in decision.fusion.notes)


def test_the_published_protocol_takes_the_generalists_word():
    plan = plan_of(CT, SURE, wanted="generalist", reliabilities=RELIABLE)
    decision = decide_by(plan, CT, SURE, WRONG)
    assert decision.labels == ("normal",) and decision.confidence == 0.8
    assert decision.fusion.rival == "malignant"
    assert decision.fusion.counter_example.labels == ("malignant",)


def test_sources_weigh_by_how_reliable_they_are():
    said = evidence(
        opinion("good", benign=0.8, malignant=0.1, normal=0.1),
        opinion("bad", benign=0.1, malignant=0.8, normal=0.1),
    )
    plan = plan_of(CT, said, reliabilities={"good": 0.9, "bad": 0.4})
    assert plan.quiet.weights["good"] > 10 * plan.quiet.weights["bad"]
    assert decide_by(plan, CT, said, None).labels == ("benign",)


def test_a_source_of_unknown_reliability_counts_only_where_nobody_else_speaks():
    said = evidence(
        opinion("known", benign=0.6, malignant=0.2, normal=0.2),
        opinion("new", benign=0.01, malignant=0.98, normal=0.01),
    )
    decision = decide_by(plan_of(CT, said, reliabilities={"known": 0.8, "new": None}), CT, said, None)
    assert decision.labels == ("benign",)
    alone = evidence(opinion("new", benign=0.01, malignant=0.98, normal=0.01))
    assert decide_by(plan_of(CT, alone, reliabilities={"new": None}), CT, alone, None).labels == (
        "malignant",
    )


def test_without_any_evidence_the_generalist_decides():
    nothing = evidence()
    plan = plan_of(CT, nothing)
    assert asks_generalist(plan, CT, nothing)
    assert decide_by(plan, CT, nothing, WRONG).labels == ("normal",)
    with pytest.raises(LookupError):
        decide_by(plan, CT, nothing, None)


def test_the_adaptive_rule_asks_only_where_the_pool_is_unsure():
    unsure = evidence(
        opinion("a", benign=0.4, malignant=0.35, normal=0.25),
        opinion("b", benign=0.3, malignant=0.4, normal=0.3),
    )
    fit = fitted()
    assert not asks_generalist(plan_of(CT, SURE, fit=fit), CT, SURE)
    plan = plan_of(CT, unsure, fit=fit)
    assert asks_generalist(plan, CT, unsure)
    quiet, asked = decide_by(plan, CT, unsure, None), decide_by(plan, CT, unsure, WRONG)
    assert quiet.labels != ("normal",) and asked.probabilities["normal"] > quiet.probabilities["normal"]


def test_always_asking_can_be_demanded():
    assert asks_generalist(plan_of(CT, SURE, wanted="fused", fit=fitted()), CT, SURE)


def test_what_changed_since_the_fit_goes_without_its_weight_and_is_named():
    fit = fitted()
    changes = fit.changes(
        evidence(opinion("a", benign=1.0).model_copy(update={"version": "other"}), opinion("c", benign=1.0)),
        store="s",
        encoder="e",
        neighbours=10,
        generalist="another",
        profile="",
    )
    assert set(changes) == {"a", "c", GENERALIST}
    plan = plan_of(CT, SURE, fit=fit, stale=changes)
    assert set(plan.quiet.weights) == {"b", SIMILAR} and GENERALIST not in plan.full.weights
    assert sum(plan.quiet.weights.values()) == pytest.approx(sum(fit.quiet.weights.values()))
    assert any("has changed since the fit" in note for note in plan.notes)
    moved = fit.changes(SURE, store="another", encoder="e", neighbours=10, generalist="", profile="")
    assert set(moved) == {SIMILAR}


probability = st.floats(0.01, 1.0)


@given(st.lists(st.tuples(probability, probability, probability), min_size=1, max_size=4), st.floats(-1, 1))
def test_the_shares_of_a_decision_add_up_to_its_log_odds(rows, offset):
    opinions = []
    for number, row in enumerate(rows):
        p = np.array(row) / sum(row)
        opinions.append(opinion(f"s{number}", **dict(zip(CT.options, map(float, p), strict=True))))
    said = evidence(*opinions)
    pool = Pool(
        options=CT.options,
        exclusive=True,
        weights={one.specialist: 0.7 for one in opinions},
        offsets=(offset, 0.0, -offset),
    )
    plan = plan_of(
        CT, said, fit=fitted(quiet=pool, full=None, rule="fused", limits=None, chosen=tuple(pool.weights))
    )
    decision = decide_by(plan, CT, said, None)
    fusion = decision.fusion
    total = sum(voice.log_odds for voice in fusion.voices) + fusion.prior
    assert total == pytest.approx(fusion.log_odds, abs=1e-9)
    p = decision.probabilities
    assert fusion.log_odds == pytest.approx(math.log(p[fusion.decision] / p[fusion.rival]), abs=1e-6)


def test_a_multilabel_record_speaks_of_the_least_certain_option():
    said = Evidence(
        gate=GateReport(task="eye"),
        opinions=(
            Opinion(
                specialist="a",
                architecture="x",
                labels=("Glaucoma",),
                probabilities={"Normal": 0.05, "Glaucoma": 0.9, "Cataract": 0.4},
            ),
        ),
    )
    decision = decide_by(plan_of(EYE, said, reliabilities={"a": 0.8}), EYE, said, None)
    assert decision.labels == ("Glaucoma",)
    assert (decision.fusion.decision, decision.fusion.rival) == ("no Cataract", "Cataract")
    assert decision.fusion.log_odds > 0
    # Without similar cases the sets that are known to occur are the single labels.
    odds = [p / (1 - p) for p in (decision.probabilities[o] for o in EYE.options)]
    assert decision.confidence == pytest.approx(odds[1] / sum(odds), abs=1e-3)


def test_the_confidence_of_a_set_is_its_probability_among_the_sets_that_occur():
    options = ("a", "b", "c")
    sets = tuple(tuple(one) for n in range(4) for one in itertools.combinations(options, n))
    every = LabelSets(options=options, sets=sets)
    p = np.array([[0.9, 0.2, 0.6]])
    odds = set_log_odds(every, p, np.array([[True, False, True]]))
    expected = 0.9 * 0.8 * 0.6
    assert 1 / (1 + np.exp(-odds[0])) == pytest.approx(expected), "all sets: the options are independent"
    some = LabelSets(options=options, sets=(("a", "c"), ("b",)))
    other = 0.1 * 0.2 * 0.4
    odds = set_log_odds(some, p, np.array([[True, False, True]]))
    assert 1 / (1 + np.exp(-odds[0])) == pytest.approx(expected / (expected + other))


@pytest.mark.parametrize("seed", range(5))
def test_weights_by_reliability_are_never_worse_than_the_mean_of_the_sources(seed):
    random = np.random.default_rng(seed)
    truth, said = cases(random, 200, {"good": 2.0, "fair": 1.0, "sure and wrong": -3.0})
    weights = reliability_weights({"good": 0.9, "fair": 0.6, "sure and wrong": 0.5}, 3, True)
    assert sum(weights.values()) == pytest.approx(1)
    pool = Pool(options=("0", "1", "2"), exclusive=True, weights=weights, offsets=(0.0,) * 3)
    lost = {name: -np.log(p[np.arange(200), truth]) for name, p in said.items()}
    rows = [
        pool({name: dict(zip(pool.options, p[row], strict=True)) for name, p in said.items()})
        for row in range(200)
    ]
    pooled = -np.log([row[str(one)] for row, one in zip(rows, truth, strict=True)])
    assert (pooled <= sum(weights[name] * lost[name] for name in weights) + 1e-6).all(), "in each case"


def test_similar_cases_vote_by_similarity():
    shares = similar_shares(CT, [similar("benign", 0.9), similar("malignant", 0.3)], 0.0)
    assert shares == pytest.approx({"benign": 0.75, "malignant": 0.25, "normal": 0.0})
    smoothed = sources_of(CT, evidence(cases=(similar("benign"),)))[SIMILAR]
    assert sum(smoothed.values()) == pytest.approx(1) and 0 < smoothed["normal"] < smoothed["benign"] < 1


def cases(rng, n, skill, options=3):
    """Made-up sources: each says the truth as clearly as its skill."""
    truth = rng.integers(0, options, n)
    said = {}
    for name, strength in skill.items():
        scores = rng.normal(0, 1, (n, options))
        scores[np.arange(n), truth] += strength
        p = np.exp(scores)
        said[name] = p / p.sum(1, keepdims=True)
    return truth, said


def fit_sample(rng, n, skill):
    truth, said = cases(rng, n, skill)
    names = CT.options
    rows = [
        {name: dict(zip(names, map(float, p[i]), strict=True)) for name, p in said.items()} for i in range(n)
    ]
    return sample_of(
        names, rows, [(names[t],) for t in truth], [str(i // 2) for i in range(n)], exclusive=True
    )


def test_the_fit_gives_noise_no_weight():
    given_cases = fit_sample(np.random.default_rng(0), 600, {"good": 2.0, "noise": 0.0})
    pool = fit_pool(given_cases)
    assert pool.weights["good"] > 0.8 > 0.25 > pool.weights["noise"]


def test_the_selection_asks_the_generalist_only_where_that_pays():
    rng = np.random.default_rng(1)
    disputed = np.zeros(600, bool)
    useless = select_rule(fit_sample(rng, 600, {"a": 2.0, "b": 1.5, GENERALIST: 0.0}), disputed)
    assert useless.rule == "fused" and GENERALIST not in useless.chosen
    useful = select_rule(fit_sample(rng, 600, {"a": 0.8, "b": 0.8, GENERALIST: 3.0}), disputed)
    assert GENERALIST in useful.chosen
    scores = {one.name: one for one in useful.candidates}
    assert scores["pool with generalist"].log_loss < scores["pool"].log_loss
    assert {"a", "b", "mean", "pool", "stacking", "adaptive"} <= set(scores)


def test_observed_meaning_groups_answers_that_are_about_as_sure():
    confidence = [0.6] * 60 + [0.95] * 60
    right = [True, False] * 30 + [True] * 57 + [False] * 3
    fit = fitted(observed=observed_meaning(confidence, right))
    assert fit.meaning(0.55).n == 30 and fit.meaning(0.7).n == 30
    assert fit.meaning(0.97).n == 60 and fit.meaning(0.97).right == 57
    assert fitted().meaning(0.9) is None

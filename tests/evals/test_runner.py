"""A run from images to records: what is written, what is shared, what is kept, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from gsco._support.jsonl import read_log
from gsco.errors import ConfigurationError
from gsco.evals.arms import GENERALISTS, arms_of
from gsco.evals.records import EVIDENCE, OUTCOMES, CaseEvidence, Outcome, read_run_card
from gsco.models.dataset import read_dataset
from gsco.models.specialist.specialist import Floats, Forward, TimmSpecialist

from .scripted_run import PLAN, SHADE, Bench, make_store, write_dataset

ARMS = [arm.name for arm in arms_of(["one", "two"]) if arm.name != "stacking"]
"""Nothing is fitted for the bench's task."""
CASES = 10


def outcomes(out: Path) -> list[Outcome]:
    return list(read_log(out / OUTCOMES, Outcome))


def evidence(out: Path) -> list[CaseEvidence]:
    return list(read_log(out / EVIDENCE, CaseEvidence))


class TestWhatIsWritten:
    def test_one_outcome_per_case_and_arm(self, finished_run: Path, shared_bench: Bench) -> None:
        written = outcomes(finished_run)
        assert len(written) == len({outcome.key for outcome in written}) == CASES * len(ARMS)
        assert {outcome.arm for outcome in written} == set(ARMS)
        items = shared_bench.dataset.split("test")
        truths = {
            item.path.relative_to(shared_bench.dataset.folder).as_posix(): item.labels for item in items
        }
        assert {outcome.case: outcome.truth for outcome in written} == truths
        assert not [outcome for outcome in written if outcome.error]

    def test_arms_differ_and_say_options(self, finished_run: Path) -> None:
        said = {arm: [o.labels for o in outcomes(finished_run) if o.arm == arm] for arm in ARMS}
        assert {labels for several in said.values() for labels in several} == {("dark",), ("bright",)}
        assert len({tuple(several) for several in said.values()}) >= 3

    def test_derived_arms_are_what_the_evidence_says(self, finished_run: Path) -> None:
        found = {one.case: one.evidence for one in evidence(finished_run)}
        assert len(found) == CASES
        for outcome in outcomes(finished_run):
            if outcome.arm == "specialist:one":
                opinion = next(o for o in found[outcome.case].opinions if o.specialist == "one")
                assert (outcome.labels, outcome.probabilities) == (opinion.labels, opinion.probabilities)
            if outcome.arm == "knn":
                carried = [case.labels for case in found[outcome.case].similar_cases]
                assert len(carried) == 3
                assert outcome.labels == max(set(carried), key=carried.count)

    def test_the_run_says_what_it_is(self, finished_run: Path, shared_bench: Bench) -> None:
        card = read_run_card(finished_run)
        assert (card.task, card.dataset, card.split, card.cases) == (SHADE, "squares", "test", CASES)
        assert card.labels == {"bright": 5, "dark": 5}
        assert card.dataset_sha256 == shared_bench.dataset.sha256
        assert list(card.arms) == ARMS
        assert card.configuration["generalist"]["name"] == "reader"
        assert str(card.configuration["profile"]["profile"]).startswith("paper@")
        assert set(card.configuration["panel"]["members"]) == {"one", "two"}  # type: ignore[arg-type]
        assert {"gsco", "torch", "timm", "python"} <= set(card.versions)
        assert card.leakage.bank == 12 and not card.leakage.any

    def test_nothing_private_is_written(self, finished_run: Path, shared_bench: Bench) -> None:
        import platform

        written = "".join(path.read_text(encoding="utf-8") for path in finished_run.iterdir())
        assert "a private text" not in written
        assert str(shared_bench.dataset.folder) not in written
        assert platform.node() not in written


class TestWhatIsShared:
    def test_evidence_comes_with_the_gsco_arm(self, bench: Bench, tmp_path: Path) -> None:
        bench.replay(tmp_path)
        assert bench.generalist.asked == 4 * CASES

    def test_arms_without_generalist_ask_none(self, bench: Bench, tmp_path: Path) -> None:
        plan = PLAN.model_copy(update={"arms": ("specialists", "vote", "knn")})
        finished = bench.replay(tmp_path, plan)
        assert (finished.done, finished.errors, bench.generalist.asked) == (4 * CASES, 0, 0)
        assert len(evidence(tmp_path)) == CASES

    def test_arms_added_later_use_the_evidence_that_is_there(self, bench: Bench, tmp_path: Path) -> None:
        bench.replay(tmp_path, PLAN.model_copy(update={"arms": ("gsco",)}))
        assert (bench.generalist.asked, len(evidence(tmp_path))) == (CASES, CASES)
        finished = bench.replay(tmp_path, PLAN.model_copy(update={"arms": ("gsco", "vote", "mean")}))
        assert (finished.done, bench.generalist.asked, len(evidence(tmp_path))) == (2 * CASES, CASES, CASES)


class TestWhatIsKept:
    def test_a_finished_run_has_nothing_left_to_do(self, bench: Bench, finished_run: Path) -> None:
        before = (finished_run / OUTCOMES).read_bytes()
        assert bench.replay(finished_run)[1:] == (0, 0)
        assert (finished_run / OUTCOMES).read_bytes() == before
        assert bench.generalist.asked == 0

    def test_what_depends_on_a_change_is_redone(self, bench: Bench, tmp_path: Path) -> None:
        bench.replay(tmp_path)
        bench.generalist.asked = 0
        finished = bench.replay(tmp_path, PLAN.model_copy(update={"profile": "calibrated"}))
        assert (finished.done, bench.generalist.asked) == (5 * CASES, 4 * CASES)
        assert len(evidence(tmp_path)) == CASES
        again = bench.replay(tmp_path, PLAN.model_copy(update={"profile": "calibrated", "neighbours": 2}))
        derived = {"specialist:one", "specialist:two", "vote", "mean", "knn"}
        assert again.done == len(derived | {"rad", "gsco-paper", "gsco"}) * CASES

    def test_a_generalist_that_fails_costs_its_own_arms_only(self, bench: Bench, tmp_path: Path) -> None:
        lost, mumbled = (outcome_case(bench, place) for place in (1, 7))
        bench.generalist.gone_for = frozenset({bench.image(lost)})
        bench.generalist.mumbles_for = frozenset({bench.image(mumbled)})
        finished = bench.replay(tmp_path)
        assert (finished.done, finished.errors) == (CASES * len(ARMS), 8)
        failed = [outcome for outcome in outcomes(tmp_path) if outcome.error]
        assert {outcome.arm for outcome in failed} == {arm.name for arm in GENERALISTS}
        assert {outcome.tries for outcome in failed if outcome.case == lost} == {PLAN.retries + 1}
        assert {outcome.tries for outcome in failed if outcome.case == mumbled} == {1}
        assert {outcome.error for outcome in failed if outcome.case == lost} == {
            "GeneralistError: cannot be reached"
        }
        assert len(evidence(tmp_path)) == CASES

        bench.generalist.gone_for, bench.generalist.asked = frozenset(), 0
        again = bench.replay(tmp_path)
        assert (again.done, again.errors, bench.generalist.asked) == (8, 4, 8)

    def test_an_unreadable_image_is_an_error_of_every_arm(self, bench: Bench, tmp_path: Path) -> None:
        source = write_dataset(tmp_path / "squares", train=1, test=2, seed=1)
        broken = read_dataset(source).split("test")[0].path
        broken.write_bytes(b"no image")
        own = bench.on(read_dataset(source))
        finished = own.replay(tmp_path / "out")
        assert (finished.card.cases, finished.done, finished.errors) == (4, 4 * len(ARMS), len(ARMS))
        errors = [outcome for outcome in outcomes(tmp_path / "out") if outcome.error]
        assert {outcome.case for outcome in errors} == {broken.relative_to(source).as_posix()}
        assert all(outcome.error.startswith("ImageUnreadable: ") for outcome in errors if outcome.error)
        assert str(tmp_path) not in (tmp_path / "out" / OUTCOMES).read_text(encoding="utf-8")

    def test_a_specialist_that_fails_is_missing_and_counted(
        self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head = TimmSpecialist.head

        def failing(self: TimmSpecialist, features: Floats) -> Forward:
            if self.name == "two":
                raise RuntimeError("out of memory")
            return head(self, features)

        with monkeypatch.context() as patch:
            patch.setattr(TimmSpecialist, "head", failing)
            finished = bench.replay(tmp_path)
        assert finished.errors == CASES
        by_arm = {name: [o for o in outcomes(tmp_path) if o.arm == name] for name in ARMS}
        assert all(o.error == "NoEvidence: no opinion of two" for o in by_arm["specialist:two"])
        assert all(o.labels for o in by_arm["vote"])
        assert all(any(m.startswith("specialist:two: ") for m in o.missing) for o in by_arm["gsco"])
        assert bench.replay(tmp_path)[1:] == (CASES, 0), "what was missing is gathered anew"


class TestWhatIsRefused:
    def test_another_run_in_the_folder(self, bench: Bench, finished_run: Path, tmp_path: Path) -> None:
        own = bench.on(read_dataset(write_dataset(tmp_path / "others", seed=1)))
        with pytest.raises(ConfigurationError, match="holds a run of task shade on squares"):
            own.replay(finished_run)

    def test_labels_that_are_no_options(self, bench: Bench, tmp_path: Path) -> None:
        source = write_dataset(tmp_path / "squares", train=1, test=1, seed=1)
        csv = source / "labels.csv"
        csv.write_text(csv.read_text(encoding="utf-8").replace(",bright,", ",brigth,"), encoding="utf-8")
        own = bench.on(read_dataset(source))
        with pytest.raises(ConfigurationError, match="did you mean 'bright'"):
            own.replay(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_damaged_record(self, bench: Bench, tmp_path: Path) -> None:
        bench.replay(tmp_path, PLAN.model_copy(update={"arms": ("vote",)}))
        lines = (tmp_path / OUTCOMES).read_text(encoding="utf-8").splitlines(keepends=True)
        lines[3] = json.dumps({"task": "shade"}) + "\n"
        (tmp_path / OUTCOMES).write_text("".join(lines), encoding="utf-8")
        with pytest.raises(ConfigurationError, match=r"line 4 of outcomes\.jsonl"):
            bench.replay(tmp_path)


class TestLeakage:
    def test_a_bank_that_holds_test_images_is_refused(self, tmp_path: Path) -> None:
        leaky = Bench(tmp_path, splits=("train", "test"))
        with leaky.gsco, pytest.raises(ConfigurationError, match="10 are in the case bank"):
            leaky.replay(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_what_is_excluded_is_counted_and_never_found(self, tmp_path: Path) -> None:
        leaky = Bench(tmp_path, splits=("train", "test"))
        with leaky.gsco:
            plan = PLAN.model_copy(update={"leaks": "exclude", "arms": ("knn",)})
            card = leaky.replay(tmp_path / "out", plan).card
        assert len(card.leakage.same_image) == 10
        groups = {item.path.name: item.group for item in leaky.dataset.items}
        known = {leaky.gsco.images.put(item.path).sha256: item.group for item in leaky.dataset.items}
        for one in evidence(tmp_path / "out"):
            assert one.evidence.similar_cases
            for case in one.evidence.similar_cases:
                assert case.sha256 != one.sha256
                assert known[case.sha256] != groups[Path(one.case).name]

    def test_another_image_of_a_test_patient_is_found(self, bench: Bench, tmp_path: Path) -> None:
        dataset = read_dataset(write_dataset(tmp_path / "squares", seed=1))
        shared = dataclasses.replace(dataset.split("train")[2], group="test-dark-1")
        bank = dataclasses.replace(dataset, items=(shared, *dataset.split("train")))
        store = make_store(tmp_path / "bank.sqlite", bank, bench.gsco.panels["shade"])
        own = bench.on(dataset, store)
        with own.gsco, pytest.raises(ConfigurationError, match="0 are in the case bank and 2 share"):
            own.replay(tmp_path / "out")


def outcome_case(bench: Bench, place: int) -> str:
    item = bench.dataset.split("test")[place]
    return item.path.relative_to(bench.dataset.folder).as_posix()


def test_known_cases_can_be_left_out_of_a_run(tmp_path: Path) -> None:
    leaky = Bench(tmp_path, splits=("train", "test"))
    with leaky.gsco, pytest.raises(ConfigurationError, match="knows all of the 10 cases"):
        leaky.replay(tmp_path / "none", PLAN.model_copy(update={"leaks": "drop", "arms": ("knn",)}))

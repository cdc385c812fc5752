"""Results by further columns of a table: bins, intervals, and small groups that nothing is said of."""

from __future__ import annotations

import pytest
from gsco.errors import ConfigurationError
from gsco.evals.build.subgroups import binned, subgroups
from gsco.evals.records import Outcome
from gsco.models.data.tables import Columns, LabelTable, find_columns, labelled_rows


def outcome(case: str, group: str, right: bool) -> Outcome:
    return Outcome(
        task="skin",
        task_version="1",
        case=case,
        arm="gsco",
        configuration="",
        group=group,
        truth=("a",),
        labels=("a",) if right else ("b",),
    )


def test_each_subgroup_has_its_accuracy_with_an_interval() -> None:
    # 40 women of whom 36 are right, 40 images of 10 men of whom all are right, two without a sex.
    told = [(f"w{n}", f"w{n}", n >= 4, "f") for n in range(40)]
    told += [(f"m{n}", f"m{n % 10}", True, "m") for n in range(40)]
    told += [(f"u{n}", f"u{n}", False, "") for n in range(2)]
    women, men, unknown = subgroups(
        [outcome(case, group, right) for case, group, right, _ in told],
        {case: [("sex", sex), ("site", "one")] for case, _, _, sex in told},
    )
    assert (women.trait, women.value, women.n, women.groups) == ("sex", "f", 40, 40)
    assert women.accuracy is not None
    assert women.accuracy.value == 0.9
    # Wilson's interval for 36 of 40.
    assert women.accuracy.low == pytest.approx(0.769, abs=0.001)
    assert women.accuracy.high == pytest.approx(0.960, abs=0.001)
    # Forty images of ten patients are ten patients, too few to say.
    assert (men.value, men.n, men.groups, men.accuracy) == ("m", 40, 10, None)
    assert (unknown.value, unknown.n, unknown.accuracy) == ("not given", 2, None)


def test_ages_are_put_into_ranges() -> None:
    values = ["5", "017Y", "18", "39.5", "40", "61", "80", "99", "nan"]
    assert binned(values, "patient_age") == {
        "under 18": [0, 1],
        "18 to under 40": [2, 3],
        "40 to under 60": [4],
        "60 to under 80": [5],
        "80 and over": [6, 7],
        "not given": [8],
    }


def test_other_numbers_go_by_quartiles_and_rare_words_together() -> None:
    assert [len(places) for places in binned(list(map(str, range(100))), "dose").values()] == [25] * 4
    assert list(binned(["1", "2", "3", "1"], "scanner")) == ["1", "2", "3"]
    words = [f"site{n:02}" for n in range(20) for _ in range(30 - n)]
    found = binned(words, "site")
    assert len(found) == 13
    assert len(found["other"]) == sum(30 - n for n in range(12, 20))


def test_columns_are_found_by_their_names_or_named() -> None:
    table = LabelTable(
        "t.csv",
        ("path", "label", "Age", "note", "ward"),
        ({"path": "a.png", "label": "x", "Age": "40", "note": "n", "ward": "3"},),
        (2,),
    )
    assert find_columns(table, Columns()).traits == ("Age",)
    layout = labelled_rows(table, Columns(traits=("ward",)), None, frozenset())
    assert layout.rows[0].traits == (("Age", "40"), ("ward", "3"))
    assert "subgroups by Age, ward" in layout.kind
    with pytest.raises(ConfigurationError, match=r"no column 'wing' \(--subgroup\)"):
        find_columns(table, Columns(traits=("wing",)))

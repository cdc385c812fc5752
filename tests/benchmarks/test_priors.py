"""Rules of decision on a specialist's test split: what each does, and that only the bound sees the labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from gsco.benchmarks.priors import BOUND, PLAIN, Priors, compared, priors, table, write_priors
from gsco.errors import ConfigurationError
from gsco.models.dataset import Dataset, read_dataset
from gsco.models.specialist.assessment import Outputs
from gsco.models.specialist.card import Transform
from gsco.models.specialist.specialist import TimmSpecialist
from PIL import Image

TRAINED = np.array([0.2, 0.8])


def bayes(n: int, ill: float, seed: int) -> Outputs:
    """Logits of Bayes' rule under the training prior, for two overlapping classes."""
    random = np.random.default_rng(seed)
    truth = (random.random(n) < ill).astype(int)
    value = random.normal(truth * 2.0, 1.0)
    logit = 2.0 * value - 2.0 + np.log(0.8 / 0.2)
    logits = np.stack([np.zeros(n), logit], axis=1).astype(np.float32)
    return Outputs(logits, truth, tuple(str(case // 2) for case in range(n)))


def test_where_only_the_shares_differ_the_estimated_prior_gives_the_points_back() -> None:
    rules, estimated = compared(bayes(400, 0.8, 0), bayes(600, 0.25, 1), 1.0, TRAINED)
    found = {rule.name: rule for rule in rules}
    assert estimated[1] == pytest.approx(0.25, abs=0.06)
    gain = found["estimated prior"].against_plain["accuracy"]
    assert gain.value > 0.03 and gain.low > 0
    assert all(
        found[BOUND].metrics["accuracy"].value >= found[name].metrics["accuracy"].value
        for name in found
        if name != "estimated prior"
    )
    # A threshold leaves the order of the cases as it is.
    assert len({round(rule.metrics["auroc"].value, 9) for rule in rules}) == 1
    assert found[PLAIN].against_plain == {} and found[PLAIN].threshold is None


def test_where_nothing_differs_nothing_is_gained() -> None:
    rules, estimated = compared(bayes(400, 0.8, 0), bayes(600, 0.8, 1), 1.0, TRAINED)
    assert estimated == pytest.approx(TRAINED, abs=0.05)
    gain = next(rule for rule in rules if rule.name == "estimated prior").against_plain["accuracy"]
    assert gain.low <= 0 <= gain.high


def test_only_the_bound_looks_at_the_test_labels() -> None:
    validation, test = bayes(400, 0.8, 0), bayes(600, 0.25, 1)
    turned = Outputs(test.logits, 1 - test.truth, test.groups)
    first, second = (compared(validation, one, 1.0, TRAINED) for one in (test, turned))
    assert (first[1] == second[1]).all()
    for one, other in zip(first[0], second[0], strict=True):
        assert (one.threshold == other.threshold) is (one.name != BOUND)


def test_what_is_written_holds_the_mean_of_several(tmp_path: Path) -> None:
    rules, _ = compared(bayes(100, 0.8, 0), bayes(100, 0.25, 1), 1.0, TRAINED)
    shares = {"healthy": 0.2, "ill": 0.8}
    found = Priors(
        specialist="t/s",
        dataset="d",
        dataset_sha256="0",
        cases=100,
        groups=50,
        trained=shares,
        estimated=shares,
        true=shares,
        rules=rules,
    )
    write_priors([found, found], tmp_path / "out", "the command")
    written = json.loads((tmp_path / "out" / "priors.json").read_text(encoding="utf-8"))
    assert written["command"] == "the command" and len(written["specialists"]) == 2
    assert any(line.startswith("**Mean of the 2**") for line in table([found, found]))
    assert not any(line.startswith("**Mean") for line in table([found]))


def squares(folder: Path, shares: dict[str, int]) -> Dataset:
    folder.mkdir()
    rows = []
    for split, count in shares.items():
        for number in range(2 * count):
            name = f"{len(rows):02}.png"
            Image.fromarray(np.full((16, 16), 10 * len(rows), np.uint8)).save(folder / name)
            rows.append((name, ("healthy", "ill")[number % 2], str(len(rows)), split))
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group", "split"), *rows])
    return read_dataset(folder)


def network(labels: tuple[str, ...]) -> TimmSpecialist:
    return TimmSpecialist.from_timm(
        "test_resnet", labels, task="squares", name="random", transform=Transform(size=16)
    )


def test_a_real_network_is_measured(tmp_path: Path) -> None:
    dataset = squares(tmp_path / "some", {"train": 3, "val": 2, "test": 4})
    found = priors(network(("healthy", "ill")), dataset, quiet=True)
    assert (found.cases, found.groups, found.true) == (8, 8, {"healthy": 0.5, "ill": 0.5})


def test_it_is_for_two_labels_and_needs_both_splits(tmp_path: Path) -> None:
    dataset = squares(tmp_path / "some", {"train": 2, "val": 1})
    with pytest.raises(ConfigurationError, match="has 3 labels"):
        priors(network(("a", "b", "c")), dataset, quiet=True)
    with pytest.raises(ConfigurationError, match="has no test images"):
        priors(network(("healthy", "ill")), dataset, quiet=True)

"""Report metrics against sacrebleu, pycocoevalcap, rouge-score and nltk."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import sacrebleu
from gsco.errors import ConfigurationError
from gsco.evals.metrics.clinical import CONDITIONS, FIVE, NEEDS, condition_measures
from gsco.evals.metrics.reports import bleu, cider, has_wordnet, meteor, report_measures, rouge_l
from gsco.evals.metrics.uncertainty import estimate
from gsco.evals.metrics.words import report_words
from gsco.models.metrics.draws import draws
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from sklearn.metrics import f1_score

WORDS = [
    "the",
    "lungs",
    "are",
    "clear",
    ".",
    "heart",
    "size",
    "normal",
    "no",
    "effusion",
    "pneumothorax",
    "left",
    "lower",
    "lobe",
    "opacity",
]


def corpus(n: int, seed: int) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    truth = [" ".join(random.choice(WORDS, random.integers(3, 25))) for _ in range(n)]
    said = []
    for text in truth:
        words = text.split()
        changed = [word if random.random() < 0.7 else str(random.choice(WORDS)) for word in words]
        said.append(" ".join(changed[: max(1, len(words) - int(random.integers(0, 4)))]))
    return said, truth


def numbered(texts: list[str]) -> dict[int, list[str]]:
    return {place: [text] for place, text in enumerate(texts)}


def test_report_words() -> None:
    assert report_words("Heart: normal. No T1-weighted, XXXX!") == [
        "heart",
        "normal",
        ".",
        "no",
        "t1-weighted",
        "xxxx",
    ]


@pytest.mark.parametrize("seed", range(3))
def test_bleu_is_that_of_sacrebleu_and_of_coco(seed: int) -> None:
    said, truth = corpus(40, seed)
    found = bleu(said, truth)
    coco, _ = Bleu(4).compute_score(numbered(truth), numbered(said), verbose=0)
    for order in range(1, 5):
        counter = sacrebleu.BLEU(tokenize="none", max_ngram_order=order, smooth_method="none")
        wanted = counter.corpus_score(said, [truth]).score / 100
        assert found[f"bleu_{order}"].value == pytest.approx(wanted)
        assert found[f"bleu_{order}"].value == pytest.approx(coco[order - 1], abs=1e-6)


def test_the_kernel_of_bleu_is_bleu_on_the_drawn_cases() -> None:
    said, truth = corpus(20, 1)
    found = bleu(said, truth)
    weights = np.concatenate(list(draws([str(place) for place in range(20)], rounds=15, seed=2)))
    for draw, times in enumerate(weights):
        cases = np.repeat(np.arange(20), times.astype(int))
        again = bleu([said[case] for case in cases], [truth[case] for case in cases])
        for name, measure in found.items():
            assert measure.kernel(weights)[draw] == pytest.approx(again[name].value)


@pytest.mark.parametrize("seed", range(3))
def test_cider_is_that_of_coco(seed: int) -> None:
    said, truth = corpus(30, seed)
    mean, wanted = Cider().compute_score(numbered(truth), numbered(said))
    assert cider(said, truth) == pytest.approx(wanted, abs=1e-9)
    assert cider(said, truth).mean() == pytest.approx(float(mean))


def test_cider_of_short_and_empty_reports() -> None:
    said, truth = ["", "clear", "lungs clear ."], ["lungs clear .", "clear", "lungs clear ."]
    _, wanted = Cider().compute_score(numbered(truth), numbered(said))
    assert cider(said, truth) == pytest.approx(np.nan_to_num(wanted), abs=1e-9)
    assert cider([], []).shape == (0,)


def test_rouge_l_is_the_longest_common_subsequence() -> None:
    said, truth = corpus(30, 4)
    for text, true, found in zip(said, truth, rouge_l(said, truth), strict=True):
        length = subsequence(text.split(), true.split())
        assert found == pytest.approx(2 * length / (len(text.split()) + len(true.split())))
    # COCO's own flavour weighs recall more; with equal lengths all flavours agree.
    same = [
        (text, true) for text, true in zip(said, truth, strict=True) if len(text.split()) == len(true.split())
    ]
    assert same
    for text, true in same:
        wanted, _ = Rouge().compute_score({0: [true]}, {0: [text]})
        assert rouge_l([text], [true])[0] == pytest.approx(float(wanted))


def subsequence(first: list[str], second: list[str]) -> int:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if one == other else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


def test_meteor_without_synonyms_knows_words_and_stems() -> None:
    found = meteor(
        ["the heart is normal", "hearts", "kidney", ""],
        ["the heart is normal", "heart", "heart", "heart"],
        synonyms=False,
    )
    # One chunk of four words: penalty 0.5 / 4**3.
    assert found[0] == pytest.approx(1 - 0.5 / 4**3)
    assert found[1] == pytest.approx(0.5) and found[2] == found[3] == 0


@pytest.mark.skipif(has_wordnet(), reason="the WordNet data are here")
def test_synonyms_say_what_they_need() -> None:
    with pytest.raises(ConfigurationError, match=r"nltk\.downloader wordnet"):
        meteor(["a"], ["a"])
    with pytest.raises(ConfigurationError, match=r"nltk\.downloader wordnet"):
        report_measures(["a"], ["a"], synonyms=True)


def test_all_measures_of_reports_with_intervals() -> None:
    said, truth = corpus(30, 7)
    found = estimate(
        report_measures([None, *said[1:]], truth, synonyms=False), list(map(str, range(30))), rounds=100
    )
    assert set(found) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "meteor_no_synonyms", "cider"}
    assert all(one.low <= one.value <= one.high and one.n == 30 for one in found.values())
    perfect = report_measures(truth, truth, synonyms=False)
    assert perfect["bleu_4"].value == pytest.approx(1) and perfect["rouge_l"].value == pytest.approx(1)


def test_conditions_are_scored_as_by_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth, said = random.random((2, 80, len(CONDITIONS))) < 0.3
    found = condition_measures(said, truth)
    five = [CONDITIONS.index(name) for name in FIVE]
    for title, columns in (("14", list(range(14))), ("5", five)):
        for average in ("micro", "macro"):
            wanted = f1_score(truth[:, columns], said[:, columns], average=average)
            assert found[f"chexbert_{average}_f1_{title}"].value == pytest.approx(wanted)


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_clinical_metric_says_what_it_needs(name: str) -> None:
    package = {"chexbert": "f1chexbert", "radgraph": "radgraph", "ratescore": "RaTEScore"}[name]
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(ConfigurationError, match=r"gsco\[radiology-metrics\].* It needs the package"):
            report_measures(["clear"], ["clear"], synonyms=False, clinical=[name])
    else:
        pytest.skip(f"{package} is installed; with its weights it would run")


@pytest.mark.parametrize("package", ["sacrebleu", "rouge_score", "nltk"])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without(package), *sys.meta_path])
    with pytest.raises(ConfigurationError, match=rf"{package} is missing: pip install 'gsco\[evals\]'"):
        report_measures(["clear"], ["clear"], synonyms=False)


class Without:
    """An import system that lacks a package."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=self.package)

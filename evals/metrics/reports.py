"""How near a written report comes to the true one, by its words.

Words say little about whether a report is right: the metrics of ``metrics.clinical`` say more. All texts are
in lower case, as words and full stops (``words.report_words``). A report that never came is an empty text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ...errors import ConfigurationError
from ...models.metrics.answers import Floats
from ...models.metrics.draws import divide, of_sums
from .clinical import ClinicalMetric, clinical_measures
from .uncertainty import Measure, mean
from .words import report_words

ORDERS = 4
_SIGMA = 6.0
_SCALE = 10.0

WORDNET = (
    "METEOR's synonyms need the WordNet data of nltk, which are not part of any package: run "
    "`python -m nltk.downloader wordnet` where there is a network, or put corpora/wordnet.zip into a folder "
    "that NLTK_DATA names; without them METEOR can be taken by words and stems alone"
)


MISSING = "reports are scored with nltk, rouge-score and sacrebleu; {} is missing: pip install 'gsco[evals]'"


def report_measures(
    said: Sequence[str | None],
    truth: Sequence[str],
    *,
    synonyms: bool | None = None,
    clinical: Sequence[ClinicalMetric] = (),
) -> dict[str, Measure]:
    """Measure reports; put intervals to them with ``uncertainty.estimate``.

    Args:
        said: what was written, per case; None where nothing was.
        truth: the true reports.
        synonyms: whether METEOR knows synonyms; None where its data are on this machine. It is called
            ``meteor`` with them and ``meteor_no_synonyms`` without, since the two are not the same number.
        clinical: metrics of ``metrics.clinical`` to compute too.

    Returns:
        ``bleu_1`` to ``bleu_4`` over the corpus; ``rouge_l`` (F1), METEOR and ``cider`` as means over cases;
        and the clinical ones.

    Raises:
        ConfigurationError: a package is missing, or the data or weights that a metric needs.
    """
    try:
        return _measures(said, truth, synonyms) | clinical_measures(said, truth, clinical)
    except ModuleNotFoundError as error:
        raise ConfigurationError(MISSING.format(error.name)) from error


def _measures(said: Sequence[str | None], truth: Sequence[str], synonyms: bool | None) -> dict[str, Measure]:
    texts = [" ".join(report_words(text or "")) for text in said]
    truths = [" ".join(report_words(text)) for text in truth]
    known = has_wordnet() if synonyms is None else synonyms
    return {
        **bleu(texts, truths),
        "rouge_l": mean(rouge_l(texts, truths)),
        "meteor" if known else "meteor_no_synonyms": mean(meteor(texts, truths, synonyms=known)),
        "cider": mean(cider(texts, truths)),
    }


def bleu(said: Sequence[str], truth: Sequence[str]) -> dict[str, Measure]:
    """Measure BLEU-1 to BLEU-4 over the corpus, without smoothing; words are divided by spaces."""
    from sacrebleu import BLEU

    counter = BLEU(tokenize="none", effective_order=True)
    rows = []
    for text, true in zip(said, truth, strict=True):
        one = counter.sentence_score(text, [true])
        rows.append([*one.counts, *one.totals, one.sys_len, one.ref_len])
    sums = np.array(rows, dtype=np.float64).reshape(len(rows), 2 * ORDERS + 2)
    found = {}
    for order in range(1, ORDERS + 1):
        kernel = of_sums(sums, lambda totals, order=order: _bleu(totals, order))
        value = float(_bleu(sums.sum(0, keepdims=True), order)[0])
        found[f"bleu_{order}"] = Measure(value, kernel, len(rows))
    return found


def _bleu(sums: Floats, order: int) -> Floats:
    """BLEU from sums (draws, counts + totals + lengths); 0 where an order has no match."""
    counts, totals = sums[:, :order], sums[:, ORDERS : ORDERS + order]
    length, wanted = sums[:, -2], sums[:, -1]
    precision = divide(counts, totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.exp(np.log(np.nan_to_num(precision)).mean(1))
        brevity = np.exp(np.minimum(0.0, 1 - wanted / length))
    return np.where(length > 0, score * brevity, np.where(wanted > 0, 0.0, np.nan))


def rouge_l(said: Sequence[str], truth: Sequence[str]) -> Floats:
    """F1 of the longest common subsequence of words, per case."""
    from rouge_score.rouge_scorer import RougeScorer

    # Texts are words divided by spaces already.
    scorer = RougeScorer(["rougeL"], tokenizer=cast(Any, _Spaces()))
    pairs = zip(said, truth, strict=True)
    return np.array([scorer.score(true, text)["rougeL"].fmeasure for text, true in pairs], dtype=np.float64)


class _Spaces:
    def tokenize(self, text: str) -> list[str]:
        return text.split()


def has_wordnet() -> bool:
    """Whether nltk finds the WordNet data."""
    import nltk

    for place in ("corpora/wordnet.zip", "corpora/wordnet"):
        try:
            nltk.data.find(place)
        except LookupError:
            continue
        return True
    return False


def meteor(said: Sequence[str], truth: Sequence[str], *, synonyms: bool = True) -> Floats:
    """METEOR of each case, by nltk: words, stems, and with its data synonyms.

    Raises:
        ConfigurationError: synonyms are wanted and their data are not there.
    """
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import single_meteor_score

    if synonyms and not has_wordnet():
        raise ConfigurationError(WORDNET)
    book = wordnet if synonyms else cast(Any, _NoSynonyms())
    pairs = zip(said, truth, strict=True)
    return np.array(
        [single_meteor_score(true.split(), text.split(), wordnet=book) for text, true in pairs],
        dtype=np.float64,
    )


class _NoSynonyms:
    def synsets(self, word: str) -> list[object]:
        return []


def cider(said: Sequence[str], truth: Sequence[str]) -> Floats:
    """CIDEr-D of each case: cosine of word groups, weighted by how rare they are among the true reports.

    One to four words, clipped, with a Gaussian penalty on the difference in length, times ten.
    """
    if not len(truth):
        return np.zeros(0)
    lengths = [np.array([max(0, len(text.split()) - 1) for text in texts]) for texts in (said, truth)]
    penalty = np.exp(-((lengths[0] - lengths[1]).astype(float) ** 2) / (2 * _SIGMA**2))
    scores = [_cosine(said, truth, order) for order in range(1, ORDERS + 1)]
    return np.mean(scores, axis=0) * penalty * _SCALE


def _cosine(said: Sequence[str], truth: Sequence[str], order: int) -> Floats:
    from scipy.sparse import diags_array

    counts = [_counted(texts, order, vocabulary) for vocabulary in [{}] for texts in (truth, said)]
    width = counts[1].shape[1]
    counts[0].resize((len(truth), width))
    seen = np.bincount(counts[0].tocsr().indices, minlength=width)
    rarity = diags_array(np.log(len(truth)) - np.log(np.maximum(seen, 1)))
    true, text = (one.tocsr() @ rarity for one in counts)
    shared = np.asarray(text.minimum(true).multiply(true).sum(1)).ravel()
    norms = [np.sqrt(np.asarray(one.multiply(one).sum(1)).ravel()) for one in (true, text)]
    return np.nan_to_num(divide(shared, norms[0] * norms[1]))


def _counted(texts: Sequence[str], order: int, vocabulary: dict[tuple[str, ...], int]) -> Any:
    """Count word groups, (texts, groups); the vocabulary grows."""
    from scipy.sparse import coo_array

    rows, columns = [], []
    for row, text in enumerate(texts):
        words = text.split()
        for place in range(len(words) - order + 1):
            rows.append(row)
            columns.append(vocabulary.setdefault(tuple(words[place : place + order]), len(vocabulary)))
    shape = (len(texts), max(1, len(vocabulary)))
    found = coo_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    found.sum_duplicates()
    return found

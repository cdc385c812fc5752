"""Whether a chest X-ray report says what is clinically true, by models that read reports.

They are an extra, ``gsco[radiology-metrics]``, and each needs weights that no package holds; ``NEEDS`` says
which. Nothing is fetched in silence: where weights are not there, the error says where they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, TypeVar

import numpy as np

from ...errors import ConfigurationError
from ...models.metrics.answers import Answers, Bools
from ...models.metrics.diagnosis import macro_f1, micro_f1
from .uncertainty import Measure, mean

T = TypeVar("T")

ClinicalMetric = Literal["chexbert", "radgraph", "ratescore"]

NEEDS: Mapping[ClinicalMetric, str] = {
    "chexbert": (
        "the package f1chexbert, its labeller chexbert.pth (of the hub's StanfordAIMI/RRG_scorers) in the "
        "folder chexbert of the user's cache (~/.cache/chexbert), and the hub's bert-base-uncased"
    ),
    "radgraph": (
        "the package radgraph, and its model radgraph-xl.tar.gz (of the hub's StanfordAIMI/RRG_scorers) in "
        "the folder radgraph/VERSION of the user's cache"
    ),
    "ratescore": (
        "the package RaTEScore, and the hub's models Angelakeke/RaTE-NER-Deberta and "
        "FremyCompany/BioLORD-2023-C"
    ),
}

CONDITIONS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
"""What the labeller looks for, in its order."""
FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""Those that are commonly reported by themselves."""


def clinical_measures(
    said: Sequence[str | None],
    truth: Sequence[str],
    metrics: Iterable[ClinicalMetric],
) -> dict[str, Measure]:
    """Measure reports clinically; put intervals to them with ``uncertainty.estimate``.

    Args:
        said: what was written; None where nothing was, which counts as an empty report.
        truth: the true reports.
        metrics: which of them; their models run on the accelerator if there is one.

    Raises:
        ConfigurationError: a package or its weights are not there; the message says what to get.
    """
    texts = [text or "" for text in said]
    found: dict[str, Measure] = {}
    for name in metrics:
        found |= _METRICS[name](texts, list(truth), _device())
    return found


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def condition_measures(said: Bools, truth: Bools) -> dict[str, Measure]:
    """Measure which conditions are reported: clinical efficacy.

    Args:
        said: (n, 14), which of ``CONDITIONS`` a written report states.
        truth: the same of the true reports.

    Returns:
        Micro and macro F1 over all conditions and over ``FIVE``.
    """
    five = [CONDITIONS.index(name) for name in FIVE]
    found = {}
    for title, columns in (("14", list(range(len(CONDITIONS)))), ("5", five)):
        given = Answers(
            truth=truth[:, columns],
            said=said[:, columns],
            answered=np.ones(len(truth), dtype=bool),
            probabilities=np.full((len(truth), len(columns)), np.nan),
            exclusive=False,
        )
        for metric in (micro_f1, macro_f1):
            found[f"chexbert_{metric.name}_{title}"] = Measure(metric(given), metric.kernel(given), given.n)
    return found


def _chexbert(said: list[str], truth: list[str], device: str) -> dict[str, Measure]:
    labeller = _loaded("chexbert", lambda: _module("f1chexbert", "chexbert").F1CheXbert(device=device))

    def labels(texts: list[str]) -> Bools:
        # Uncertain mentions count as stated, as in report generation.
        return np.array([labeller.get_label(text, mode="rrg") for text in texts], dtype=bool)

    return condition_measures(labels(said), labels(truth))


def _radgraph(said: list[str], truth: list[str], device: str) -> dict[str, Measure]:
    cuda = -1 if device == "cpu" else 0
    scorer = _loaded(
        "radgraph",
        lambda: _module("radgraph", "radgraph").F1RadGraph(
            reward_level="all", model_type="radgraph-xl", cuda=cuda
        ),
    )
    # Per report: entities; entities and whether they have relations; entities and their relations.
    simple, partial, complete = scorer(refs=truth, hyps=said)[1]
    names = ("radgraph_simple", "radgraph_partial", "radgraph_complete")
    return {
        name: mean(np.asarray(values, dtype=np.float64))
        for name, values in zip(names, (simple, partial, complete), strict=True)
    }


def _ratescore(said: list[str], truth: list[str], device: str) -> dict[str, Measure]:
    scorer = _loaded(
        "ratescore", lambda: _module("RaTEScore", "ratescore").RaTEScore(use_gpu=device != "cpu")
    )
    return {"ratescore": mean(np.asarray(scorer.compute_score(said, truth), dtype=np.float64))}


_METRICS: Mapping[ClinicalMetric, Callable[[list[str], list[str], str], dict[str, Measure]]] = {
    "chexbert": _chexbert,
    "radgraph": _radgraph,
    "ratescore": _ratescore,
}


def _module(name: str, metric: ClinicalMetric) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"{metric} is not installed: pip install 'gsco[radiology-metrics]'. It needs {NEEDS[metric]}"
        ) from error


def _loaded(metric: ClinicalMetric, load: Callable[[], T]) -> T:
    try:
        return load()
    except ConfigurationError:
        raise
    except Exception as error:  # these packages and the hub client raise anything; the caller gets one type
        raise ConfigurationError(
            f"{metric} cannot be loaded ({type(error).__name__}: {error}). It needs {NEEDS[metric]}"
        ) from error

"""Specialists of the user's own, given to ``GSCo`` by protocol."""

import re

import numpy as np
import pytest
from gsco import ConfigurationError, EmbeddingSpecialist, EvidenceMissing, GSCo, Specialist, Task, TaskUnknown

from ...installation import bank, cards, generalist_folder, pictures, specialist_folders

__all__ = ["bank", "cards", "generalist_folder", "pictures", "specialist_folders"]


class Brightness:
    """Tells dark from bright pictures by their mean, which is right for ``shade``."""

    name, task, labels, version = "brightness", "shade", ("dark", "bright"), "1"

    def predict(self, images):
        means = np.array([np.asarray(image.convert("L")).mean() / 255 for image in images])
        return np.stack([1 - means, means], axis=1)


class Embedding(Brightness):
    name, encoder = "embedding", "shade/embedding"

    def embed(self, images):
        return [[np.asarray(image.convert("L")).mean(), 10.0] for image in images]


def returning(result, **fields):
    """A specialist that returns this for one image."""
    return type("Fixed", (Brightness,), {"name": "fixed", **fields, "predict": lambda self, images: result})()


@pytest.fixture(scope="module")
def settings(tmp_path_factory, cards, specialist_folders, bank, generalist_folder):
    return {
        "home": tmp_path_factory.mktemp("home"),
        "tasks": cards,
        "case_store": str(bank),
        "generalist_model": str(generalist_folder),
        "neighbours": 4,
    }


def evidence_of(settings, specialist, picture, task="shade", **policies):
    with GSCo.from_settings(**settings, specialists=[specialist]) as gsco:
        return gsco.diagnose(picture, task=task, gate="off", **policies).evidence


def test_the_protocols_are_structural():
    assert isinstance(Brightness(), Specialist) and not isinstance(Brightness(), EmbeddingSpecialist)
    assert isinstance(Embedding(), EmbeddingSpecialist)
    assert not isinstance(object(), Specialist)


def test_it_is_asked_like_any_other(settings, pictures):
    evidence = evidence_of(settings, Brightness(), pictures.shade("bright", 1))
    [opinion] = evidence.opinions
    assert (opinion.specialist, opinion.labels, opinion.architecture) == (
        "brightness",
        ("bright",),
        "Brightness",
    )
    assert opinion.probabilities["bright"] == pytest.approx(190 / 255, abs=0.02)
    assert sum(opinion.probabilities.values()) == pytest.approx(1)


def test_it_stands_beside_those_of_a_folder(settings, specialist_folders, monkeypatch):
    monkeypatch.setenv("GSCO_SPECIALISTS", str(specialist_folders))
    replacing = type("Two", (Brightness,), {"name": "two"})()
    with GSCo.from_settings(**settings, specialists=[Brightness(), replacing]) as gsco:
        assert set(gsco.specialists.members("shade")) == {"one", "two", "own", "brightness"}
        assert gsco.panels["shade"].members["two"].card.architecture == "Two"
        assert set(gsco.specialists.members("stripes")) == {"one", "two", "own"}


def test_a_new_version_is_another_version(settings, pictures):
    picture = pictures.shade("dark", 2)
    first, second = (
        evidence_of(settings, type("Brightness", (Brightness,), {"version": version})(), picture).opinions[0]
        for version in ("1", "2")
    )
    assert first.version != second.version and first.probabilities == second.probabilities


@pytest.mark.parametrize(
    ("specialist", "reason"),
    [
        (returning([[0.5, 0.5, 0.0]]), r"shape \(1, 2\), not \(1, 3\)"),
        (returning([[3.0, -1.0]]), "not logits"),
        (returning([[np.nan, 0.5]]), "not logits"),
        (returning([[0.5, 0.2]]), "sum to 1"),
        (returning("no numbers"), "ValueError"),
        (
            type("Failing", (Brightness,), {"name": "fixed", "predict": lambda *_: 1 / 0})(),
            "ZeroDivisionError",
        ),
        (type("Other", (Brightness,), {"name": "fixed", "labels": ("a", "b")})(), "not the task's options"),
        (type("Few", (Embedding,), {"name": "fixed", "embed": lambda *_: []})(), "one row for each of 1"),
    ],
    ids=["width", "logits", "nan", "sum", "text", "exception", "labels", "embedding"],
)
def test_one_that_fails_is_missing_evidence(settings, pictures, specialist, reason):
    picture = pictures.shade("dark", 3)
    evidence = evidence_of(settings, specialist, picture)
    [missing] = [one for one in evidence.missing if one.source == "specialist:fixed"]
    assert evidence.opinions == () and evidence.similar_cases == ()
    assert re.search(reason, missing.reason), missing.reason
    with pytest.raises(EvidenceMissing, match="specialist:fixed is required"):
        evidence_of(settings, specialist, picture, moed="require")


def test_independent_labels(settings, pictures):
    specialist = returning([[0.1, 0.9, 0.8]], task="marks", labels=("clean", "dot", "cross"), multilabel=True)
    [opinion] = evidence_of(settings, specialist, pictures.shade("dark", 4), task="marks").opinions
    assert opinion.labels == ("dot", "cross")


def test_its_embedding_finds_known_cases(settings, pictures, tmp_path):
    from gsco import Entry, KnownCase
    from gsco.images import pixel_hash
    from gsco.tools.stores.embedded import EmbeddedStore

    with EmbeddedStore(tmp_path / "cases.sqlite") as store:
        for label in ("dark", "bright"):
            image = pictures.shade(label, 5)
            vector = np.array(Embedding().embed([image])[0], np.float32)
            known = KnownCase(sha256=pixel_hash(image), task="shade", labels=(label,))
            store.add([Entry(known, {"shade/embedding": vector / np.linalg.norm(vector)})])
        with GSCo.from_settings(**{**settings, "case_store": store}, specialists=[Embedding()]) as gsco:
            found = gsco.diagnose(pictures.shade("dark", 6), task="shade", gate="off").evidence.similar_cases
    assert [case.labels for case in found] == [("dark",), ("bright",)]
    assert found[0].similarity == pytest.approx(1, abs=0.01)


def test_a_task_made_in_python(settings, pictures):
    task = Task(name="light", modality="grey square", options=("dark", "bright"))
    specialist = type("Light", (Brightness,), {"task": "light"})()
    with GSCo.from_settings(**{**settings, "tasks": [task]}, specialists=[specialist]) as gsco:
        diagnosis = gsco.diagnose(pictures.shade("bright", 7), task="light", gate="off")
    assert [opinion.labels for opinion in diagnosis.evidence.opinions] == [("bright",)]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"task": "shady"}, TaskUnknown, "did you mean shade"),
        ({"name": "no name"}, ConfigurationError, "name"),
        ({"labels": ()}, ConfigurationError, "labels"),
        ({"labels": ("dark", "dark")}, ConfigurationError, "each once"),
        ({"reliability": 80}, ConfigurationError, "reliability"),
    ],
)
def test_what_is_wrong_with_it_is_said_at_once(settings, fields, error, message):
    with pytest.raises(error, match=message):
        GSCo.from_settings(**settings, specialists=[type("Wrong", (Brightness,), fields)()])


def test_what_it_lacks_is_named(settings):
    with pytest.raises(ConfigurationError, match="it lacks task, labels, predict"):
        GSCo.from_settings(**settings, specialists=[type("Bare", (), {"name": "bare"})()])
    with pytest.raises(ConfigurationError, match=r"not a case store: it lacks add, search.*gsco\.CaseStore"):
        GSCo.from_settings(**{**settings, "case_store": object()})

"""Similar cases that are shown as images: which, and none of the case's own patient."""

from __future__ import annotations

import io

import numpy as np
import pytest
from gsco.case import Case, ImageRef, SimilarCase
from gsco.errors import ImageMissing, ImageUnreadable
from gsco.graphs.exemplars import by_turns, exemplars
from gsco.images import ImageStore
from gsco.models.generalist.messages import image_ids, parts
from gsco.models.generalist.prompts import PROFILES, Exemplar
from gsco.tasks import TaskBook
from gsco.tools.stores.embedded import EmbeddedStore
from gsco.tools.stores.protocol import Entry, KnownCase
from PIL import Image

BUSI = TaskBook().get("busi")
VECTOR = np.array([1.0, 0.0], dtype=np.float32)
KNOWN = [
    ("a", "benign", "p1", 0.9),
    ("b", "benign", "p2", 0.8),
    ("c", "benign", "p3", 0.7),
    ("d", "malignant", "p4", 0.6),
    ("e", "normal", "", 0.5),
]


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def known(letter: str, label: str, group: str) -> KnownCase:
    return KnownCase(sha256=letter * 64, task="busi", labels=(label,), group=group)


@pytest.fixture
def store(tmp_path):
    made = EmbeddedStore(tmp_path / "cases.sqlite")
    made.add(
        Entry(known(letter, label, group), {"e": VECTOR}, None if letter == "c" else jpeg(10 * place))
        for place, (letter, label, group, _) in enumerate(KNOWN)
    )
    yield made
    made.close()


def found() -> list[SimilarCase]:
    cases = [(known(letter, label, group), similarity) for letter, label, group, similarity in KNOWN]
    return [
        SimilarCase(id=one.id, sha256=one.sha256, task="busi", labels=one.labels, similarity=s, encoder="e")
        for one, s in cases
    ]


def case(sha256: str = "f" * 64, group: str | None = None) -> Case:
    return Case(id="c", images=(ImageRef(sha256=sha256, width=8, height=8),), group=group)


def test_the_nearest_of_each_label_take_turns(store):
    assert [one.sha256[0] for one in by_turns(found())] == ["a", "d", "e", "b", "c"]
    chosen = exemplars(case(), found(), store, 4)
    assert [one.labels[0] for one in chosen] == ["benign", "malignant", "normal", "benign"]
    assert chosen[0].thumbnail == jpeg(0) and len(exemplars(case(), found(), store, 2)) == 2
    assert len(exemplars(case(), found(), store, 9)) == 4, "without a thumbnail there is nothing to show"


def test_neither_the_same_image_nor_the_same_patient_is_shown(store):
    shown = {one.thumbnail for one in exemplars(case("a" * 64), found(), store, 9)}
    assert jpeg(0) not in shown and len(shown) == 3
    shown = {one.thumbnail for one in exemplars(case(group="p4"), found(), store, 9)}
    assert jpeg(30) not in shown and len(shown) == 3


def test_the_prompt_says_what_the_last_images_are():
    shown = [Exemplar("img-" + "1" * 12, ("benign",)), Exemplar("img-" + "2" * 12, ("malignant",))]
    messages = PROFILES["exemplars"].closed_messages(BUSI, case(), exemplars=shown)
    assert image_ids(messages) == (case().images[0].id, *(one.image for one in shown))
    said = (
        "The last 2 images are of similar cases; their diagnoses are, in the same order, benign, malignant."
    )
    assert (
        said in parts(messages[-1])[1]
        and "You are given a breast ultrasound image." in parts(messages[-1])[1]
    )
    yes = PROFILES["exemplars"].presence_messages(BUSI, case(), "benign", exemplars=shown[1:])
    assert "The last image is of a similar case; its diagnosis is no." in parts(yes[-1])[1]


def test_the_published_profiles_show_none():
    assert (PROFILES["paper"].hash, PROFILES["calibrated"].hash) == ("1a98b2be", "84dca5a7")
    assert PROFILES["paper"].exemplars == PROFILES["calibrated"].exemplars == 0


def test_images_pass_through_memory_only(tmp_path):
    images = ImageStore(tmp_path / "images")
    with images.passing([jpeg(200), jpeg(200), jpeg(100)]) as ids:
        assert ids[0] == ids[1] != ids[2] and images.get(ids[2]).size == (16, 16)
        with images.passing([jpeg(100)]) as again:
            assert again == (ids[2],)
        assert images.get(ids[2]).size == (16, 16), "another block still shows it"
        assert not (tmp_path / "images").exists()
    for id in ids:
        with pytest.raises(ImageMissing):
            images.get(id)
    with pytest.raises(ImageUnreadable), images.passing([b"no image"]):
        pass

import asyncio
import shutil

import numpy as np
import pytest
from gsco.errors import ImageMissing, SpecialistError
from gsco.images import ImageStore
from gsco.models.specialist.panel import Panel
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.tools.specialists import Specialists

TASKS = ("shade", "stripes", "marks")


@pytest.fixture
def images(tmp_path):
    return ImageStore(tmp_path / "images")


@pytest.fixture
def panels(specialist_folders):
    return {task: Panel.load(task, [specialist_folders]) for task in TASKS}


@pytest.fixture
def specialists(panels, images):
    made = Specialists(panels, images)
    yield made
    made.close()


@pytest.fixture
def passes(monkeypatch):
    """Sizes of the batches that went through any network."""
    seen = []
    run = TimmSpecialist.features

    def features(self, images, batch_size=64):
        seen.append(len(images))
        return run(self, images, batch_size)

    monkeypatch.setattr(TimmSpecialist, "features", features)
    return seen


def test_an_opinion_is_what_the_specialist_says(specialists, panels, images, pictures):
    ref = images.put(pictures.shade("dark", 1))
    opinion = asyncio.run(specialists.opinion("shade", "own", ref))
    member = panels["shade"].members["own"]
    expected = member.opinion(member.forward([pictures.shade("dark", 1)]), 0)
    assert opinion.labels == expected.labels and opinion.version == expected.version
    assert opinion.probabilities == pytest.approx(dict(expected.probabilities), abs=1e-5)


def test_an_embedding_is_normalised_and_the_specialists_own(specialists, panels, images, pictures):
    ref = images.put(pictures.shade("dark", 1))
    vector = asyncio.run(specialists.embedding("shade/own", ref))
    assert vector.shape == (panels["shade"].members["own"].card.embedding_width,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert vector == pytest.approx(
        panels["shade"].members["own"].embed([pictures.shade("dark", 1)])[0], abs=1e-5
    )


def test_one_pass_per_network_and_image_whoever_asks(specialists, images, pictures, passes):
    ref = images.put(pictures.shade("dark", 1))

    async def ask():
        await asyncio.gather(
            specialists.opinion("shade", "one", ref),
            specialists.opinion("shade", "two", ref),
            specialists.opinion("stripes", "one", ref),
            specialists.embedding("efficientnet_lite0", ref),
            specialists.opinion("shade", "two", ref),
        )
        await specialists.opinion("marks", "two", ref)

    asyncio.run(ask())
    assert passes == [1], "all of them share one trunk"


def test_concurrent_cases_are_batched(specialists, images, pictures, passes):
    refs = [images.put(pictures.shade("dark", n)) for n in range(20)]

    async def ask():
        return await asyncio.gather(*(specialists.opinion("shade", "own", ref) for ref in refs))

    together = asyncio.run(ask())
    assert sum(passes) == 20 and max(passes) == 20
    fresh = Specialists(specialists._panels, images)
    assert asyncio.run(fresh.opinion("shade", "own", refs[7])).probabilities == pytest.approx(
        dict(together[7].probabilities), abs=1e-5
    )


def test_what_is_remembered_is_bounded(panels, images, pictures, passes):
    specialists = Specialists(panels, images, remembered=2)
    refs = [images.put(pictures.shade("dark", n)) for n in range(3)]

    async def ask():
        for ref in (*refs, refs[2], refs[0]):
            await specialists.opinion("shade", "own", ref)

    asyncio.run(ask())
    assert len(passes) == 4, "the third was remembered, the first was not"


def test_probabilities_of_several_images_are_averaged(specialists, images, pictures):
    refs = [images.put(pictures.shade(label, 1)) for label in ("dark", "bright")]

    async def ask():
        return await asyncio.gather(*(specialists.opinion("shade", "own", r) for r in (*refs, refs)))

    first, second, both = asyncio.run(ask())
    for label, value in both.probabilities.items():
        assert value == pytest.approx(
            (first.probabilities[label] + second.probabilities[label]) / 2, abs=1e-6
        )
    assert both.labels == (max(both.probabilities, key=lambda label: both.probabilities[label]),)


def test_a_failure_is_that_calls_alone_and_not_remembered(specialists, images, pictures, monkeypatch):
    good, bad = images.put(pictures.shade("dark", 1)), images.put(pictures.shade("bright", 2))
    run, broken = TimmSpecialist.features, [True]

    def features(self, pixels, batch_size=64):
        if broken[0] and any(np.asarray(image).mean() > 128 for image in pixels):
            raise RuntimeError("shape mismatch")
        return run(self, pixels, batch_size)

    monkeypatch.setattr(TimmSpecialist, "features", features)

    async def ask(ref):
        return await specialists.opinion("shade", "own", ref)

    async def both():
        return await asyncio.gather(ask(good), ask(bad), return_exceptions=True)

    opinion, failure = asyncio.run(both())
    assert opinion.specialist == "own"
    assert isinstance(failure, SpecialistError) and "RuntimeError: shape mismatch" in str(failure)
    broken[0] = False
    assert asyncio.run(ask(bad)).specialist == "own"


def test_an_output_that_is_no_number_is_a_failure(specialists, images, pictures, monkeypatch):
    run = TimmSpecialist.features
    monkeypatch.setattr(
        TimmSpecialist, "features", lambda self, pixels, batch_size=64: run(self, pixels) * np.nan
    )
    ref = images.put(pictures.shade("dark", 1))
    with pytest.raises(SpecialistError, match="not finite"):
        asyncio.run(specialists.opinion("shade", "own", ref))


def test_one_impatient_asker_does_not_take_the_pass_from_the_others(specialists, images, pictures, passes):
    ref = images.put(pictures.shade("dark", 1))

    async def ask():
        impatient = asyncio.ensure_future(specialists.opinion("shade", "own", ref))
        patient = asyncio.ensure_future(specialists.opinion("shade", "own", ref))
        await asyncio.sleep(0)
        impatient.cancel()
        return await patient

    assert asyncio.run(ask()).specialist == "own"
    assert passes == [1]


def test_unknown_names_and_images_are_typed_errors(specialists, images, pictures, tmp_path):
    ref = images.put(pictures.shade("dark", 1))
    elsewhere = ImageStore(tmp_path / "elsewhere").put(pictures.shade("dark", 77))
    for task, name, image, error in (
        ("shade", "nobody", ref, SpecialistError),
        ("nothing", "own", ref, SpecialistError),
        ("shade", "own", elsewhere, ImageMissing),
    ):
        with pytest.raises(error):
            asyncio.run(specialists.opinion(task, name, image))
    with pytest.raises(SpecialistError, match="encoders: "):
        asyncio.run(specialists.embedding("unheard-of", ref))


def test_a_broken_member_is_missing_and_the_others_answer(tmp_path, specialist_folders, images, pictures):
    shutil.copytree(specialist_folders, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "shade" / "two" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    specialists = Specialists({"shade": Panel.load("shade", [tmp_path])}, images)
    assert specialists.members("shade") == ("one", "own")
    assert [missing.source for missing in specialists.missing("shade")] == ["specialist:two"]
    ref = images.put(pictures.shade("dark", 1))
    assert asyncio.run(specialists.opinion("shade", "one", ref)).specialist == "one"


def test_a_task_without_a_panel_has_neither_members_nor_retriever(specialists):
    assert specialists.members("vqa_rad") == () == specialists.missing("vqa_rad")
    assert specialists.retriever("vqa_rad") is None
    assert specialists.retriever("shade") == "shade/own"


def test_a_report_specialist_drafts_one_text_per_case(report_folder, images, pictures):
    specialists = Specialists({"report": Panel.load("report", [report_folder])}, images)
    refs = [images.put(pictures.shade(label, 1)) for label in ("dark", "bright")]

    async def ask():
        return await asyncio.gather(*(specialists.opinion("report", "writer", r) for r in (*refs, refs)))

    first, second, both = asyncio.run(ask())
    assert first.text and second.text and both.text == f"{first.text}\n{second.text}"
    assert both.labels == () and both.probabilities == {}
    assert specialists.retriever("report") is None, "it does not embed"
    specialists.close()

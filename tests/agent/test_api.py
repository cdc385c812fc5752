import asyncio
import io
import shutil
import threading

import numpy as np
import pytest
from gsco import GSCo
from gsco.case import Case, Diagnosis, Task
from gsco.errors import (
    ConfigurationError,
    GeneralistError,
    ImageMissing,
    ImageUnreadable,
    TaskMismatch,
    TaskUnknown,
)
from gsco.graphs.collaboration_fit import COLLABORATION_FILE

from ..dicom_files import dataset, written


@pytest.fixture(scope="module")
def settings(tmp_path_factory, cards, specialist_folders, bank, generalist_folder):
    return {
        "home": tmp_path_factory.mktemp("home"),
        "tasks": cards,
        "specialists": specialist_folders,
        "case_store": str(bank),
        "generalist_model": str(generalist_folder),
        "neighbours": 4,
    }


@pytest.fixture(scope="module")
def gsco(settings):
    with GSCo.from_settings(**settings) as made:
        yield made


def without_timings(diagnosis: Diagnosis) -> Diagnosis:
    return diagnosis.model_copy(update={"timings": {}})


def test_from_settings_to_a_diagnosis(gsco, pictures, tmp_path):
    path = tmp_path / "patient-name.png"
    pictures.shade("dark", 50).save(path)
    result = gsco.diagnose(path, task="shade")
    assert result.label in ("dark", "bright") and len(result.evidence.opinions) == 3
    assert result.case_id == f"img-{result.case_id[4:]}" and "patient" not in result.model_dump_json()
    assert result.generalist.startswith("tiny (in process) ") and "read" in result.timings


def test_every_form_of_an_image_is_the_same_case(gsco, pictures, tmp_path):
    image = pictures.shade("dark", 51)
    path, buffer = tmp_path / "a.png", io.BytesIO()
    image.save(path)
    image.save(buffer, "PNG")
    ref = gsco.images.put(image)
    forms = [
        path,
        str(path),
        buffer.getvalue(),
        image,
        np.asarray(image),
        ref,
        [ref],
        Case(id=ref.id, images=(ref,)),
    ]
    results = [without_timings(gsco.diagnose(form, task="shade")) for form in forms]
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("gate", ["warn", "off"])
def test_repairs_of_a_file_stand_in_the_record(gsco, pictures, gate):
    made = dataset(np.asarray(pictures.shade("dark", 50)), WindowCenter=128, WindowWidth=0)
    diagnosis = gsco.diagnose(written(made), task="shade", gate=gate)
    repair = "The window of the DICOM file cannot be read or is impossible, and was left out."
    assert diagnosis.evidence.gate.notes[-1] == repair
    assert repair in diagnosis.reasons
    assert repair not in gsco.diagnose(pictures.shade("dark", 50), task="shade", gate=gate).reasons


def test_several_images_are_one_case(gsco, pictures):
    result = gsco.diagnose([pictures.shade("dark", 52), pictures.shade("bright", 52)], task="shade")
    assert len(result.evidence.opinions) == 3


def test_policies_of_one_call(gsco, pictures):
    image = pictures.shade("dark", 53)
    result = gsco.diagnose(image, task="shade", moed="off", neighbours=2, profile="paper")
    assert result.evidence.opinions == () and len(result.evidence.similar_cases) == 2
    assert result.profile.startswith("paper@")
    assert len(gsco.diagnose(image, task="shade").evidence.opinions) == 3, "the next call is as before"
    with pytest.raises(ConfigurationError, match="profile"):
        gsco.diagnose(image, task="shade", profile="other")


def test_question_context_and_a_card_of_ones_own(gsco, pictures):
    image = pictures.shade("dark", 54)
    assert gsco.diagnose(image, question="Is it dark?").task == "vqa_rad"
    asked = gsco.diagnose_many([image, pictures.shade("bright", 54)], question="Is it dark?")
    assert [one.task for one in asked] == ["vqa_rad", "vqa_rad"]
    own = Task(name="mine", modality="grey square", options=("left", "right"))
    assert gsco.diagnose(image, task=own, context="none").label in own.options


def test_errors_reach_the_caller_with_their_type(gsco, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ImageUnreadable):
        gsco.diagnose(broken, task="shade")
    with pytest.raises(ImageMissing):
        gsco.diagnose(tmp_path / "nothing.png", task="shade")
    with pytest.raises(TaskUnknown):
        gsco.diagnose(pictures.shade("dark", 1), task="shades")
    with pytest.raises(TaskMismatch):
        gsco.diagnose(pictures.stripes("lying", 1), task="shade")
    with pytest.raises(ConfigurationError, match="at least one image"):
        gsco.diagnose([], task="shade")


def test_many_are_as_one_by_one_in_order(gsco, pictures):
    images = [pictures.shade(label, 60 + n) for n in range(6) for label in ("dark", "bright")]
    many = gsco.diagnose_many(images, task="shade")
    for image, result in zip(images, many, strict=True):
        alone = gsco.diagnose(image, task="shade")
        assert (result.case_id, result.label) == (alone.case_id, alone.label)
        assert result.probabilities == pytest.approx(dict(alone.probabilities), abs=1e-4)
        assert [case.id for case in result.evidence.similar_cases] == [
            c.id for c in alone.evidence.similar_cases
        ]


def test_many_are_batched(settings, pictures):
    from gsco.models.generalist.in_process import InProcessGeneralist

    asked = []
    with GSCo.from_settings(**settings) as gsco:
        generalist = InProcessGeneralist.load(settings["generalist_model"], gsco.images, device="cpu")
        choose = generalist.choose
        generalist.choose = lambda requests: (asked.append(len(requests)), choose(requests))[1]
        parts = {
            "tasks": gsco.tasks,
            "panels": gsco.panels,
            "images": gsco.images,
            "store": gsco.retrieval.store(),
        }
        with GSCo(generalist=generalist, **parts) as explicit:
            images = [pictures.shade("dark", 100 + n) for n in range(40)]
            assert len(explicit.diagnose_many(images, task="shade")) == 40
    assert sum(asked) == 40 and len(asked) <= 20


def test_a_fit_that_cannot_be_read_is_said_and_the_task_goes_on_without_it(
    settings, pictures, specialist_folders, tmp_path
):
    shutil.copytree(specialist_folders, tmp_path / "specialists")
    (tmp_path / "specialists" / "shade" / COLLABORATION_FILE).write_text('{"rule": "of another version"}')
    with GSCo.from_settings(**settings | {"specialists": tmp_path / "specialists"}) as made:
        result = made.diagnose(pictures.shade("dark", 50), task="shade")
        assert result.label in ("dark", "bright")
        (note,) = [note for note in result.fusion.notes if COLLABORATION_FILE in note]
        assert note.endswith("so the task counts as not fitted: run `gsco fit shade` again.")
        assert made.fits("shade") is None


def test_errors_of_many_are_returned_in_place_or_raised(gsco, pictures, capsys):
    cases = [pictures.shade("dark", 70), b"no image", pictures.stripes("lying", 70)]
    results = gsco.diagnose_many(cases, task="shade", on_error="return", progress=True)
    assert [type(result) for result in results] == [Diagnosis, ImageUnreadable, TaskMismatch]
    with pytest.raises((ImageUnreadable, TaskMismatch)):
        gsco.diagnose_many(cases, task="shade")
    assert capsys.readouterr().out == ""


def test_many_of_nothing(gsco):
    assert gsco.diagnose_many([], task="shade") == []


def test_async_and_threads_share_one_loop(gsco, pictures):
    images = [pictures.shade("dark", 80 + n) for n in range(4)]

    async def together():
        return await asyncio.gather(*(gsco.adiagnose(image, task="shade") for image in images))

    from_async = asyncio.run(together())
    from_threads: dict[int, Diagnosis] = {}
    threads = [
        threading.Thread(target=lambda n=n: from_threads.update({n: gsco.diagnose(images[n], task="shade")}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [from_threads[n].label for n in range(4)] == [result.label for result in from_async]


def test_an_async_call_that_is_cancelled_leaves_the_rest_alone(gsco, pictures):
    async def cancel():
        task = asyncio.ensure_future(gsco.adiagnose(pictures.shade("dark", 90), task="shade"))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert gsco.diagnose(pictures.shade("dark", 90), task="shade").label


def test_a_generalist_that_cannot_be_loaded_is_an_error_and_not_remembered(settings, pictures, tmp_path):
    with GSCo.from_settings(**{**settings, "generalist_model": str(tmp_path)}) as gsco:
        for _ in range(2):
            with pytest.raises(GeneralistError):
                gsco.diagnose(pictures.shade("dark", 1), task="shade", decision="generalist")


def test_a_generalist_that_breaks_is_a_typed_error(settings, pictures):
    class Broken:
        name, version, batch_size = "broken", "0", 4

        def choose(self, requests):
            raise RuntimeError("CUDA is gone")

        generate = stream = call_tools = chat_model = choose

    with GSCo.from_settings(**settings) as parts:
        given = {
            "tasks": parts.tasks,
            "panels": parts.panels,
            "images": parts.images,
            "store": parts.retrieval.store,
        }
        with GSCo(generalist=Broken(), **given) as gsco, pytest.raises(GeneralistError, match="CUDA is gone"):
            gsco.diagnose(pictures.shade("dark", 1), task="shade", decision="generalist")


def test_settings_that_name_nothing_are_configuration_errors(settings, tmp_path):
    with pytest.raises(ConfigurationError, match="GSCO_SPECIALISTS"):
        GSCo.from_settings(**{**settings, "specialists": tmp_path / "nothing"})
    with pytest.raises(ConfigurationError, match="GSCO_NEIGHBOURS"):
        GSCo.from_settings(**{**settings, "neighbours": -1})


def test_given_settings_are_kept_beside_overrides(settings):
    from gsco.settings import Settings

    with GSCo.from_settings(Settings(**settings), rad="off") as gsco:
        assert gsco._policies["rad"] == "off" and gsco._policies["neighbours"] == 4


def test_a_closed_one_says_so(settings, pictures):
    gsco = GSCo.from_settings(**settings)
    gsco.diagnose(pictures.shade("dark", 1), task="shade")
    before = threading.active_count()
    gsco.close()
    gsco.close()
    assert threading.active_count() < before
    with pytest.raises(RuntimeError, match="closed"):
        gsco.diagnose(pictures.shade("dark", 1), task="shade")

"""The whole diagnosis over a real Weaviate server, against the embedded store and without a store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from gsco import GSCo
from gsco.agent.cli import app
from gsco.case import Diagnosis
from gsco.errors import EvidenceMissing
from gsco.models.mini.samples import samples
from gsco.tools.store_copy import move_cases
from gsco.tools.stores import open_store
from gsco.tools.stores.protocol import Filter
from gsco.tools.stores.weaviate import WeaviateStore
from typer.testing import CliRunner

from ..tools.stores.conftest import remove
from ..tools.stores.servers import Server, missing, running

TASKS = ("chest_xray", "brain_mri", "busi", "lung_histology")

pytestmark = [pytest.mark.weaviate, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("diagnosing")) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bundled bank, in Weaviate."""
    address = server.address("Bundled", "&timeout=3")
    home = tmp_path_factory.mktemp("bank")
    bank, store = open_store("", home=home), open_store(address, home=home, writable=True)
    assert move_cases(bank, store, quiet=True).agreement == 1.0
    bank.close()
    store.close()
    yield address
    remove(address)


def _open(home: Path, **settings: object) -> GSCo:
    # The last bits of a probability depend on the number of threads.
    return GSCo.from_settings(home=home, torch_threads=1, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_diagnoses_are_those_of_the_embedded_store(address: str, task: str, tmp_path: Path) -> None:
    images = [sample.path for sample in samples(task)]
    patient = address.replace("timeout=3", "timeout=100")  # the machine may be busy
    with _open(tmp_path / "a") as embedded, _open(tmp_path / "b", case_store=patient) as cluster:
        ours, theirs = embedded.diagnose_many(images, task=task), cluster.diagnose_many(images, task=task)
    assert len(ours) == len(images)
    for one, other in zip(ours, theirs, strict=True):
        _assert_same(one, other)


def _assert_same(one: Diagnosis, other: Diagnosis) -> None:
    assert not one.evidence.missing
    assert not other.evidence.missing
    assert other.label == one.label
    assert other.probabilities == pytest.approx(one.probabilities, abs=1e-6)
    assert other.evidence.opinions == one.evidence.opinions
    ours, theirs = one.evidence.similar_cases, other.evidence.similar_cases
    assert [case.id for case in theirs] == [case.id for case in ours]
    assert [case.similarity for case in theirs] == pytest.approx([c.similarity for c in ours], abs=1e-5)
    gates = [diagnosis.evidence.gate for diagnosis in (one, other)]
    assert gates[1].task_probability == gates[0].task_probability
    assert gates[1].familiar == gates[0].familiar


def test_without_the_store_the_diagnosis_goes_on_and_says_so(
    server: Server, address: str, tmp_path: Path
) -> None:
    image = samples("busi")[0].path
    settings = {"case_store": address}
    with (
        _open(tmp_path / "prefer", **settings) as prefer,
        _open(tmp_path / "off", **settings, rad="off") as off,
        _open(tmp_path / "require", **settings, rad="require") as require,
    ):
        whole = prefer.diagnose(image, task="busi")
        assert len(whole.evidence.similar_cases) == 10
        server.kill()
        without = prefer.diagnose(image, task="busi")
        assert without.label is not None
        assert without.evidence.similar_cases == ()
        reasons = [m.reason for m in without.evidence.missing if m.source == "retrieval"]
        assert reasons and all("cannot be reached" in reason for reason in reasons)
        assert without.evidence.opinions == whole.evidence.opinions
        assert off.diagnose(image, task="busi").evidence.similar_cases == ()
        with pytest.raises(EvidenceMissing, match="cannot be reached"):
            require.diagnose(image, task="busi")

        # It comes back, and no program is started anew.
        server.start()
        for gsco in (prefer, require):
            _assert_same(whole, _whole(gsco, image))


def test_a_store_that_hangs_does_not_hold_the_diagnosis_up(
    server: Server, address: str, tmp_path: Path
) -> None:
    images = [sample.path for sample in samples("busi")]
    with _open(tmp_path, case_store=address) as gsco:
        whole = gsco.diagnose(images[0], task="busi")
        server.halt()
        try:
            without = gsco.diagnose_many(images, task="busi")
        finally:
            server.go_on()
        for diagnosis in without:
            assert diagnosis.label is not None
            (reason,) = {m.reason for m in diagnosis.evidence.missing if m.source == "retrieval"}
            assert "does not answer within 3 s" in reason
        _assert_same(whole, _whole(gsco, images[0]))


def test_a_store_that_goes_away_in_the_middle_of_many_cases(
    server: Server, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after some of the cases: the others are diagnosed without it, and say so."""
    images = [sample.path for sample in samples("busi")] * 30
    with _open(tmp_path, case_store=address) as gsco:
        whole = gsco.diagnose(images[0], task="busi")
        searched, search, searches = threading.Event(), WeaviateStore.search, count(1)

        def noted(*words: Any, **named: Any) -> Any:
            found = search(*words, **named)
            if next(searches) == 6:
                searched.set()
            return found

        monkeypatch.setattr(WeaviateStore, "search", noted)
        killer = threading.Thread(target=lambda: searched.wait(60) and server.kill())
        killer.start()
        diagnoses = gsco.diagnose_many(images, task="busi")
        killer.join()
        server.start()
        with_cases = [bool(one.evidence.similar_cases) for one in diagnoses]
        assert any(with_cases) and not all(with_cases), with_cases
        for one in diagnoses:
            assert one.label is not None
            reasons = [m.reason for m in one.evidence.missing if m.source == "retrieval"]
            assert bool(reasons) != bool(one.evidence.similar_cases)
            assert all("cannot be reached" in reason for reason in reasons), reasons
        assert _whole(gsco, images[0]).evidence.similar_cases == whole.evidence.similar_cases


def test_a_patient_is_forgotten(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the store, in conversations and in images, by the command."""
    home, address = tmp_path / "home", server.address("Patients", "&timeout=10")
    groups = ("patient-Zybulska", "other-1", "patient-Zybulska", "other-2")
    with (
        closing(open_store("", home=home)) as bank,
        closing(open_store(address, home=home, writable=True)) as store,
    ):
        known = [
            replace(entry, case=entry.case.model_copy(update={"group": group}))
            for entry, group in zip(bank.scan(Filter(("busi",))), groups, strict=False)
        ]
        assert store.add(known) == 4
    with _open(home, case_store=address, gate="off") as gsco:
        talk = gsco.consult("one", user="ana", group="patient-Zybulska", task="busi")
        talk.send("What is this?", [samples("busi")[0].path])
    for name, value in (("GSCO_HOME", str(home)), ("GSCO_CASE_STORE", address)):
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["forget", "--group", "patient-Zybulska", "--yes", "--citing"])
    assert done.exit_code == 0, done.output
    assert "erased: 2 cases, 1 conversations" in done.output

    def left() -> list[str]:
        with closing(open_store(address, home=home)) as store:
            [(encoder, vector), *_] = known[0].vectors.items()
            found = store.search(vector[None], encoder, 10)[0]
            held = list(store.scan())
            assert sorted(one.id for one in found) == sorted(one.case.id for one in held)
            return sorted(one.case.group for one in held)

    assert left() == ["other-1", "other-2"]
    server.kill()
    server.start()
    assert left() == ["other-1", "other-2"], "nothing comes back after a power cut"
    again = CliRunner().invoke(app, ["forget", "--group", "patient-Zybulska", "--yes"])
    assert again.exit_code == 0 and "erased: 0 cases, 0 conversations, 0 images" in again.output


def _whole(gsco: GSCo, image: Path, seconds: float = 60) -> Diagnosis:
    """The diagnosis, once the store answers again."""
    end = time.monotonic() + seconds
    while True:
        try:
            diagnosis = gsco.diagnose(image, task="busi")
            if diagnosis.evidence.similar_cases and not diagnosis.evidence.missing:
                return diagnosis
        except EvidenceMissing:
            pass
        assert time.monotonic() < end, "the store does not come back"
        time.sleep(0.2)

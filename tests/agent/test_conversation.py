"""A consultation with the bundled models, from the first question to the last follow-up."""

import asyncio
import json

import pytest
from gsco import GSCo
from gsco.graphs.events import EVENT, EvidenceArrived, Final, Text, ToolFinished, ToolStarted
from gsco.models.mini.samples import samples


@pytest.fixture(scope="module")
def gsco(tmp_path_factory):
    with GSCo.from_settings(home=tmp_path_factory.mktemp("home"), torch_threads=1) as made:
        yield made


def test_the_bundled_generalist_diagnoses_by_itself(gsco):
    sample = samples("chest_xray")[3]
    consultation = gsco.consult("first")

    async def ask():
        return [event async for event in consultation.astream("What is the diagnosis?", [sample.path])]

    events = asyncio.run(ask())
    started = next(event for event in events if isinstance(event, ToolStarted))
    assert started.name == "diagnose" and started.arguments == {"task": "chest_xray"}
    finished = next(event for event in events if isinstance(event, ToolFinished))
    assert not finished.failed and finished.diagnosis.label == sample.label
    evidence = [event for event in events if isinstance(event, EvidenceArrived)]
    assert sum(len(event.opinions) for event in evidence) == 4 and any(e.similar_cases for e in evidence)
    final = events[-1]
    assert isinstance(final, Final) and final.diagnosis.label == sample.label
    words = "".join(event.text for event in events if isinstance(event, Text))
    assert words and words == final.text, "what was streamed stands"
    for event in events:
        assert EVENT.validate_json(event.model_dump_json()) == event


def test_it_goes_on_and_is_kept(gsco):
    consultation = gsco.consult("second")
    consultation.send("What is the diagnosis?", [samples("busi")[0].path])
    told = consultation.send("What did the specialists say?").text
    for number, opinion in enumerate(
        gsco.export_thread("second").findings[0].diagnosis.evidence.opinions, start=1
    ):
        label = opinion.labels[0]
        assert f"Specialist {number} says {label} with {opinion.probabilities[label]:.0%}" in told
    said = gsco.consult("second").history()
    assert [one.text for one in said if one.role == "user"][1] == "What did the specialists say?"
    assert {"first", "second"} >= {one.thread_id for one in gsco.threads()} >= {"second"}
    record = json.loads(gsco.export_thread("second").model_dump_json())
    assert record["status"] == "ready" and record["findings"][0]["diagnosis"]["task"] == "busi"
    gsco.delete_thread("second")
    assert gsco.consult("second").history() == ()

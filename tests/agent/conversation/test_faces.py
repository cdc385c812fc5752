"""The same words in every face: in Python, over the API with all of it resent, and with a thread."""

from __future__ import annotations

import re

import httpx
import pytest
from gsco.models.mini.samples import samples
from PIL import Image

from .facts import is_plain

FIRST = "What is the diagnosis?"
QUESTIONS = (
    "How sure are you?",
    "Was sagen die Spezialisten?",
    "¿Hay alguien en desacuerdo?",
    "Montrez-moi les cas les plus proches",
    "为什么这么说？",
    "What is the capital of Italy?",
    "Thank you so much!",
)


@pytest.fixture(scope="module")
def said(bundled):
    """What Python answers."""
    consultation = bundled.consult(keep=False)
    first = consultation.send(FIRST, [samples("busi")[2].path]).text
    return {FIRST: first, **{question: consultation.send(question).text for question in QUESTIONS}}


@pytest.fixture(scope="module")
def opening(data_uri_of):
    image = {"type": "image_url", "image_url": {"url": data_uri_of(samples("busi")[2].path)}}
    return {"role": "user", "content": [{"type": "text", "text": FIRST}, image]}


@pytest.fixture(scope="module")
def data_uri_of():
    from ..server.conftest import data_uri

    return lambda path: data_uri(Image.open(path))


def chat(address, messages, **more):
    body = {"model": "gsco", "messages": messages, **more}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_with_the_whole_conversation_resent(bundled_address, said, opening):
    first = chat(bundled_address, [opening])
    assert first.startswith(said[FIRST])
    for question in QUESTIONS:
        resent = [opening, {"role": "assistant", "content": first}, {"role": "user", "content": question}]
        answer = chat(bundled_address, resent)
        assert answer.startswith(said[question]), (question, answer)
        assert is_plain(said[question]) and "No specialist was asked" not in answer


def test_with_a_thread(bundled_address, said, opening):
    chat(bundled_address, [opening], metadata={"thread": "faces"})
    for question in QUESTIONS:
        sent = [{"role": "user", "content": question}]
        assert chat(bundled_address, sent, metadata={"thread": "faces"}).startswith(said[question])


def test_streamed_pieces_are_the_same_words(bundled_address, said, opening):
    body = {"model": "gsco", "messages": [opening], "stream": True}
    with httpx.stream("POST", f"{bundled_address}/v1/chat/completions", json=body, timeout=120) as answer:
        pieces = re.findall(r'"content": "((?:[^"\\]|\\.)*)"', "".join(answer.iter_text()))
    words = "".join(piece.encode().decode("unicode_escape") for piece in pieces)
    assert words.startswith(said[FIRST])

"""What the page is told of a conversation with small real models."""

import asyncio
import json
import logging

import httpx
import pytest
from fastapi import FastAPI
from gsco.agent.auth import Users
from gsco.agent.page.page_session import PageSession
from gsco.agent.page.reports import reports
from gsco.agent.page.session import CUT_OFF, STOPPED, CaseInfo, ChatSession
from gsco.agent.page.upload_store import UploadStore
from gsco.case import ImageRef, ReviewDecision

SHADE = CaseInfo("shade", "Seen at night.")
HOSTILE = "<script>alert(1)</script>"


def room_of(gsco, **more) -> ChatSession:
    return ChatSession(gsco, UploadStore(gsco.images.folder.parent / "uploads"), **more)


@pytest.fixture
def shown_of():
    """``shown_of(stream)``: everything that a stream shows."""

    def gather(stream) -> list:
        async def run() -> list:
            return [each async for each in stream]

        return asyncio.run(run())

    return gather


@pytest.fixture
def dark(gsco, pictures) -> ImageRef:
    return gsco.images.put(pictures.shade("dark", 50))


def test_a_turn_unfolds(gsco, dark, shown_of):
    shown = shown_of(room_of(gsco).take_turn("ana", "first", f"What is it? {HOSTILE}", [dark], SHADE))
    first, last = shown[0], shown[-1]
    assert [one.role for one in first.bubbles] == ["user", "user"] and first.doing and not first.over
    assert "data:image/png" in first.bubbles[0].fragment and "<script" not in first.bubbles[1].words
    panels = [one.panel for one in shown if one.panel]
    assert "Looking at the image" in panels[0] and "downloads" not in panels[0]
    assert any("No decision yet" in one for one in panels[1:-1])
    assert last.over and not last.alert and last.diagnosis is not None
    assert "reports/first/0.pdf" in last.panel and '<table class="bars"' in last.panel
    assert "badges" in last.panel and not any("badges" in one.fragment for one in last.bubbles), "said once"


def test_a_conversation_is_its_users(gsco, dark, shown_of):
    room = room_of(gsco)
    shown_of(room.take_turn("ana", "mine", "What is it?", [dark], SHADE))
    opened = asyncio.run(room.opened("ana", "mine"))
    assert opened.over and opened.diagnosis is not None and "reports/mine/0.json" in str(opened.panel)
    assert opened.about == SHADE
    stranger = asyncio.run(room.opened("ben", "mine"))
    assert (
        stranger.bubbles == []
        and stranger.diagnosis is None
        and stranger.about == CaseInfo()
        and "Evidence appears here" in str(stranger.panel)
    )


def test_what_goes_wrong_is_told(gsco, shown_of):
    gone = ImageRef(sha256="0" * 64, width=8, height=8)
    last = shown_of(room_of(gsco).take_turn("ana", "gone", "What is it?", [gone]))[-1]
    assert last.over and (last.alert or any("No decision" in one.fragment for one in last.bubbles))


def test_a_turn_is_given_up_after_a_while(gsco, dark, shown_of):
    last = shown_of(room_of(gsco, seconds=0.001).take_turn("ana", "slow", "What is it?", [dark], SHADE))[-1]
    assert last.over and "GSCO_API_TIMEOUT" in last.alert


def test_what_nobody_foresaw_is_logged_without_its_words(gsco, shown_of, caplog):
    async def broken():
        raise RuntimeError("Prudence's image")
        yield

    with caplog.at_level(logging.ERROR):
        last = shown_of(
            room_of(gsco)._updates(gsco.consult("broken", user="ana"), broken(), asyncio.Event())
        )[-1]
    assert last.over and "internal error" in last.alert and "Prudence" not in last.alert + caplog.text
    assert "RuntimeError" in caplog.text


def test_a_person_decides(make_gsco, pictures, shown_of):
    with make_gsco(review="always") as reviewing:
        room, image = room_of(reviewing), reviewing.images.put(pictures.shade("dark", 50))
        asked = shown_of(room.take_turn("ana", "doubt", "What is it?", [image], SHADE))[-1]
        assert asked.over and asked.review is not None
        assert "A person must decide" in asked.bubbles[-1].fragment
        again = asyncio.run(room.opened("ana", "doubt"))
        assert again.review == asked.review and again.bubbles == asked.bubbles
        refused = shown_of(room.take_turn("ana", "doubt", "And now?", []))[-1]
        assert "a person must decide" in refused.alert
        wrong = ReviewDecision(action="edit", reviewer="Ana", reason="seen", labels=("no such label",))
        assert "not among the options" in shown_of(room.decided("ana", "doubt", wrong))[-1].alert
        right = ReviewDecision(
            action="edit", reviewer="Ana", reason=f"seen {HOSTILE}", labels=(asked.review.options[-1],)
        )
        decided = shown_of(room.decided("ana", "doubt", right))[-1]
        assert decided.review is None and decided.diagnosis.labels == right.labels
        assert "changed by a person" in decided.panel and "<script" not in decided.panel


def test_reports_are_taken_away_by_their_user_only(gsco, dark, shown_of):
    app = FastAPI()
    app.include_router(reports(gsco))
    users = Users.parse("ana:key-of-ana-0123456789,ben:key-of-ben-0123456789")
    shown_of(room_of(gsco).take_turn("ana", "taken", "What is it?", [dark], SHADE))

    async def run() -> None:
        transport = httpx.ASGITransport(PageSession(app, users))
        async with httpx.AsyncClient(transport=transport, base_url="http://gsco.example") as client:
            assert (await client.get("/reports/taken/0.json")).status_code == 401
            await client.post("/login", data={"key": "key-of-ana-0123456789"})
            made = {kind: await client.get(f"/reports/taken/0.{kind}") for kind in ("json", "html", "pdf")}
            assert json.loads(made["json"].content)["case_id"] == dark.id
            assert b"Content-Security-Policy" in made["html"].content and made["pdf"].content[:5] == b"%PDF-"
            for kind, answer in made.items():
                assert f'filename="{dark.id}-' in answer.headers["content-disposition"]
                assert answer.headers["content-disposition"].endswith(f'.{kind}"')
                assert answer.headers["cache-control"] == "no-store"
            for path in ("taken/1.json", "taken/-1.json", "none/0.json"):
                assert (await client.get(f"/reports/{path}")).status_code == 404
            client.cookies.clear()
            await client.post("/login", data={"key": "key-of-ben-0123456789"})
            assert (await client.get("/reports/taken/0.json")).status_code == 404

    asyncio.run(run())


def test_a_turn_that_is_stopped_ends_cleanly_and_is_gone_on_with(gsco, dark):
    room = room_of(gsco)

    async def stop_after(number: int) -> None:
        shown = room.take_turn("ana", f"stopped-{number}", "What is it?", [dark], SHADE)
        for _ in range(number):
            await anext(shown)
        await shown.aclose()

    for number in (1, 2, 3):
        asyncio.run(stop_after(number))
    again = asyncio.run(room.opened("ana", "stopped-3"))
    assert again.alert in ("", CUT_OFF) and again.review is None


def stopped_after(room, thread: str, image, number: int) -> list:
    """Everything that is shown of a turn that is stopped once so much of it was."""

    async def run() -> list:
        shown = []
        async for each in room.take_turn("ana", thread, "What is it?", [image], SHADE):
            shown.append(each)
            if len(shown) == number:
                room.stop("ana", thread)
        return shown

    return asyncio.run(run())


def test_a_turn_that_is_stopped_at_once_keeps_the_question_and_its_image(make_gsco, pictures, shown_of):
    with make_gsco() as fresh:  # nothing is loaded yet
        image, room = fresh.images.put(pictures.shade("dark", 50)), room_of(fresh)
        last = stopped_after(room, "at-once", image, 1)[-1]
        assert last.over and last.alert == STOPPED and [one.role for one in last.bubbles] == ["user", "user"]
        assert "no decision on this image" in last.panel and last.diagnosis is None
        opened = asyncio.run(room.opened("ana", "at-once"))
        assert opened.bubbles == last.bubbles and opened.alert == CUT_OFF
        again = shown_of(room.take_turn("ana", "at-once", "What is it?", [image], SHADE))[-1]
        assert again.over and not again.alert and again.diagnosis is not None
        roles = [one.role for one in again.bubbles]
        assert roles.index("assistant") == 2 and roles[-1] == "assistant" and roles.count("user") == 4


def test_a_turn_that_is_stopped_later_keeps_chat_and_panel_in_step(gsco, dark):
    room = room_of(gsco)
    for number in (2, 3, 4):
        last = stopped_after(room, f"later-{number}", dark, number)[-1]
        opened = asyncio.run(room.opened("ana", f"later-{number}"))
        assert (last.bubbles, last.panel, last.diagnosis) == (opened.bubbles, opened.panel, opened.diagnosis)
        assert last.alert in ("", STOPPED)


def test_the_panel_never_shows_another_image_than_the_chat_is_about(gsco, pictures, shown_of):
    room = room_of(gsco)
    first, second = (gsco.images.put(pictures.shade("dark", number)) for number in (50, 51))
    shown_of(room.take_turn("ana", "two", "What is it?", [first], SHADE))
    begun = shown_of(room.take_turn("ana", "two", "And this?", [second], SHADE))
    assert "Looking at the image" in begun[0].panel and begun[-1].diagnosis.case_id == second.id
    assert [one.split(":")[0] for one in begun[-1].cases] == ["1", "2"] and begun[-1].number == 1
    chosen = asyncio.run(room.case("ana", "two", 0))
    assert chosen.diagnosis.case_id == first.id and "reports/two/0.json" in (chosen.panel or "")
    stopped_after(room, "two", gsco.images.put(pictures.shade("dark", 52)), 1)
    opened = asyncio.run(room.opened("ana", "two"))
    assert opened.diagnosis is None and opened.number is None and len(opened.cases) == 2


def test_what_cannot_begin_is_told_too(gsco, dark, shown_of):
    room = room_of(gsco)
    (shown,) = shown_of(room.take_turn("ana", "task", "What is it?", [dark], CaseInfo("nonsense")))
    assert shown.over and "no task named 'nonsense'" in shown.alert
    (shown,) = shown_of(room.decided("ana", "no/name", None))
    assert shown.over and "a thread's name" in shown.alert
    assert "a thread's name" in asyncio.run(room.opened("ana", "no/name")).alert


@pytest.mark.attack
def test_one_user_has_a_share_of_turns(gsco, dark):
    async def run() -> tuple:
        room = room_of(gsco, user_turns=1)
        first = room.take_turn("ana", "shared", "What is it?", [dark], SHADE)
        await anext(first)
        refused = [each async for each in room.take_turn("ana", "second", "What is it?", [dark], SHADE)]
        others = room.take_turn("ben", "shared", "What is it?", [dark], SHADE)
        other = await anext(others)
        await first.aclose()
        await others.aclose()
        again = room.take_turn("ana", "second", "What is it?", [dark], SHADE)
        freed = await anext(again)
        await again.aclose()
        return refused, other, freed

    refused, other, freed = asyncio.run(run())
    assert len(refused) == 1 and refused[0].over and "1 of your requests" in refused[0].alert
    assert not other.alert and not freed.alert

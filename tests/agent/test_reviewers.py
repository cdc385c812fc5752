"""Who may decide on a diagnosis, by the API and on the page's side."""

import httpx
import pytest
from gsco.agent.auth import Reviewers, Users
from gsco.agent.server.policy import ServerPolicy
from gsco.case import ReviewDecision
from gsco.errors import ConfigurationError, ReviewRefused
from gsco.settings import Settings

from .server.conftest import asked, gsco, make_gsco, served

__all__ = ["gsco", "make_gsco"]
KEYS = ",".join(f"{name}:key-of-{name}-0123456789" for name in ("anna", "ben", "carla"))
USERS = Users.parse(KEYS)
APPROVE = {"action": "approve"}


def test_reviewers_are_users_with_keys():
    given = {"api_keys": KEYS, "reviewers": "ben, carla"}
    assert Reviewers.from_settings(Settings(**given), USERS).names == {"ben", "carla"}
    with pytest.raises(ConfigurationError, match="dora has no key"):
        Reviewers.from_settings(Settings(**{**given, "reviewers": "ben,dora"}), USERS)
    with pytest.raises(ConfigurationError, match="GSCO_API_KEYS"):
        Reviewers.from_settings(Settings(reviewers="ben"), Users())


@pytest.mark.attack
def test_a_signature_is_the_users():
    assert Reviewers(USERS).signature("anna", "") == Reviewers(USERS).signature("anna", "anna") == "anna"
    with pytest.raises(ReviewRefused, match="leave the name out"):
        Reviewers(USERS).signature("anna", "Dr. B")
    assert Reviewers().signature("local", " Dr. B ") == "Dr. B"


@pytest.mark.attack
@pytest.mark.parametrize(
    "reviewer", ["<b>x</b>", "a\nb", "a\u2028b", "a\u202eb", "[x](y)", "`x`", "\x1b[31m"]
)
def test_a_name_holds_no_markup_or_control_characters(reviewer):
    with pytest.raises(ValueError, match="a name holds no"):
        ReviewDecision(action="approve", reviewer=reviewer)
    assert ReviewDecision(action="approve", reviewer="Dr. Zoë O'Neil-Müller (CT)")


@pytest.mark.attack
def test_somebody_else_decides_where_reviewers_are_named(make_gsco, pictures):
    policy = ServerPolicy(users=USERS, reviewing=frozenset({"ben", "carla"}))
    with make_gsco(review="always") as gsco, served(gsco, policy) as address:

        def send(name: str, method: str, path: str, **more) -> httpx.Response:
            headers = {"authorization": f"Bearer key-of-{name}-0123456789"}
            return httpx.request(method, f"{address}/v1{path}", headers=headers, timeout=120, **more)

        for name in ("anna", "ben"):
            body = {
                "model": "gsco",
                "messages": [asked("?", pictures.shade("dark", 911))],
                "metadata": {"task": "shade", "thread": "case"},
            }
            assert send(name, "POST", "/chat/completions", json=body).json()["gsco"]["review"]

        for name, where in (
            ("anna", "/threads/case"),
            ("ben", "/threads/case"),
            ("anna", "/reviews/ben/case"),
        ):
            answer = send(name, "POST", f"{where}/decision", json=APPROVE)
            assert answer.status_code == 403 and answer.json()["error"]["code"] == "review_refused", (
                name,
                where,
            )
        assert send("anna", "GET", "/reviews").json() == []
        assert send("anna", "GET", "/reviews/ben/case").status_code == 403

        waiting = [(one["user"], one["thread_id"]) for one in send("ben", "GET", "/reviews").json()]
        assert waiting == [("anna", "case")]
        assert send("ben", "GET", "/reviews/anna/case").json()["findings"]
        forged = send("ben", "POST", "/reviews/anna/case/decision", json={**APPROVE, "reviewer": "carla"})
        assert forged.status_code == 403
        turn = send("ben", "POST", "/reviews/anna/case/decision", json=APPROVE)
        assert turn.json()["diagnosis"]["review"]["decision"]["reviewer"] == "ben"
        assert send("ben", "GET", "/reviews/anna/case").status_code == 404, "what is decided is anna's again"
        assert send("ben", "GET", "/reviews/anna/none").status_code == 404
        assert [one["user"] for one in send("carla", "GET", "/reviews").json()] == ["ben"]
        record = send("anna", "GET", "/threads/case").json()
        assert record["findings"][0]["diagnosis"]["review"]["decision"]["reviewer"] == "ben"

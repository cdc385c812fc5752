import logging
import time

import httpx
import pytest
from gsco.agent.server.policy import ServerPolicy
from gsco.settings import Settings
from prometheus_client.parser import text_string_to_metric_families

from .conftest import KEYS, asked, data_uri, served


def numbers(address: str) -> dict[str, float]:
    """All samples, by name and labels."""
    text = httpx.get(f"{address}/metrics").text
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def waited(address: str, status: str) -> httpx.Response:
    """Ask until it is no longer loading."""
    while True:
        answer = httpx.get(f"{address}/readyz", timeout=60)
        if answer.json()["status"] == status:
            return answer
        assert answer.json()["status"] == "loading"
        time.sleep(0.1)


def test_it_lives_at_once_and_is_ready_when_all_is_loaded(make_gsco):
    with make_gsco() as gsco, served(gsco) as address:
        assert httpx.get(f"{address}/healthz").json()["status"] == "alive"
        answer = waited(address, "ready")
        assert answer.json() == {"status": "ready", "reason": ""}


def test_what_keeps_it_from_being_ready_is_said(make_gsco, tmp_path):
    with make_gsco(generalist_model=str(tmp_path / "none")) as gsco, served(gsco) as address:
        answer = waited(address, "failed")
        assert answer.status_code == 503 and "none" in answer.json()["reason"]


def test_metrics_count_requests_diagnoses_and_tools(make_gsco, pictures):
    with make_gsco() as gsco, served(gsco) as address:
        image = pictures.shade("dark", 90)
        body = {"model": "gsco", "messages": [asked("?", image)], "metadata": {"task": "shade"}}
        httpx.post(f"{address}/v1/chat/completions", json=body, timeout=240)
        httpx.post(f"{address}/v1/diagnose", json={"image": data_uri(image), "task": "shade"}, timeout=240)
        httpx.get(f"{address}/patients/John-Doe")
        httpx.request("BREW", f"{address}/healthz")
        found = numbers(address)
    chat = "gsco_requests_total[('method', 'POST'), ('route', '/v1/chat/completions'), ('status', '200')]"
    assert found[chat] == 1
    assert sum(value for name, value in found.items() if name.startswith("gsco_diagnoses_total")) == 2
    assert found["gsco_requests_total[('method', 'GET'), ('route', 'other'), ('status', '404')]"] == 1
    assert found["gsco_request_seconds_count[('route', '/v1/diagnose')]"] == 1
    assert not any("John" in name or "BREW" in name for name in found)
    assert any(name.startswith("process_resident_memory_bytes") for name in found)


def test_logs_tell_nothing_of_anybody(make_gsco, pictures, caplog, monkeypatch):
    secret = "Mrs-Doe-born-1950"
    caplog.set_level(logging.DEBUG)
    with make_gsco() as gsco, served(gsco) as address:
        image, where = pictures.shade("dark", 91), f"{address}/v1/chat/completions"
        told = {
            "model": "gsco",
            "messages": [asked(secret, image)],
            "metadata": {"thread": secret, "task": "shade"},
        }
        assert httpx.post(where, json=told, timeout=240).status_code == 200
        assert httpx.get(f"{address}/v1/threads/{secret}").status_code == 200
        assert httpx.get(f"{address}/{secret}?name={secret}").status_code == 404
        assert httpx.post(f"{address}/v1/diagnose", json={"image": secret}).status_code == 400

        async def broken(*_, **__):
            raise RuntimeError(f"cannot read {secret}")

        monkeypatch.setattr(gsco, "adiagnose", broken)
        failed = httpx.post(f"{address}/v1/diagnose", json={"image": data_uri(image), "task": "shade"})
    assert failed.status_code == 500 and secret not in failed.text
    assert failed.json()["error"]["code"] == "internal_error"
    request = failed.headers["x-request-id"]
    assert request in failed.json()["error"]["message"]
    ours = [record for record in caplog.records if record.name.startswith(("gsco", "uvicorn"))]
    text = "\n".join(record.getMessage() for record in ours)
    assert secret not in text and "/v1/threads/{thread} 200" in text
    assert f"request {request} failed: RuntimeError" in text and "test_operation.py" in text, (
        "operators can find it"
    )


def test_the_schema_is_served_and_says_that_keys_are_asked(gsco):
    from gsco.agent.auth import Users
    from gsco.agent.server.app import create_app

    bare, locked = (
        create_app(gsco, policy).openapi() for policy in (None, ServerPolicy(users=Users.parse(KEYS)))
    )
    assert "security" not in bare and locked["security"] == [{"key": []}]
    assert set(bare["paths"]) >= {
        "/v1/chat/completions",
        "/v1/diagnose",
        "/v1/models",
        "/v1/threads",
        "/metrics",
    }
    assert all("422" not in way["responses"] for path in bare["paths"].values() for way in path.values())


def test_the_policy_comes_from_the_settings():
    settings = Settings(api_keys=KEYS, api_max_bytes=5, api_timeout=7, api_concurrency=3)  # pyright: ignore
    policy = ServerPolicy.from_settings(settings)
    assert (policy.max_bytes, policy.seconds, policy.at_once) == (5, 7, 3)
    assert policy.users.owner("key-of-anna-0123456789") == "anna"
    assert "key-of-anna" not in repr(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_the_command_serves_others_with_keys_only(host, monkeypatch, tmp_path):
    from gsco.agent.cli import app
    from typer.testing import CliRunner

    monkeypatch.setenv("GSCO_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["serve", "api", "--host", host])
    assert result.exit_code == 2 and "set GSCO_API_KEYS" in result.stderr

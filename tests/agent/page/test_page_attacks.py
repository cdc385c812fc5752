"""Attacks on the running page: files of the server, others' uploads, other pages in the same browser."""

import asyncio
import json
import re
import shutil
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image
from starlette.routing import Mount

from .conftest import served_page

pytestmark = [pytest.mark.attack, pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")]
CT = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
CANARY = b"canary-4711-of-the-server"
KEYS = "anna:key-of-anna-0123456789,ben:key-of-ben-0123456789"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def address(gsco, home):
    with served_page(gsco, home, upload_user_bytes=200_000, upload_total_bytes=300_000) as address:
        yield address


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address, timeout=60) as client:
        client.get("/").raise_for_status()  # brings the cookie
        yield client


@pytest.fixture
def secret(tmp_path) -> Path:
    """A patient's image on the server that was never uploaded."""
    path = tmp_path / "secret.dcm"
    shutil.copy(CT, path)
    with path.open("ab") as file:
        file.write(CANARY)
    return path


def png(seed: int = 0, size: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def upload(client: httpx.Client, *contents: bytes, name: str = "a.png", **more) -> httpx.Response:
    return client.post("/gradio_api/upload", files=[("files", (name, one)) for one in contents], **more)


def reference(path: object) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "x.dcm", "url": f"file={path}"}


def events(client: httpx.Client) -> list[dict]:
    return client.get("/config").json()["dependencies"]


def event_with(client: httpx.Client, kind: str, inputs: int) -> dict:
    """The page's event that begins with the box and has so many inputs."""
    config = client.get("/config").json()
    box = next(one["id"] for one in config["components"] if one["type"] == kind)
    return next(
        one for one in config["dependencies"] if one["inputs"][:1] == [box] and len(one["inputs"]) == inputs
    )


def join(client: httpx.Client, event: dict, data: list, session: str = "") -> httpx.Response:
    body = {
        "fn_index": event["id"],
        "session_hash": session or uuid4().hex,
        "data": data,
        "trigger_id": None,
        "event_data": None,
    }
    return client.post("/gradio_api/queue/join", json=body)


def outcome(client: httpx.Client, event: dict, data: list, session: str) -> str:
    """All messages of an event until it is over, as text."""
    join(client, event, data, session).raise_for_status()
    told = []
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            told.append(line)
            if "process_completed" in line:
                break
    return "\n".join(told)


def copies(folder: Path, content: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and content in path.read_bytes()]


def preview_of(client: httpx.Client, path: str, session: str) -> str:
    event = event_with(client, "multimodaltextbox", 3)
    return outcome(client, event, [{"text": "", "files": [reference(path)]}, None, None], session)


def test_an_upload_of_ones_own_is_previewed(client):
    (id,) = upload(client, CT.read_bytes(), name="IM0001").json()
    assert "data:image/png;base64" in preview_of(client, id, "own")


def test_no_field_of_any_event_names_a_file_of_the_server(client, home, secret):
    found = events(client)
    assert len(found) > 10
    for event in found:
        for place in range(max(1, len(event["inputs"]))):
            for value in (
                reference(str(secret)),
                {"text": "", "files": [reference(str(secret))]},
                [{"deep": [reference(str(secret))]}],
                {"path": str(secret)},
            ):
                data: list[object] = [None] * len(event["inputs"])
                data[place : place + 1] = [value]
                answer = join(client, event, data)
                assert answer.status_code == 400 and CANARY.decode() not in answer.text
    assert copies(home, CANARY) == []


@pytest.mark.parametrize(
    "path",
    [
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/environ",
        "../conversations.sqlite",
        "file:///etc/passwd",
        "http://127.0.0.1:1/x.png",
        "upload-" + "0" * 31 + "/",
        "",
        None,
        7,
        ["upload-" + "0" * 32],
    ],
)
def test_a_reference_that_is_no_id_is_refused_at_once(client, path):
    event = event_with(client, "multimodaltextbox", 3)
    answer = join(client, event, [{"text": "", "files": [reference(path)]}, None, None])
    assert answer.status_code == 400 and "drop the image in again" in answer.text
    assert client.get("/config").status_code == 200, "others are served"


def test_an_id_that_was_not_issued_shows_nothing(client):
    assert "data:image/png" not in preview_of(client, "upload-" + "0" * 32, "none")


def test_an_upload_is_of_no_use_to_another_visitor(client, address):
    (id,) = upload(client, CT.read_bytes()).json()
    with httpx.Client(base_url=address, timeout=60) as other:
        other.get("/")
        assert "data:image/png" not in preview_of(other, id, "other")
        assert other.get(f"/gradio_api/file={id}").status_code == 404
    (picture,) = upload(client, png()).json()
    assert client.get(f"/gradio_api/file={picture}").content == png()
    with httpx.Client(base_url=address) as other:
        assert other.get(f"/gradio_api/file={picture}").status_code == 404


def test_without_the_guard_gradio_still_copies_nothing(gsco, tmp_path, secret):
    """The second barrier alone: the guard is taken away, and a reference reaches Gradio."""
    from gsco.agent.page import page_guard

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_guard, "with_upload_ids", lambda event: event)
        with (
            served_page(gsco, tmp_path / "home") as address,
            httpx.Client(base_url=address, timeout=60) as client,
        ):
            client.get("/")
            told = preview_of(client, str(secret), "bare")
    assert '"success":false' in told.replace(" ", "") and "data:image/png" not in told
    assert copies(tmp_path / "home", CANARY) == []


def test_the_page_answers_only_where_it_is_used(gsco, tmp_path, client):
    import gradio as gr
    from fastapi import FastAPI

    async def made() -> FastAPI:  # Gradio leaves a loop of its own behind where none runs
        with gr.Blocks() as blocks:
            gr.Textbox()
        return gr.mount_gradio_app(FastAPI(), blocks, path="/")

    mounted = asyncio.run(made())
    gradio = next(one.app for one in mounted.routes if isinstance(one, Mount))
    known = {
        "/",
        "/config",
        "/config/",
        "/theme.css",
        "/favicon.ico",
        "/robots.txt",
        "/assets/x",
        "/static/x",
        "/svelte/x",
        *(
            f"/gradio_api/{name}"
            for name in (
                "info",
                "info/",
                "app_id",
                "app_id/",
                "startup-events",
                "theme.css",
                "upload_progress",
                "heartbeat/x",
                "queue/data",
                "queue/join",
                "cancel",
                "reset",
                "upload",
            )
        ),
    }
    tried = 0
    for route in flat(gradio.routes):  # type: ignore[attr-defined]
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        for method in getattr(route, "methods", None) or ["GET"]:
            if path in known:
                continue
            tried += 1
            answer = client.request(method, path)
            assert answer.status_code in (404, 405), (method, path, answer.status_code)
    assert tried > 40
    for path in (
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file%3D/etc/passwd",
        "/assets/..%2f..%2fapp.py",
        "/static/../../routes.py",
        "/gradio_api/proxy=http://127.0.0.1:1/",
    ):
        assert client.get(path).status_code == 404, path


def flat(routes) -> list:
    found = []
    for route in routes:
        included = getattr(route, "original_router", None)
        found += flat(included.routes) if included else [route]
    return [one for one in found if hasattr(one, "path")]


def test_what_another_visitor_is_answered_cannot_be_listened_to(client, address):
    event = event_with(client, "multimodaltextbox", 3)
    join(client, event, [{"text": "", "files": []}, None, None], "mine").raise_for_status()
    with httpx.Client(base_url=address) as other:
        other.get("/")
        assert other.get("/gradio_api/queue/data", params={"session_hash": "mine"}).status_code == 403
        assert other.get("/gradio_api/queue/data?session_hash=free&session_hash=mine").status_code == 400
        assert other.get("/gradio_api/heartbeat/mine").status_code == 403
        body = {"session_hash": "mine", "fn_index": 0, "event_id": "x"}
        assert other.post("/gradio_api/cancel", json=body).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_another_page_in_the_same_browser_is_refused(client, headers):
    assert upload(client, png(), headers=headers).status_code == 403
    assert client.get("/config", headers=headers).status_code == 403
    assert not any(
        name.startswith("access-control") for name in client.get("/config", headers=headers).headers
    )
    event = events(client)[0]
    body = {"fn_index": event["id"], "session_hash": "x", "data": []}
    assert client.post("/gradio_api/queue/join", json=body, headers=headers).status_code == 403


def test_the_page_itself_and_links_to_it_are_served(client, address):
    assert upload(client, png(), headers={"origin": address}).status_code == 200
    follow = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=follow).status_code == 200
    answer = client.get("/config", headers={"origin": address})
    assert answer.status_code == 200 and not any(n.startswith("access-control") for n in answer.headers)


def test_uploads_are_limited_for_each_user_and_for_all(gsco, tmp_path):
    part = b"x" * 90_000
    with served_page(gsco, tmp_path, upload_user_bytes=200_000, upload_total_bytes=300_000) as address:
        people = [httpx.Client(base_url=address, timeout=60) for _ in range(2)]
        for one in people:
            one.get("/")
        assert [upload(people[0], part).status_code for _ in range(3)] == [200, 200, 413]
        refused = upload(people[0], part)
        assert "GSCO_UPLOAD_USER_BYTES" in refused.text
        assert upload(people[1], part).status_code == 200
        refused = upload(people[1], part)
        assert refused.status_code == 503 and "GSCO_UPLOAD_TOTAL_BYTES" in refused.text
        kept = [path for path in (tmp_path / "uploads").iterdir()]
        assert len(kept) == 3 and sum(path.stat().st_size for path in kept) == 270_000
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept)
        for one in people:
            one.close()


def test_an_upload_of_many_files_or_none_is_refused_and_nothing_is_kept(gsco, tmp_path):
    with served_page(gsco, tmp_path) as address, httpx.Client(base_url=address, timeout=60) as client:
        client.get("/")
        assert upload(client, *[b"x"] * 9).status_code == 400
        assert client.post("/gradio_api/upload", content=b"x").status_code == 400
        form = {"content-type": "multipart/form-data; boundary=b"}
        cut = b'--b\r\ncontent-disposition: form-data; name="files"; filename="x"\r\n\r\nhalf'
        assert client.post("/gradio_api/upload", content=cut, headers=form).status_code == 400
        assert client.post("/gradio_api/upload", content=b"nonsense", headers=form).status_code == 400
        assert list((tmp_path / "uploads").iterdir()) == []


def test_the_name_of_an_uploaded_file_is_not_kept(client, home):
    name = "Meier_Hans_1957.dcm"
    (id,) = upload(client, CT.read_bytes(), name=name).json()
    assert "Meier" not in id
    assert "Meier" not in preview_of(client, id, "named")
    assert copies(home, b"Meier") == [] and not [path for path in home.rglob("*") if "Meier" in path.name]


def test_a_long_or_deep_event_is_refused(client):
    for body, status in ((b"[" * 100_000, 400), (b"x" * 2_000_000, 413), (b"[]", 400), (b"\xff", 400)):
        answer = client.post(
            "/gradio_api/queue/join", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == status
    deep = json.loads("[" * 400 + "]" * 400)
    assert join(client, events(client)[0], deep).status_code in (200, 400)
    assert client.get("/config").status_code == 200


def test_with_keys_too_another_page_cannot_act_with_the_cookie(gsco, tmp_path):
    with served_page(gsco, tmp_path, api_keys=KEYS) as address, httpx.Client(base_url=address) as client:
        client.post("/login", data={"key": "key-of-anna-0123456789"})
        assert client.get("/config").status_code == 200
        assert upload(client, png(), headers={"origin": "http://evil.example"}).status_code == 403
        proxied = {"origin": "https://gsco.example", "x-forwarded-host": "gsco.example"}
        assert upload(client, png(), headers=proxied).status_code == 200

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from gsco.agent.cli import app
from gsco.agent.doctor import Check, examine, healthy
from gsco.agent.serving_verification import verify_serving
from gsco.settings import Settings
from typer.testing import CliRunner


@pytest.fixture
def small(
    tmp_path: Path, cards: Path, specialist_folders: Path, generalist_folder: Path, bank: Path
) -> dict[str, object]:
    """Settings of the small installation."""
    return {
        "home": tmp_path / "home",
        "tasks": cards,
        "specialists": specialist_folders,
        "generalist_model": str(generalist_folder),
        "case_store": str(bank),
    }


def found(**settings: object) -> dict[str, Check]:
    """Findings by subject."""
    return {check.subject: check for check in examine(Settings.model_validate(settings))}


def test_the_default_can_run(tmp_path: Path):
    checks = list(examine(Settings(home=tmp_path), load=True))
    assert [check for check in checks if check.state == "wrong"] == []
    subjects = {check.subject for check in checks}
    assert {"torch", "home", "DICOM", "bundled parts", "backbone", "known cases", "generalist"} <= subjects
    assert {"torch device", "panel busi"} <= subjects
    answer = [check.found for check in checks if check.subject == "generalist"]
    assert "as released" in answer[0] and "answers 'normal' to a bundled image" in answer[1]
    assert {
        f"specialists {task}" for task in ("chest_xray", "brain_mri", "busi", "lung_histology")
    } <= subjects


def test_what_is_wrong_or_missing_comes_with_advice(tmp_path: Path):
    assert all(
        check.advice
        for check in examine(Settings(home=tmp_path))
        if check.subject in ("vLLM",) and check.state != "ok"
    )
    assert not healthy([Check("bank", "wrong", "gone")])
    assert healthy([Check("vLLM", "note", "not here"), Check("torch", "ok", "2")])


def test_own_parts_are_looked_at(small):
    checks = found(**small)
    assert checks["specialists shade"].found == "one, own, two"
    assert "shade 30" in checks["known cases"].found
    # Its weights are random: it answers, and believes in none of the options.
    assert checks["generalist"].state == "wrong" and "gives no opinion" in checks["generalist"].found
    assert "stripes" in checks["tasks"].found


def test_a_broken_specialist_is_named(small, specialist_folders: Path, tmp_path: Path):
    broken = tmp_path / "specialists"
    shutil.copytree(specialist_folders, broken)
    (broken / "shade" / "two" / "weights.safetensors").write_bytes(b"nothing")
    checks = [check for check in examine(Settings.model_validate({**small, "specialists": broken}))]
    wrong = [check for check in checks if check.state == "wrong" and check.subject == "specialists shade"]
    assert len(wrong) == 1
    assert "two" in wrong[0].found
    assert "gsco train specialist" in wrong[0].advice
    assert str(broken / "shade" / "two") in wrong[0].advice
    assert "reinstall" not in wrong[0].advice


def test_a_specialist_whose_labels_do_not_fit_is_named(small, specialist_folders: Path, tmp_path: Path):
    broken = tmp_path / "specialists"
    shutil.copytree(specialist_folders, broken)
    card = broken / "shade" / "two" / "card.json"
    card.write_text(card.read_text(encoding="utf-8").replace('"bright"', '"brilliant"'), encoding="utf-8")
    checks = [check for check in examine(Settings.model_validate({**small, "specialists": broken}))]
    (wrong,) = [check for check in checks if check.state == "wrong" and check.subject == "specialists shade"]
    assert "specialist:two" in wrong.found and "brilliant" in wrong.found
    assert "reinstall" not in wrong.advice
    (right,) = [check for check in checks if check.state == "ok" and check.subject == "specialists shade"]
    assert right.found == "one, own"


def test_a_wrong_task_card_is_named_and_the_other_tasks_stay(small, cards: Path, tmp_path: Path):
    own = tmp_path / "cards"
    shutil.copytree(cards, own)
    (own / "lens.toml").write_text('name = "lens"\nmodality = 7', encoding="utf-8")
    checks = found(**{**small, "tasks": own})
    assert checks["task lens"].state == "wrong"
    assert "lens.toml" in checks["task lens"].found and "modality" in checks["task lens"].found
    assert "correct the card" in checks["task lens"].advice
    assert "shade" in checks["tasks"].found
    assert checks["specialists shade"].state == "ok"


def test_a_home_that_cannot_be_written(small, tmp_path: Path):
    (tmp_path / "file").write_text("")
    check = found(**{**small, "home": tmp_path / "file" / "home"})["home"]
    assert check.state == "wrong"
    assert "GSCO_HOME" in check.advice


def test_a_missing_store(small, tmp_path: Path):
    check = found(**{**small, "case_store": str(tmp_path / "none")})["known cases"]
    assert check.state == "wrong"
    assert "gsco store build" in check.found


def test_a_server_that_does_not_answer(small):
    check = found(**{**small, "generalist_url": "http://127.0.0.1:9/v1", "generalist_model": "meddr"})[
        "generalist"
    ]
    assert check.state == "wrong"
    assert "127.0.0.1:9" in check.found


def test_a_folder_that_is_not_there(small, tmp_path: Path):
    check = found(**{**small, "specialists": tmp_path / "none"})["specialists"]
    assert check.state == "wrong"
    assert "GSCO_SPECIALISTS" in check.found


def test_the_command_says_it_all_and_its_status_tells(monkeypatch: pytest.MonkeyPatch, small, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    for name, value in small.items():
        monkeypatch.setenv(f"GSCO_{name.upper()}", str(value))
    listed = CliRunner().invoke(app, ["doctor", "--json"])
    states = {entry["subject"]: entry["state"] for entry in json.loads(listed.stdout)}
    assert states["specialists shade"] == "ok"
    assert listed.exit_code == int("wrong" in states.values())
    monkeypatch.setenv("GSCO_CASE_STORE", str(tmp_path / "none"))
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 1
    assert "✗ known cases" in shown.stdout


def test_it_looks_before_it_loads(tmp_path: Path):
    """Neither torch nor transformers is imported, and what it looks at is told before it looks."""
    code = (
        "import sys; from pathlib import Path; from gsco.agent.doctor import examine;"
        "from gsco.settings import Settings; told = []; home = Path(sys.argv[1]);"
        "checks = list(examine(Settings(home=home), looking=told.append));"
        "print([c.found for c in checks if c.state == 'wrong'], [n for n in ('torch', 'timm', 'transformers')"
        " if n in sys.modules], len(told) > 8)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[] [] True"


def test_a_served_generalist_is_asked_in_the_way_that_is_set(tmp_path: Path):
    """Letters are refused for a model that was not taught them: diagnoses would differ without a word."""
    with lettered_server() as url:
        settings = {"home": tmp_path, "generalist_url": url, "generalist_model": "mini"}
        assert found(**settings)["generalist"].found.endswith("answers 'normal' to a bundled image")
        check = found(**settings, generalist_mode="letters")["generalist"]
        (served,) = [c for c in verify_serving(Settings(**settings, generalist_mode="letters"), url)]
    assert check.state == served.state == "wrong"
    assert "was not trained to answer by letters" in check.found and "trained to" in served.found


@contextmanager
def lettered_server() -> Iterator[str]:
    """A server of the bundled model's name that answers everything with the first option."""

    class Talk(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply({"object": "list", "data": [{"id": "mini", "object": "model", "owned_by": "me"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "normal"},
            }
            self.reply(
                {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            )

        def reply(self, body: object) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Talk)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

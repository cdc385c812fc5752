"""``compose.yaml`` and ``Dockerfile`` name only what exists; nothing is started."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gsco.agent.cli import app
from gsco.agent.server.auth_middleware import OPEN
from gsco.models.serving import PROFILES
from gsco.settings import Settings
from gsco.tools.stores.weaviate import parse_address
from typer.testing import CliRunner

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
SERVERS = ("generalist", "weaviate", "api")

Service = dict[str, Any]


def services(text: str = TEXT) -> dict[str, Service]:
    """The services as compose reads them where no variable is set."""
    plain = re.sub(r"\$\{\w+(?::-([^}]*))?\}", lambda found: found[1] or "", text)
    return yaml.safe_load(plain)["services"]


def after(service: Service, option: str) -> str:
    command = service["command"]
    return command[command.index(option) + 1]


def breaches(folder: Path, text: str) -> str:
    """What the compose specification says against a file; empty if nothing."""
    path = folder / "compose.yaml"
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_it_follows_the_specification(tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema")
    assert breaches(tmp_path, TEXT) == ""
    wrong = TEXT.replace("healthcheck:", "healthchecks:", 1)
    assert "healthchecks" in breaches(tmp_path, wrong)


@pytest.mark.parametrize("name", ["generalist", "bank", "api"])
def test_its_commands_exist(name: str) -> None:
    words = services()[name]["command"]
    told = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    assert f"{words[0]} {words[1]} " in told.output.splitlines()[0]
    for option in (word for word in words if word.startswith("--")):
        assert option in told.output


def test_its_settings_exist() -> None:
    known = {f"GSCO_{name.upper()}" for name in Settings.model_fields}
    named = {variable for one in services().values() for variable in one["environment"]}
    ours = {variable for variable in named if variable.startswith("GSCO_")}
    assert {"GSCO_CASE_STORE", "GSCO_GENERALIST_URL"} <= ours <= known
    assert set(re.findall(r"\$\{(GSCO_\w+)", TEXT)) <= known


def test_what_asks_and_what_answers_agree() -> None:
    found = services()
    (store,) = parse_address(found["api"]["environment"]["GSCO_CASE_STORE"]).hosts
    assert store.name == "weaviate"
    assert str(store.port) == after(found["weaviate"], "--port")
    assert any(port.endswith(f":{store.grpc_port}") for port in found["weaviate"]["ports"])
    assert found["bank"]["environment"]["GSCO_CASE_STORE"] == found["api"]["environment"]["GSCO_CASE_STORE"]

    server = urlsplit(found["api"]["environment"]["GSCO_GENERALIST_URL"])
    assert (server.hostname, str(server.port)) == ("generalist", after(found["generalist"], "--port"))
    model = found["api"]["environment"]["GSCO_GENERALIST_MODEL"]
    assert model == after(found["generalist"], "--model")
    assert model in PROFILES


def test_all_is_for_this_machine_only_and_watched() -> None:
    found = services()
    for name in SERVERS:
        for port in found[name]["ports"]:
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
        asked = urlsplit(found[name]["healthcheck"]["test"][-1])
        assert str(asked.port) == after(found[name], "--port")
        assert any(port.endswith(f":{asked.port}") for port in found[name]["ports"])
    assert urlsplit(found["api"]["healthcheck"]["test"][-1]).path in OPEN
    for one in found.values():
        for other, wait in one.get("depends_on", {}).items():
            assert other in found
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in found[other]


def test_its_images_can_be_made() -> None:
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", recipe, re.MULTILINE))
    for one in services().values():
        if isinstance(one.get("build"), dict):
            assert one["build"]["target"] in stages
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (asked,) = re.findall(r'"\.\[([\w,-]+)\]"', recipe)
    assert set(asked.split(",")) <= set(extras["optional-dependencies"])
    assert (ROOT / "constraints.txt").is_file()

"""What the Python face takes: no unknown name, any chat model, one image or several."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from gsco import GSCo
from gsco.agent.configuration import RENAMED, RenamedVariable, settings_from
from gsco.case import Diagnosis
from gsco.errors import ConfigurationError, UnknownArgument
from gsco.settings import Settings
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from PIL import Image


class Brightness(BaseChatModel):
    """Looks at the latest image, and says whether it is dark or bright."""

    limit: float = 128

    @property
    def _llm_type(self) -> str:
        return "brightness"

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        assert not kwargs, "a model that has no such parameter is not given it"
        blocks = [block for message in messages for block in message.content if isinstance(block, dict)]
        encoded = [block["base64"] for block in blocks if block["type"] == "image"][-1]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("L"))
        said = "It is bright." if pixels.mean() > self.limit else "It is dark."
        return ChatResult(generations=[ChatGeneration(message=AIMessage(said))])


class Started(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tags: list[tuple[str, ...]] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, *, tags: Any = None, **kwargs: Any) -> None:
        self.tags.append(tuple(tags or ()))


@pytest.fixture(scope="module")
def parts(tmp_path_factory, cards, specialist_folders, bank) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    return {"home": home, "tasks": cards, "specialists": specialist_folders, "case_store": str(bank)}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"neighbors": 3}, "no setting 'neighbors'; did you mean 'neighbours'"),
        ({"generalist_uri": "http://x"}, "did you mean 'generalist_url'"),
        ({"zzz": 1}, "no setting 'zzz'$"),
    ],
)
def test_an_unknown_setting_is_an_error(given, says):
    for error in (ConfigurationError, TypeError):
        with pytest.raises(error, match=says):
            GSCo.from_settings(**given)
    with pytest.raises(UnknownArgument, match=says):
        GSCo.from_settings(Settings(), **given)


def test_a_misspelt_variable_is_an_error(monkeypatch):
    monkeypatch.setenv("GSCO_TEST_DATASETS", "/data")
    monkeypatch.setenv("GSCO_NEIGHBORS", "3")
    with pytest.raises(UnknownArgument, match="'GSCO_NEIGHBORS'; did you mean 'GSCO_NEIGHBOURS'"):
        GSCo.from_settings()


def test_every_variable_that_is_named_is_a_setting():
    """In code, messages, recipes and documents: each name in full, so that a misspelt one is found."""
    root = Path(__file__).parents[2]
    settings = {f"GSCO_{name.upper()}" for name in Settings.model_fields}
    known = {*settings, *RENAMED, "GSCO_COLLECTIONS", "GSCO_TEST_DATASETS", "GSCO_TEST_LANGGRAPH"}
    folders = ("_support", "agent", "benchmarks", "docs", "evals", "examples", "graphs", "images", "models")
    folders += ("tasks", "tools", ".ci")
    files = [path for path in root.iterdir() if path.is_file() and path.name != "CHANGELOG.md"]
    files += [path for folder in folders for path in (root / folder).rglob("*") if path.is_file()]
    read = [path for path in files if path.suffix in (".py", ".md", ".toml", ".yaml", "")]
    named: dict[str, str] = {}
    for path in read:
        for name in re.findall(r"\bGSCO_[A-Z0-9_]*[A-Z0-9]\b", path.read_text("utf-8", errors="ignore")):
            named.setdefault(name, str(path.relative_to(root)))
    assert {name: path for name, path in named.items() if name not in known} == {}
    assert settings <= set(named), "each stands in docs/settings.md at least"


def test_an_unknown_argument_is_an_error(parts, pictures):
    with GSCo.from_settings(**parts, generalist=Brightness()) as gsco:
        image = pictures.shade("dark", 1)
        with pytest.raises(UnknownArgument, match="no argument 'neighbors'; did you mean 'neighbours'"):
            cast("Any", gsco).diagnose(image, task="shade", neighbors=3)
        with pytest.raises(UnknownArgument, match="did you mean 'group'"):
            cast("Any", gsco).diagnose_many([image], task="shade", grop="a")


@pytest.mark.parametrize("wrong", ["gpt-5", 7, object()])
def test_a_generalist_that_is_none(parts, wrong):
    with pytest.raises(ConfigurationError, match="generalist_url"):
        GSCo.from_settings(**parts, generalist=wrong)


def test_any_chat_model_is_a_generalist(parts, pictures):
    started = Started()
    models = {
        "own": Brightness(callbacks=[started], tags=["ward"]),
        "configured": Brightness().with_config(callbacks=[started], tags=["ward"]),
    }
    for name, model in models.items():
        with GSCo.from_settings(**parts, generalist=model) as gsco:
            for shade in ("dark", "bright"):
                image = pictures.shade(shade, 60)
                found = gsco.diagnose(image, task="shade", decision="generalist", moed="off", rad="off")
                assert (found.label, found.generalist) == (shade, "Brightness Brightness"), name
        assert started.tags and all("ward" in tags for tags in started.tags), name
        started.tags.clear()


def test_a_chat_model_discusses_a_case(parts, pictures, tmp_path):
    path = tmp_path / "a.png"
    pictures.shade("bright", 61).save(path)
    started = Started()
    model = Brightness(callbacks=[started], tags=["ward"])
    with GSCo.from_settings(**parts, generalist=model, conversations=str(tmp_path / "c.sqlite")) as gsco:
        turn = gsco.consult("a", task="shade").send("What is this?", path)
        assert turn.text.startswith("It is bright.") and turn.diagnosis.task == "shade"
        several = gsco.consult("b", task="shade").send("And these?", [str(path), path.read_bytes()])
        assert several.diagnosis is not None
    assert all("ward" in tags for tags in started.tags) and len(started.tags) >= 2


def test_records_of_the_command_line_name_their_file(parts, pictures, tmp_path, monkeypatch):
    from gsco.agent.cli import app
    from typer.testing import CliRunner

    for name, value in parts.items():
        monkeypatch.setenv(f"GSCO_{name.upper()}", str(value))
    paths = [tmp_path / f"{name}.png" for name in ("a", "b")]
    for path in paths:
        pictures.shade("dark", len(path.stem)).save(path)
    result = CliRunner().invoke(app, ["diagnose", *map(str, paths), "--task", "shade", "--json", "--no-moed"])
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Diagnosis.model_validate(record).image for record in records] == list(map(str, paths))


def test_a_diagnosis_shows_itself_in_a_notebook(parts, pictures):
    with GSCo.from_settings(**parts, generalist=Brightness()) as gsco:
        found = gsco.diagnose(pictures.shade("dark", 62), task="shade")
    told = found.model_copy(update={"label": "<script>", "reasons": ("a & b",)})._repr_html_()
    assert "&lt;script&gt;" in told and "a &amp; b" in told and "<script" not in told
    for opinion in found.evidence.opinions:
        assert opinion.specialist in told
    assert found.image is None and "Not a medical device" in told


def test_an_old_variable_still_works_and_names_the_new_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GSCO_TORCH_THREADS", raising=False)
    monkeypatch.setenv("GSCO_THREADS", "3")
    with pytest.warns(RenamedVariable, match="GSCO_THREADS is now called GSCO_TORCH_THREADS"):
        assert settings_from().torch_threads == 3
    monkeypatch.setenv("GSCO_TORCH_THREADS", "5")
    with pytest.warns(RenamedVariable):
        assert settings_from().torch_threads == 5
    monkeypatch.delenv("GSCO_THREADS")
    monkeypatch.delenv("GSCO_TORCH_THREADS")
    (tmp_path / ".env").write_text("GSCO_THREADS=2\n")
    with pytest.warns(RenamedVariable):
        assert settings_from().torch_threads == 2
    with pytest.warns(RenamedVariable):
        assert settings_from(torch_threads=1).torch_threads == 1

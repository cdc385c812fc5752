"""What README.md and CONTRIBUTING.md show runs as it is shown."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import gsco
import pytest
import typer
from gsco.agent.cli import app
from typer.core import TyperGroup
from typer.testing import CliRunner

ROOT = Path(gsco.__file__).parent


def blocks(document: str, language: str, section: str = "") -> list[str]:
    """The code blocks of a language, below a heading or everywhere."""
    text = (ROOT / document).read_text(encoding="utf-8")
    if section:
        text = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run_console(text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the lines of a console block that are exports and gsco commands."""
    output = ""
    for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            for assignment in words[1:]:
                monkeypatch.setenv(*assignment.split("=", 1))
        elif words[0] == "gsco":
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
            output += result.stdout
    return output


@pytest.fixture
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, generalist_folder: Path, pictures) -> Path:
    """A folder with a data set ``skin`` and the card that CONTRIBUTING.md shows."""
    for name in [name for name in os.environ if name.startswith("GSCO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GSCO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GSCO_GENERALIST_MODEL", str(generalist_folder))
    monkeypatch.chdir(tmp_path)
    for label, shade in (("melanoma", "dark"), ("nevus", "bright")):
        (tmp_path / "skin" / label).mkdir(parents=True)
        for number in range(12):
            pictures.shade(shade, number).save(tmp_path / "skin" / label / f"{number}.png")
    (tmp_path / "my" / "tasks").mkdir(parents=True)
    (tmp_path / "my" / "tasks" / "skin.toml").write_text(blocks("CONTRIBUTING.md", "toml", "Add a task")[0])
    return tmp_path


def test_adding_a_task(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    [commands] = blocks("CONTRIBUTING.md", "console", "Add a task")
    assert "dermatoscopy" in run_console(commands, monkeypatch)


def test_adding_specialists_and_known_cases(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GSCO_TASKS", "my/tasks")
    train, retrieve = blocks("CONTRIBUTING.md", "console", "Add a specialist")
    assert "skin/probe is in" in run_console(train.replace("gsco doctor", "gsco tasks"), monkeypatch)
    shown = run_console(retrieve, monkeypatch)
    assert "cases added" in shown
    assert "now searches with" in shown
    assert "test_resnet" in shown and "Similar known cases" in shown


@pytest.mark.parametrize("section", ["Add a task", "Add a specialist", "Add a case store"])
def test_sections_on_adding_things_are_short(section: str):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    body = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    assert len([line for line in body.splitlines() if line.strip()]) < 30


def test_the_readme_is_short_and_says_why_a_block_is_not_run():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for before in re.findall(r"^(.*)\n```(?:python|console)$", text, re.MULTILINE):
        assert re.fullmatch(r"<!-- (not run: .+|example: run by tests/agent/test_documents\.py) -->", before)


def shell_lines() -> list[tuple[str, str]]:
    """Every line of README, CONTRIBUTING and docs that calls gsco, with its document."""
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        (document.relative_to(ROOT).as_posix(), line.replace("\\\n", " "))
        for document in documents
        for block in re.findall(
            r"^```(?:console|bash|sh)\n(.*?)^```$", document.read_text("utf-8"), re.DOTALL | re.MULTILINE
        )
        for line in re.findall(r"^\$ ((?:[A-Z_]+=\S+ )*gsco(?: (?:[^\\\n]|\\\n)*)?)$", block, re.MULTILINE)
    ]


def test_every_gsco_line_names_commands_and_options_that_exist():
    """Whether or not its data set or server is at hand to run it."""
    lines = shell_lines()
    assert len(lines) > 30
    wrong = []
    for document, line in lines:
        words = [word for word in shlex.split(line, comments=True) if "=" not in word or word[0] == "-"]
        command: Any = typer.main.get_command(app)
        context = typer.Context(command)
        rest = words[1:]
        while rest and isinstance(command, TyperGroup) and (below := command.get_command(context, rest[0])):
            command, rest = below, rest[1:]
        options = {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0] for word in rest if word.startswith("--") and word != "--"}
        if isinstance(command, TyperGroup) and rest[:1] and not rest[0].startswith("-"):
            wrong.append(f"{document}: {line}: no command {rest[0]}")
        wrong += [f"{document}: {line}: no option {name}" for name in used - options - {"--help"}]
    assert not wrong, "\n".join(wrong)


def run_example(document: str, section: str, folder: Path) -> str:
    """Run the Python example below a heading as it is shown; what it prints."""
    [example] = blocks(document, "python", section)
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    run = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_the_example_runs_as_shown(tmp_path: Path):
    shown = run_example("README.md", "From Python", tmp_path)
    assert "the truth is pneumonia" in shown
    assert shown.count("reliability") >= 3
    assert shown.count("similarity") == 3


def test_the_discussion_runs_as_shown(tmp_path: Path):
    shown = run_example("docs/conversation.md", "", tmp_path)
    assert "calls diagnose {'task': 'busi'}" in shown
    assert "decided: malignant" in shown
    assert len(re.findall(r"  a case of .*, similarity \d", shown)) == 2
    assert re.search(r"malignant\D* \d+%", shown), "how sure it is, in its words or those of the record"


def test_the_generated_pages_are_those_of_the_code():
    """``make docs`` writes them; every setting, every command and every public name stands in them."""
    # In a process of its own: click keeps the help option of a command as it was first asked for.
    program = (
        "import json, runpy, sys; pages = runpy.run_path(sys.argv[1])['pages'](); "
        "print(json.dumps({path.name: text for path, text in pages.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / ".ci" / "reference.py")],
        capture_output=True,
        text=True,
        check=True,
    )
    pages = json.loads(done.stdout)
    assert set(pages) == {"commands.md", "reference.md", "settings.md"}
    for name, text in pages.items():
        written = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert written == text, f"{name} is out of date: run make docs"


def test_every_page_is_in_the_navigation():
    def listed(entries) -> list[str]:
        below = [entry if isinstance(entry, str) else next(iter(entry.values())) for entry in entries]
        return [page for one in below for page in ([one] if isinstance(one, str) else listed(one))]

    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed(config["nav"])) == sorted(pages)


def test_files_that_the_documents_name_are_there():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        named = r"`((?:agent|evals|examples|graphs|images|tasks|models|tools|tests|\.ci)/[\w./]+)`"
        for target in re.findall(named, text):
            assert (ROOT / target).exists() or "my_" in target, f"{page.name}: {target}"

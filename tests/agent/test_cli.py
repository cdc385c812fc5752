"""The command line, on the small installation of ``conftest``, and on what is bundled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import typer
from gsco.agent import commands
from gsco.agent.cli import app
from gsco.agent.commands.train import command_of
from gsco.case import DISCLAIMER, Diagnosis, Task
from gsco.models.generalist.conversations import read_collections
from gsco.models.mini.samples import samples
from PIL import Image
from pydantic import TypeAdapter
from typer.core import TyperGroup
from typer.testing import CliRunner, Result

Gsco = Callable[..., Result]


def commands_of(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Name a command and all those below it."""
    yield " ".join(words)
    if isinstance(command, TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from commands_of(command.get_command(context, name), (*words, name))


COMMANDS = tuple(commands_of(typer.main.get_command(app)))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by all tests, so that the bundled bank is unpacked once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def gsco(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> Gsco:
    """Run the command in an empty folder, with no settings but its home."""
    for name in [name for name in os.environ if name.startswith("GSCO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GSCO_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def small(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    gsco: Gsco,
    cards: Path,
    specialist_folders: Path,
    generalist_folder: Path,
    bank: Path,
) -> Gsco:
    """The same on the small installation, without what is bundled."""
    monkeypatch.setattr("gsco.models.mini.bundled", lambda part: tmp_path / "bundle" / part)
    monkeypatch.setenv("GSCO_TASKS", str(cards))
    monkeypatch.setenv("GSCO_SPECIALISTS", str(specialist_folders))
    monkeypatch.setenv("GSCO_GENERALIST_MODEL", str(generalist_folder))
    monkeypatch.setenv("GSCO_CASE_STORE", str(bank))
    return gsco


@pytest.fixture
def dark(tmp_path: Path, pictures) -> Path:
    path = tmp_path / "dark.png"
    pictures.shade("dark", 900).save(path)
    return path


@pytest.fixture
def bright(tmp_path: Path, pictures) -> Path:
    path = tmp_path / "bright.png"
    pictures.shade("bright", 901).save(path)
    return path


def fails_in_one_line(result: Result, status: int, *words: str) -> None:
    """The command said what is wrong on one line of stderr, and nothing on stdout."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stderr.startswith("gsco: ")
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(gsco: Gsco, command: str):
    result = gsco(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"gsco {command}".strip().removeprefix("gsco ") in result.stdout or command == ""
    assert "--help" in result.stdout
    assert result.stdout.count("\n") > 3


def test_every_module_of_commands_is_a_command():
    modules = {module.name for module in iter_modules(commands.__path__)}
    assert modules - set(COMMANDS) == {"labelled_images", "store_maintenance"}, "these two hold shared parts"


def test_version(gsco: Gsco):
    import gsco as package

    assert gsco("--version").stdout == f"gsco {package.__version__}\n"


def test_an_unknown_command_is_named(gsco: Gsco):
    result = gsco("diagnoze")
    assert result.exit_code == 2
    assert "diagnoze" in result.stderr


def test_tasks_lists_built_in_and_own_tasks(small: Gsco):
    result = small("tasks")
    assert result.exit_code == 0
    for name in ("chest_xray", "vqa_rad", "shade", "grey square", "dark, bright"):
        assert name in result.stdout


def test_tasks_as_json(small: Gsco):
    listed = TypeAdapter(list[Task]).validate_json(small("tasks", "--json").stdout)
    assert {"busi", "marks"} <= {task.name for task in listed}


def test_a_broken_task_card_is_named(gsco: Gsco, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "mine.toml").write_text("name = ", encoding="utf-8")
    monkeypatch.setenv("GSCO_TASKS", str(tmp_path))
    result = gsco("tasks")
    assert result.exit_code == 0 and "chest_xray" in result.stdout, "a wrong card stops only its own task"
    assert "mine.toml" in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_diagnose_shows_all_the_evidence(small: Gsco, dark: Path):
    result = small("diagnose", dark, "--task", "shade")
    assert result.exit_code == 0, result.stderr
    for words in (
        "dark.png",
        "Diagnosis",
        "Probabilities",
        "Specialists",
        "Similar known cases",
        "Confidence",
    ):
        assert words in result.stdout
    for name in (
        "one",
        "two",
        "own",
        "test_resnet",
        "test_efficientnet",
        "log-odds",
        "against",
    ):
        assert name in result.stdout
    assert re.search(r"\d+% on validation", result.stdout)
    assert DISCLAIMER in result.stdout


def test_diagnose_as_json_prints_the_record(small: Gsco, dark: Path):
    result = small("diagnose", dark, "--task", "shade", "--json")
    assert result.exit_code == 0, result.stderr
    diagnosis = Diagnosis.model_validate_json(result.stdout)
    assert diagnosis.label in ("dark", "bright")
    assert diagnosis.probabilities is not None
    assert sum(diagnosis.probabilities.values()) == pytest.approx(1)
    assert diagnosis.confidence == pytest.approx(diagnosis.probabilities[diagnosis.label])
    assert len(diagnosis.evidence.opinions) == 3
    assert len(diagnosis.evidence.similar_cases) == 10
    assert {"label", "probabilities", "confidence", "abstained", "evidence"} <= json.loads(
        result.stdout
    ).keys()


def test_several_images_as_json_lines_in_order(small: Gsco, dark: Path, bright: Path):
    result = small("diagnose", dark, bright, dark, "--task", "shade", "--json")
    first, second, third = map(Diagnosis.model_validate_json, result.stdout.splitlines())
    assert first.case_id == third.case_id != second.case_id


def test_one_bad_image_does_not_lose_the_others(small: Gsco, dark: Path, bright: Path, tmp_path: Path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    result = small("diagnose", dark, broken, bright, "--task", "shade", "--json")
    assert result.exit_code == 2
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("label") is not None for line in lines] == [True, False, True]
    assert lines[1]["error"] == "ImageUnreadable"
    assert lines[1]["image"] == str(broken)
    assert lines[1]["message"] in result.stderr
    assert result.stderr.startswith(f"gsco: {broken}: ")


def test_an_image_of_another_kind_is_refused_and_the_others_stay(
    small: Gsco, dark: Path, tmp_path: Path, pictures
):
    other = tmp_path / "striped.png"
    pictures.stripes("lying", 5).save(other)
    result = small("diagnose", dark, other, "--task", "shade")
    assert result.exit_code == 2
    assert "dark.png" in result.stdout
    assert "striped.png" in result.stderr


def test_switches_leave_evidence_out(small: Gsco, dark: Path):
    without = small("diagnose", dark, "-t", "shade", "--no-moed", "--no-rad", "--json")
    evidence = Diagnosis.model_validate_json(without.stdout).evidence
    assert (evidence.opinions, evidence.similar_cases) == ((), ())
    fewer = small("diagnose", dark, "-t", "shade", "-k", "3", "--profile", "paper", "--json")
    diagnosis = Diagnosis.model_validate_json(fewer.stdout)
    assert len(diagnosis.evidence.similar_cases) == 3
    assert diagnosis.profile.startswith("paper@")


def test_without_a_task_the_image_chooses_it(small: Gsco, tmp_path: Path, pictures):
    image = tmp_path / "striped.png"
    pictures.stripes("lying", 77).save(image)
    result = small("diagnose", image, "--json")
    assert result.exit_code == 0, result.stderr
    diagnosis = Diagnosis.model_validate_json(result.stdout)
    assert diagnosis.task == "stripes"
    assert diagnosis.evidence.gate.task_chosen


def test_a_missing_image(small: Gsco, tmp_path: Path):
    fails_in_one_line(
        small("diagnose", tmp_path / "nowhere.png", "-t", "shade"), 2, "nowhere.png", "does not exist"
    )


def test_an_unknown_task_is_said_once(small: Gsco, dark: Path, bright: Path):
    fails_in_one_line(small("diagnose", dark, bright, "--task", "shad"), 2, "shade")


def test_a_wrong_setting_is_named_without_its_value(small: Gsco, dark: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GSCO_NEIGHBOURS", "plenty")
    result = small("diagnose", dark, "-t", "shade")
    fails_in_one_line(result, 2, "GSCO_NEIGHBOURS")
    assert "plenty" not in result.stderr


def test_a_wrong_profile(small: Gsco, dark: Path):
    fails_in_one_line(
        small("diagnose", dark, "-t", "shade", "--profile", "poetic"), 2, "GSCO_PROFILE", "paper"
    )


def test_a_missing_generalist_is_no_bad_input(small: Gsco, dark: Path, tmp_path: Path):
    result = small(
        "diagnose",
        dark,
        "-t",
        "shade",
        "--generalist-model",
        tmp_path / "nothing",
        "--decision",
        "generalist",
    )
    assert result.exit_code == 1
    assert "nothing" in result.stderr


def test_a_missing_generalist_is_missing_evidence_where_others_decide(
    small: Gsco, dark: Path, tmp_path: Path
):
    result = small("diagnose", dark, "-t", "shade", "--generalist-model", tmp_path / "nothing")
    assert result.exit_code == 0, result.stderr
    assert "missing generalist" in result.stdout


def test_demo_on_what_is_bundled(gsco: Gsco, monkeypatch: pytest.MonkeyPatch, specialist_folders: Path):
    monkeypatch.setenv("GSCO_SPECIALISTS", str(specialist_folders))
    monkeypatch.setenv("GSCO_GENERALIST_MODEL", "nowhere")
    result = gsco("demo", "--task", "busi")
    assert result.exit_code == 0, result.stderr
    for sample in samples("busi"):
        assert sample.file in result.stdout
    for words in ("of 9 as labelled", "Specialists", "Similar known cases", DISCLAIMER, "no benchmark"):
        assert words in result.stdout


def test_demo_of_an_unknown_task(gsco: Gsco):
    fails_in_one_line(gsco("demo", "--task", "heart"), 2, "heart", "busi")


def test_a_real_process_keeps_stdout_and_stderr_clean(home: Path, tmp_path: Path):
    """Libraries have nothing to say to whoever pipes the output."""
    sample = samples("brain_mri")[0]
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "gsco.agent.cli",
            "diagnose",
            str(sample.path),
            "--task",
            "brain_mri",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GSCO_HOME": str(home)},
        stdin=subprocess.DEVNULL,
    )
    assert run.stderr == ""
    assert run.returncode == 0
    assert Diagnosis.model_validate_json(run.stdout).label in (
        "glioma",
        "meningioma",
        "no tumor",
        "pituitary tumor",
    )


def test_the_bundled_panel_is_complete(gsco: Gsco):
    for sample in (samples(task)[0] for task in ("chest_xray", "lung_histology")):
        diagnosis = Diagnosis.model_validate_json(gsco("diagnose", sample.path, "--json").stdout)
        assert diagnosis.task == sample.task
        assert len(diagnosis.evidence.opinions) >= 3
        assert len(diagnosis.evidence.similar_cases) == 10
        assert diagnosis.evidence.missing == ()


def test_train_needs_data(gsco: Gsco):
    fails_in_one_line(gsco("train", "specialist", "--task", "shade"), 2, "--dataset")


def test_train_names_wrong_options(gsco: Gsco, tmp_path: Path):
    result = gsco(
        "train", "specialist", "-d", tmp_path, "-t", "shade", "--arch", "test_resnet", "--epochs", "0"
    )
    fails_in_one_line(result, 2, "epochs")


def test_a_data_set_becomes_conversations(small: Gsco, tmp_path: Path):
    for label in ("dark", "bright"):
        (tmp_path / "squares" / label).mkdir(parents=True)
        for number in range(10):
            level = number + (0 if label == "dark" else 200)
            Image.new("L", (8, 8), level).save(tmp_path / "squares" / label / f"{number}.png")
    result = small(
        "train", "conversations", tmp_path / "squares", "-t", "shade", "-o", tmp_path / "talks.jsonl"
    )
    assert result.exit_code == 0, result.output
    (collection,) = read_collections(tmp_path / "talks.json")
    talks = collection.conversations()
    assert {talk.turns[-1].text for talk in talks} == {"dark", "bright"}
    assert all((collection.root / str(talk.image)).is_file() for talk in talks)
    fails_in_one_line(
        small("train", "conversations", tmp_path / "squares", "-t", "none", "-o", tmp_path / "x.jsonl"),
        2,
        "none",
    )


def test_train_without_a_data_set(gsco: Gsco, tmp_path: Path):
    fails_in_one_line(gsco("train", "specialist", "-d", tmp_path / "x", "-t", "shade"), 2, "no data set")


def test_the_command_on_the_card_names_no_place_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GSCO_DATASETS", "/mnt/sets")
    given = [
        "train",
        "specialist",
        str(tmp_path / "r.toml"),
        "-d",
        "/mnt/sets/my busi",
        "--out",
        "/home/me/own",
    ]
    assert command_of(given) == "gsco train specialist r.toml -d $GSCO_DATASETS/'my busi' --out own"
    pairs = ["eval", "leaks", "busi=/mnt/sets/busi", "own=/home/me/own", "a=b"]
    assert command_of(pairs) == "gsco eval leaks busi=$GSCO_DATASETS/busi own=own a=b"


def test_train_generalist_without_a_file(gsco: Gsco):
    fails_in_one_line(gsco("train", "generalist", "mini.toml"), 2, "mini.toml")


def test_index_show(small: Gsco):
    result = small("store", "show")
    assert "68 cases" in result.stdout
    assert "task shade: 30 cases" in result.stdout
    assert "shade/own" in result.stdout


def test_index_show_without_a_store(gsco: Gsco, tmp_path: Path):
    fails_in_one_line(gsco("store", "show", "--store", tmp_path / "none"), 1, "gsco store build")


def test_index_build_of_a_task_without_specialists(small: Gsco, tmp_path: Path):
    fails_in_one_line(small("store", "build", tmp_path, "--task", "ham10000"), 1, "gsco train specialist")


def test_index_build_names_its_choices(small: Gsco, tmp_path: Path):
    wrong_name = small("store", "build", tmp_path, "--task", "shade", "--specialists", "three")
    fails_in_one_line(wrong_name, 2, "three", "one, own, two")
    wrong_split = small("store", "build", tmp_path, "--task", "shade", "--split", "tests")
    fails_in_one_line(wrong_split, 2, "tests", "train, val, test")


def test_index_export_and_import_again(small: Gsco, tmp_path: Path):
    result = small("store", "export", tmp_path / "out" / "bank.npz", "--encoder", "shade/own")
    assert result.exit_code == 0, result.stderr
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["cases"] == 68
    assert list(card["encoders"]) == ["shade/own"]
    imported = small("store", "import", tmp_path / "out" / "bank.npz", "--store", tmp_path / "cases")
    assert "68 cases added, 68 in all" in imported.stdout
    again = small("store", "import", tmp_path / "out" / "bank.npz", "--store", tmp_path / "cases")
    assert "0 cases added, 68 in all" in again.stdout


def test_index_import_needs_a_store(gsco: Gsco):
    fails_in_one_line(gsco("store", "import"), 2, "--store")


def test_serve_prints_the_command_for_another_machine(gsco: Gsco):
    result = gsco(
        "serve", "generalist", "--model", "qwen3-vl", "--port", "9000", "--dry-run", "--max-num-seqs", "8"
    )
    assert result.exit_code == 0, result.output
    assert "--model Qwen/Qwen3-VL-8B-Instruct --served-model-name qwen3-vl" in result.stdout
    assert result.stdout.strip().endswith("--max-num-seqs 8")


def test_serve_lists_its_profiles(gsco: Gsco):
    shown = gsco("serve", "generalist", "--list").stdout
    assert all(
        name in shown for name in ("mini", "meddr", "medgemma", "lingshu-32b", "qwen3-vl", "internvl3.5")
    )


def test_serve_names_what_it_cannot_find(gsco: Gsco, tmp_path: Path):
    fails_in_one_line(gsco("serve", "generalist", "--model", "nothing", "--dry-run"), 2, "meddr")
    fails_in_one_line(gsco("serve", "generalist", "--python", tmp_path / "python"), 2, "make vllm-cpu")


@pytest.fixture
def discussed(small: Gsco, dark: Path) -> str:
    """A conversation that is kept; the small generalist calls no tool by itself."""
    from gsco import GSCo

    with GSCo.from_settings(tool_calls="none") as kept:
        consultation = kept.consult("a-case")
        consultation.send("What is\tthe shade? \x1b[31m", [dark])
        consultation.send("Are you sure?")
    return "a-case"


def test_threads_are_listed_read_exported_and_deleted(small: Gsco, discussed: str, tmp_path: Path):
    (listed,) = [line for line in small("conversations", "list").stdout.splitlines() if discussed in line]
    assert "ready" in listed and "What is the shade?" in listed and "\x1b" not in listed
    (summary,) = json.loads(small("conversations", "list", "--json").stdout)
    assert (summary["thread_id"], summary["turns"]) == (discussed, 2)

    shown = small("conversations", "show", discussed).stdout
    assert "Are you sure?" in shown and "\x1b" not in shown and DISCLAIMER in shown
    printed = small("conversations", "export", discussed)
    assert (
        printed.exit_code == 0 and json.loads(printed.stdout)["findings"][0]["diagnosis"]["task"] == "shade"
    )
    written = tmp_path / "record.json"
    assert small("conversations", "export", discussed, "--out", written).exit_code == 0
    assert json.loads(written.read_text()) == json.loads(printed.stdout)
    fails_in_one_line(small("conversations", "export", discussed, "--out", written), 2, "name another file")

    assert small("conversations", "delete", discussed).exit_code == 1, "nobody confirmed it"
    assert small("conversations", "delete", discussed, "--yes").exit_code == 0
    assert json.loads(small("conversations", "list", "--json").stdout) == []
    fails_in_one_line(small("conversations", "show", discussed), 1, "no conversation", discussed)


def test_threads_of_others_are_not_seen(small: Gsco, discussed: str):
    assert json.loads(small("conversations", "list", "--json", "--user", "ana").stdout) == []
    fails_in_one_line(small("conversations", "show", discussed, "--user", "ana"), 1, "no conversation")
    fails_in_one_line(small("conversations", "list", "--user", "a/b"), 1, "letters, digits")


def test_conversations_of_the_page_are_listed_for_the_owner_of_the_machine(small: Gsco, dark: Path):
    from gsco import GSCo
    from gsco.agent.conversation_store import BROWSER

    with GSCo.from_settings(tool_calls="none") as kept:
        kept.consult("on-the-page", user=f"{BROWSER}0123456789abcdef").send("What is the shade?", [dark])
        kept.consult("by-key", user="ana").send("And this?", [dark])
    found = {one["thread_id"]: one for one in json.loads(small("conversations", "list", "--json").stdout)}
    summary = found["on-the-page"]
    assert "by-key" not in found and summary["image"].startswith("img-")
    assert re.fullmatch(r"(dark|bright)\?? \d+%", summary["decision"])
    assert "0123456789abcdef" not in small("conversations", "list").stdout, "a browser's name lets one in"
    assert "What is the shade?" in small("conversations", "show", "on-the-page").stdout
    fails_in_one_line(small("conversations", "show", "by-key"), 1, "no conversation")
    assert small("conversations", "delete", "on-the-page", "--yes").exit_code == 0
    fails_in_one_line(small("conversations", "show", "on-the-page"), 1, "no conversation")


@pytest.mark.parametrize(("old", "new"), [("index", "store"), ("threads", "conversations")])
def test_the_old_name_of_a_command_still_works(gsco, old, new):
    known, renamed = gsco(new, "--help"), gsco(old, "--help")
    assert renamed.exit_code == known.exit_code == 0
    assert f"gsco {old} is now called gsco {new}" in renamed.stderr and known.stderr == ""
    assert renamed.stdout.replace(f" {old} [", f" {new} [") == known.stdout
    assert f"\n  {old} " not in gsco("--help").stdout


def test_commands_stand_in_order_of_use(gsco):
    listed = re.findall(r"^  ([a-z]+) ", gsco("--help").stdout.partition("Commands:")[2], flags=re.MULTILINE)
    order = ["demo", "doctor", "diagnose", "train", "store", "eval", "serve", "conversations", "forget"]
    assert [name for name in listed if name in order] == order


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(shell):
    script, words = [str(Path(sys.executable).with_name("gsco"))], "gsco sto"
    environment = {
        **os.environ,
        "_GSCO_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "COMP_WORDS": words,
        "COMP_CWORD": "1",
    }
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert "store" in done.stdout, done.stderr


@pytest.mark.parametrize("group", ["", "train", "store", "serve", "conversations", "eval", "pack"])
def test_no_line_of_a_list_of_commands_is_cut(gsco, monkeypatch, group):
    monkeypatch.setenv("COLUMNS", "80")
    listed = gsco(*group.split(), "--help").stdout.partition("Commands:")[2]
    assert listed and "..." not in listed

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import gsco
import pytest
from gsco.models.mini import bundled, manifest

ROOT = Path(gsco.__file__).parent
HEAVY = {"torch", "timm", "transformers", "langgraph", "langchain_core", "sklearn", "scipy", "numpy"}


def loaded_after(statement: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter holds after a statement."""
    program = f"import sys\n{statement}\nimport json\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return {name.partition(".")[0] for name in json.loads(run.stderr.splitlines()[-1])}


def test_import_is_light():
    assert not HEAVY & loaded_after("import gsco")
    assert "pydantic" not in loaded_after("import gsco")


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "diagnose --help",
        "train specialist --help",
        "store build --help",
        "eval run --help",
        "--version",
    ],
)
def test_help_is_light(arguments):
    statement = (
        "from gsco.agent.cli import app\n"
        f"try: app({arguments.split()!r})\n"
        "except SystemExit as end: assert end.code == 0, end.code"
    )
    assert not (HEAVY | {"rich"}) & loaded_after(statement)


def test_public_names_are_there():
    for name in gsco.__all__:
        assert getattr(gsco, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        getattr(gsco, "Nonsense")  # noqa: B009


def test_every_package_is_declared():
    """A folder that pyproject.toml does not list works in the checkout and is missing in the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    skipped = {"benchmarks", "tests", "build", "dist"}
    folders = {
        path.parent.relative_to(ROOT)
        for path in ROOT.rglob("__init__.py")
        if (parts := path.relative_to(ROOT).parts)[0] not in skipped and not parts[0].startswith(".")
    }
    found = {".".join(("gsco", *folder.parts)) for folder in folders}
    assert found == set(project["tool"]["setuptools"]["packages"])


def test_a_type_checker_finds_the_package(tmp_path):
    """Also outside of the repository, from an editable installation: it runs no import hooks."""
    (tmp_path / "mine.py").write_text("from gsco import GSCo\n\nreveal_type(GSCo.from_settings().tasks)\n")
    run = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "mine.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    [found] = json.loads(run.stdout)["generalDiagnostics"]
    assert found["message"] == 'Type of "GSCo.from_settings().tasks" is "TaskBook"', found
    assert (ROOT / "py.typed").is_file()


def test_versions_agree():
    assert metadata.version("gsco") == gsco.__version__
    assert f"## [{gsco.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_allow_what_the_project_requires():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split())
    required = {name for name in metadata.requires("gsco") or () if "extra ==" not in name}
    names = {name.split(">")[0].split("<")[0].split("=")[0].split("[")[0].strip() for name in required}
    assert names <= pins.keys()


def test_bundled_files_are_complete():
    assert manifest.listed(), "no manifest: make mini writes it"
    assert manifest.differences() == []


def test_bundled_files_stay_small():
    size = sum((bundled(".") / name).stat().st_size for name in manifest.present())
    assert size < 50_000_000


def test_bundled_files_are_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["gsco.models.mini"]
    suffixes = {Path(pattern).suffix for pattern in patterns}
    assert {Path(name).suffix for name in manifest.present()} <= suffixes


def test_files_that_are_read_are_packaged():
    """A file beside the code that no pattern covers works in the checkout and is missing in the wheel."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    covered = {
        path
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    rooms = {package.split(".")[1] for package in setuptools["packages"] if "." in package}
    beside = {
        path
        for room in rooms
        for path in (ROOT / room).rglob("*")
        if path.is_file()
        and path.suffix not in (".py", ".pyc")
        and (ROOT / "evals" / "results") not in path.parents
    }
    assert "agent" in rooms and (ROOT / "agent" / "page" / "page.css") in beside
    assert sorted(str(path.relative_to(ROOT)) for path in beside - covered) == []


def test_a_damaged_bundle_is_noticed(tmp_path):
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "card.json").write_text("{}")
    manifest.write(tmp_path)
    assert manifest.differences(tmp_path) == []
    (tmp_path / "bank" / "card.json").write_text("{ }")
    (tmp_path / "bank" / "more.json").write_text("{}")
    assert manifest.differences(tmp_path) == ["bank/card.json", "bank/more.json"]

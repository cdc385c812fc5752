"""``gsco build`` on a tiny folder, for real: to a diagnosis, killed, rolled back, grown and erased."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gsco.agent.builds import current_build, installed_builds, roll_back, versions
from gsco.agent.cli import app
from gsco.errors import ConfigurationError
from gsco.evals.build.parts import read_parts
from gsco.evals.build.pipeline import read_record
from gsco.settings import Settings
from gsco.tools.stores import open_store
from typer.testing import CliRunner, Result

from .conftest import Folder

COUNTS = {"disc": 52, "bar": 52, "nothing": 40}


def gsco(home: Path, *arguments: object) -> Result:
    """Run the command in this process."""
    environment = {"GSCO_HOME": str(home), "GSCO_TORCH_THREADS": "1"}
    return CliRunner().invoke(app, list(map(str, arguments)), env=environment)


def artefacts(folder: Path) -> dict[str, object]:
    """What a version comes to, without times and places."""
    record = json.loads((folder / "build.json").read_text())
    del record["seconds"]
    store = open_store(folder / "cases.sqlite", home=folder)
    cases = {entry.case.id: (entry.case.labels, sorted(entry.vectors)) for entry in store.scan()}
    store.close()
    weights = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "specialists").rglob("*.safetensors"))
    }
    fit = json.loads((folder / "specialists" / "shapes" / "collaboration.json").read_text())
    return {"record": record, "cases": cases, "weights": weights, "fit": fit}


@pytest.fixture(scope="module")
def images(shapes: Folder) -> Path:
    folder = shapes(**COUNTS)
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    rows = [f"{path.as_posix()},{path.parent},{'fm'[place % 2]}" for place, path in enumerate(paths)]
    (folder / "labels.csv").write_text("\n".join(["path,label,sex", *rows]))
    return folder


@pytest.fixture(scope="module")
def built(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a machine on which the shapes were built by the command."""
    home = tmp_path_factory.mktemp("built")
    done = gsco(home, "build", images, "--name", "shapes", "--fast", "--max-error", "0.2")
    assert done.exit_code == 0, done.stderr
    assert "Next: gsco diagnose IMAGE --task shapes" in done.stdout
    assert done.stdout.startswith("Measured: right in ")
    yield home
    shutil.rmtree(home)


def test_one_command_makes_a_measured_task(built: Path) -> None:
    build = current_build(built, "shapes")
    assert build is not None
    record = read_record(build)
    own, baseline = record.arm("gsco"), record.arm("specialist:probe")
    assert own is not None
    assert baseline is not None
    assert own.accuracy.value > 0.8
    assert own.accuracy.value >= baseline.accuracy.value - 0.03
    assert own.log_loss is not None
    assert baseline.log_loss is not None
    assert own.log_loss.value <= baseline.log_loss.value + 0.02
    assert record.unmeasurable == ("nothing",)
    assert not (build.folder / "work").exists()
    # No image file of the user lies in the build, but small ones in store and report.
    assert {path.suffix for path in build.folder.rglob("*") if path.is_file()} <= {
        ".json",
        ".jsonl",
        ".sqlite",
        ".sqlite-wal",
        ".sqlite-shm",
        ".safetensors",
        ".npz",
        ".html",
    }


def test_no_group_is_in_two_parts(built: Path) -> None:
    lines = read_parts(installed_builds(built)[0].folder)
    parts = {}
    for line in lines:
        assert parts.setdefault(line.group, line.part) == line.part
    assert {line.part for line in lines} == {"train", "fit", "test"}


def test_it_is_diagnosed_beside_the_bundled_tasks(built: Path, images: Path) -> None:
    test = next(line for line in read_parts(installed_builds(built)[0].folder) if line.part == "test")
    done = gsco(built, "diagnose", test.path, "--task", "shapes", "--json")
    assert done.exit_code == 0, done.stderr
    diagnosis = json.loads(done.stdout)
    assert diagnosis["task"] == "shapes"
    assert len(diagnosis["evidence"]["similar_cases"]) == 10
    assert {one["task"] for one in diagnosis["evidence"]["similar_cases"]} == {"shapes"}
    from gsco.models.mini.samples import samples

    bundled = gsco(built, "diagnose", samples("busi")[0].path, "--task", "busi", "--json")
    assert len(json.loads(bundled.stdout)["evidence"]["similar_cases"]) == 10
    assert "shapes" in gsco(built, "tasks").stdout


def test_the_report_says_the_verdict_first_and_needs_nothing_else(built: Path) -> None:
    page = (installed_builds(built)[0].folder / "report.html").read_text()
    assert page.index("Measured: right in") < page.index("<h2>")
    assert 'src="data:image/jpeg;base64,' in page
    for fetched in ("<script", "<link", "@import", "<iframe"):
        assert fetched not in page
    assert not re.findall(r"""(?:src|href)=["']?(?!data:|#)[^"'> ]+|url\((?!#)""", page)
    assert "to be filled in by a person" in page


def test_results_are_reported_by_sex(built: Path) -> None:
    build = installed_builds(built)[0]
    record, page = read_record(build), (build.folder / "report.html").read_text()
    assert [(one.trait, one.value) for one in record.subgroups] == [("sex", "f"), ("sex", "m")]
    assert sum(one.n for one in record.subgroups) == record.test_images
    assert page.count("too few to say") == sum(one.groups < 20 for one in record.subgroups)
    assert "accuracy by sex: see the table of subgroups" in page


def test_the_report_is_written_as_pdf_from_its_page(built: Path, tmp_path: Path) -> None:
    done = gsco(built, "build", "--name", "shapes", "--pdf", tmp_path / "report.pdf")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
    missing = gsco(built, "build", "--name", "other", "--pdf", tmp_path / "other.pdf")
    assert missing.exit_code == 2
    assert "there is no report of a build other" in missing.stderr


def test_its_pack_gives_the_same_answers_elsewhere(built: Path, tmp_path: Path) -> None:
    pack, elsewhere = tmp_path / "shapes.zip", tmp_path / "elsewhere"
    for home, command in ((built, ("export", "shapes", "--out", pack)), (elsewhere, ("install", pack))):
        done = gsco(home, "pack", *command)
        assert done.exit_code == 0, done.stderr
    tested = [line.path for line in read_parts(installed_builds(built)[0].folder) if line.part == "test"]
    answers = [
        [answer(gsco(home, "diagnose", path, "--task", "shapes", "--json").stdout) for path in tested[::9]]
        for home in (built, elsewhere)
    ]
    assert answers[0] == answers[1]


def answer(text: str) -> object:
    """A diagnosis without times, and without the places of known images, which a pack leaves out."""

    def bare(value: object) -> object:
        if isinstance(value, dict):
            return {key: bare(one) for key, one in value.items() if key not in ("source", "timings")}
        return [bare(one) for one in value] if isinstance(value, list) else value

    return bare(json.loads(text))


def test_labels_that_are_no_options_are_refused_when_adding(built: Path, shapes: Folder) -> None:
    wrong = shapes(first=3000, disk=6, bar=6)
    done = gsco(built, "build", wrong, "--name", "shapes", "--add")
    assert done.exit_code == 2
    assert done.stderr.count("'disk' is not an option of task shapes") == 1
    assert "did you mean 'disc'" in done.stderr
    assert versions(built, "shapes") == ["v1"]
    # A build is known to the data report too.
    found = gsco(built, "data", wrong, "--task", "shapes", "--fast")
    assert "'disk' is not an option of task shapes" in found.stderr


def test_the_same_command_again_does_nothing(built: Path, images: Path) -> None:
    done = gsco(built, "build", images, "--name", "shapes", "--fast", "--max-error", "0.2")
    assert "is built from this already" in done.stderr
    assert versions(built, "shapes") == ["v1"]


def test_a_killed_build_goes_on_and_ends_the_same(built: Path, images: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "GSCO_HOME": str(tmp_path), "GSCO_TORCH_THREADS": "1"}
    command = ["build", str(images), "--name", "shapes", "--fast", "--max-error", "0.2"]
    program = str(Path(sys.executable).parent / "gsco")
    for stage in ("work/inputs.txt", "work/specialists.done"):
        process = subprocess.Popen([program, *command], env=environment, stderr=subprocess.DEVNULL)
        marker = tmp_path / "builds" / "shapes" / "v1" / stage
        while not marker.exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.4)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert current_build(tmp_path, "shapes") is None
    done = gsco(tmp_path, *command)
    assert done.exit_code == 0, done.stderr
    assert "done before" in done.stderr
    folder = Path("builds") / "shapes" / "v1"
    assert artefacts(tmp_path / folder) == artefacts(built / folder)


def test_nothing_is_written_by_a_dry_run(images: Path, tmp_path: Path) -> None:
    done = gsco(tmp_path, "build", images, "--name", "shapes", "--fast", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "time     about" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "busi"], "there is a task busi already"),
        (["--name", "No"], "no task can be made"),
        (["--name", "a", "--fast", "--thorough"], "cannot be combined"),
        (["--name", "a", "--add"], "no build a to add to"),
        (["--name", "a", "--rollback"], "there is no build a"),
        (["--name", "a", "--kind", "vqa"], "--kind must be one of"),
    ],
)
def test_what_cannot_be_built_is_said(
    images: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = gsco(tmp_path, "build", images, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_growing_rolling_back_and_erasing(built: Path, shapes: Folder) -> None:
    home = built
    more = shapes(first=1000, disc=8, bar=8, nothing=8)
    done = gsco(home, "build", more, "--name", "shapes", "--add")
    assert done.exit_code == 0, done.stderr
    assert "With 24 more images accuracy changes by" in done.stdout
    before, after = (home / "builds" / "shapes" / version for version in ("v1", "v2"))
    tested = [[line for line in read_parts(one) if line.part == "test"] for one in (before, after)]
    assert tested[0] == tested[1]
    build = current_build(home, "shapes")
    assert build is not None
    assert build.version == "v2"

    group = next(line.group for line in read_parts(after) if line.part == "train")
    erased = gsco(home, "forget", "--group", group, "--yes")
    assert erased.exit_code == 0, erased.stderr
    for path in (home / "builds").rglob("*"):
        if path.is_file():
            assert group.encode() not in path.read_bytes(), path

    # The fit holds for the cases that are left.
    test = next(line for line in read_parts(after) if line.part == "test")
    diagnosis = json.loads(gsco(home, "diagnose", test.path, "--task", "shapes", "--json").stdout)
    assert "changed since the fit" not in json.dumps(diagnosis)

    assert roll_back(home, "shapes").version == "v1"
    with pytest.raises(ConfigurationError, match="no version before v1"):
        roll_back(home, "shapes")


def test_images_with_wrong_labels_are_refused(built: Path, shapes: Folder, images: Path) -> None:
    wrong = shapes(first=2000, disc=60, bar=60)
    (wrong / "disc").rename(wrong / "other")
    (wrong / "bar").rename(wrong / "disc")
    (wrong / "other").rename(wrong / "bar")
    current = current_build(built, "shapes")
    done = gsco(built, "build", wrong, "--name", "shapes", "--add", "--retrain")
    assert done.exit_code == 2
    assert "it became worse" in done.stderr
    assert current_build(built, "shapes") == current


def test_settings_are_kept_apart(built: Path) -> None:
    from gsco.agent.builds import task_book

    assert "shapes" in task_book(Settings(home=built))
    assert "shapes" not in task_book(Settings(home=built / "elsewhere"))

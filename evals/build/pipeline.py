"""From labelled images to a version of a build: train, index, fit, measure, report, and use it.

Every stage goes on where it was killed, and ends as if it had not been.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ... import __version__
from ..._support.jsonl import write_atomically
from ...agent.assembly import parts_of
from ...agent.builds import (
    REPORT,
    WORK,
    InstalledBuild,
    builds_folder,
    current_build,
    installed_builds,
    switch_build,
    task_book,
    versions,
)
from ...case import Task, TaskKind
from ...errors import ConfigurationError, TaskError
from ...graphs.certificate import certify
from ...graphs.fitting import LEAST
from ...models.data.report import inspect
from ...models.dataset import Columns, Dataset, read_dataset
from ...models.specialist.feature_cache import FeatureCache
from ..arms import GSCO, KNN, MEAN, STACKING, VOTE
from ..outcomes import current
from ..plan import Plan
from ..report import report_of
from ..runner import RunContext, asks_generalist, replay
from ..task_fit import LabelledCase, arms_to_run, fit_cases, read_cases, write_fit
from .cross_fitting import cross_fitted_cases, keep_out_of_fold
from .panel import Speed, estimated_seconds, panel_of
from .parts import PARTS, SHARES, DataParts, divide, extended, read_parts, write_parts
from .record import ERROR_LIMITS, BuildRecord, Promise, VersionComparison, arm_numbers, promise
from .stages import Stages
from .subgroups import Subgroup, subgroups

if TYPE_CHECKING:
    from ...graphs.collaboration_fit import CollaborationFit
    from ...models.specialist.panel import Panel
    from ...models.specialist.recipe import TrainingConfig
    from ...settings import Settings

Say = Callable[[str], None]
Kind = Literal["auto", "diagnosis", "multilabel"]

INPUTS, FIT_RUN, TEST_RUN, OUT_OF_FOLD = "inputs.txt", "fit", "test", "out_of_fold"
NORMAL = ("normal", "no finding", "no findings", "healthy", "none")
"""Names of a label that excludes all others, where an image may have several."""
STAGES = ("specialists", "cases", "fit", "measure", "report")


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built."""

    name: str
    folder: Path
    speed: Speed = "usual"
    kind: Kind = "auto"
    max_error: float | None = None
    title: str = ""
    modality: str = ""
    columns: Columns = field(default_factory=Columns)
    seed: int = 0
    generalist: bool = False
    """Whether the generalist of the settings takes part in the fit."""
    add: bool = False
    """Whether the folder's images are added to those of the current version."""
    retrain: bool = False
    """With ``add``: whether the specialists learn from the new images too."""


@dataclass(frozen=True)
class BuildInputs:
    """Everything that decides what a build comes to."""

    request: BuildRequest
    task: Task
    parts: DataParts
    panel: tuple[TrainingConfig, ...]
    notes: tuple[str, ...]
    before: InstalledBuild | None = None
    """The version that grows."""
    added: int = 0
    features: FeatureCache = field(default_factory=FeatureCache, repr=False, compare=False)
    """What is known of the images from the data report."""

    @property
    def cross_fitted(self) -> bool:
        """Whether the decision is fitted by what heads say out of fold, so that all images teach them."""
        return all(recipe.refit for recipe in self.panel)

    @property
    def hash(self) -> str:
        """Equal hashes build the same."""
        request = self.request
        content = [
            __version__,
            self.task.model_dump(mode="json"),
            [self.parts.dataset.sha256, *(len(self.parts[part]) for part in PARTS)],
            [item.traits for item in self.parts["test"] if item.traits],
            [recipe.record() for recipe in self.panel],
            [request.seed, request.max_error, request.generalist, request.add, request.retrain],
            [] if self.before is None else [self.before.version],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_inputs(request: BuildRequest, settings: Settings, say: Say) -> BuildInputs:
    """Read and judge the data, and decide what is trained; nothing is written.

    Raises:
        ConfigurationError: the data or the request do not do.
    """
    before = current_build(settings.home, request.name)
    if request.add:
        return _grown_inputs(request, before, say)
    multilabel = None if request.kind == "auto" else request.kind == "multilabel"
    dataset = read_dataset(
        request.folder,
        seed=request.seed,
        shares=SHARES,
        multilabel=multilabel,
        columns=request.columns,
        draw_validation=True,
    )
    report = inspect(dataset, seed=request.seed, shares=SHARES)
    say(report.table())
    report.check()
    dataset = report.usable
    task = _card(request, dataset, settings, before)
    parts = divide(dataset, request.seed)
    parts.training.check_trainable()
    panel = tuple(panel_of(task, parts, request.speed, request.seed, asking=request.generalist))
    found = (*(problem.text for problem in report.problems), *_notes(dataset, parts, panel))
    return BuildInputs(request, task, parts, panel, tuple(dict.fromkeys(found)), features=report.features)


def build(inputs: BuildInputs, settings: Settings, say: Say, *, quiet: bool = False) -> BuildRecord:
    """Build a version and use it; the same call goes on with one that was killed.

    Args:
        inputs: see ``read_inputs``.
        settings: whose ``home`` it goes to; generalist and profile are those of the fit.
        say: prints a line.
        quiet: show no progress within a stage.

    Raises:
        ConfigurationError: another process is building it, the data do not do, or a version that was to grow
            became worse.
    """
    name = inputs.request.name
    with _locked(builds_folder(settings.home) / name):
        current = current_build(settings.home, name)
        if current is not None and (found := read_record(current)).inputs == inputs.hash:
            say(f"{name} {current.version} is built from this already")
            return found
        target = _target(inputs, settings)
        job = _Job(inputs, settings, target, say, quiet)
        record = job.run()
        if record.grown is not None and record.grown.worse:
            shutil.rmtree(target.folder)
            raise ConfigurationError(
                f"{record.grown.words}: it became worse, so {name} {record.grown.before} stays as it is. "
                "Look at the new images' labels, or add with --retrain"
            )
        switch_build(settings.home, name, target.version)
        shutil.rmtree(target.folder / WORK, ignore_errors=True)
        return record


def read_record(build: InstalledBuild) -> BuildRecord:
    """Read what a build wrote down.

    Raises:
        ConfigurationError: it is not there or damaged.
    """
    try:
        return BuildRecord.model_validate_json(build.record.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{build.record} cannot be read: {error}") from error


class _Job:
    """One build of one version."""

    def __init__(
        self, inputs: BuildInputs, settings: Settings, target: InstalledBuild, say: Say, quiet: bool
    ) -> None:
        self.inputs, self.target, self.say, self.quiet = inputs, target, say, quiet
        self.work = target.folder / WORK
        # Images of the runs go to a store of their own, which goes with them.
        self.settings = settings.model_copy(update={"images": self.work / "images", "max_error": None})
        self.cache = inputs.features
        self.others = [one for one in installed_builds(settings.home) if one.name != target.name]
        request = inputs.request
        self.plan = Plan(
            split="val",
            leaks="drop",
            seed=request.seed,
            profile=settings.profile,
            neighbours=settings.neighbours,
        )

    def run(self) -> BuildRecord:
        stages = Stages(self.work, len(STAGES), self.say)
        write_atomically(
            self.target.card, self.inputs.task.model_dump_json(indent=1, exclude_defaults=True) + "\n"
        )
        write_parts(self.inputs.parts, self.target.folder)
        names = ", ".join(recipe.name for recipe in self.inputs.panel)
        stages.run("specialists", f"train the specialists: {names}", self._train)
        stages.run("cases", "index the known cases and choose the encoder", self._index)
        stages.run("fit", "fit and certify the decision", self._fit)
        stages.run("measure", "measure every arm on the test images", self._measure)
        stages.run("report", "write the report", lambda: self._report(stages))
        return read_record(self.target)

    def _train(self) -> None:
        from ...models.specialist.training import train_specialist
        from ...models.torch_threads import set_threads

        before = self.inputs.before
        if before is not None and not self.inputs.request.retrain:
            folder = self.target.specialists / self.target.name
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(before.specialists / self.target.name, folder)
            (folder / "collaboration.json").unlink(missing_ok=True)
            if (said := before.folder / OUT_OF_FOLD).is_dir():
                shutil.copytree(said, self.target.folder / OUT_OF_FOLD, dirs_exist_ok=True)
            return
        set_threads(self.settings.torch_threads)
        command = f"gsco build FOLDER --name {self.target.name}"
        parts = self.inputs.parts
        for recipe in self.inputs.panel:
            written = self.work / f"{recipe.name}.npz"
            train_specialist(
                recipe,
                self.target.specialists,
                dataset=parts.training,
                command=command,
                cache=self.cache,
                out_of_fold=written,
                quiet=self.quiet,
            )
            if self.inputs.cross_fitted:
                items = [*parts["train"], *parts["fit"]]
                keep_out_of_fold(written, items, self.target.folder / OUT_OF_FOLD / written.name)

    def _index(self) -> None:
        from ...models.specialist.panel import write_panel
        from ...tools.indexing import build_index
        from ...tools.retriever import choose_retriever
        from ...tools.stores import open_store

        panel = self._panel()
        # Networks that were trained on the known cases place them by their labels: they do not search.
        frozen = [one for one in panel.members.values() if one.card.training.get("trainable") == "head"]
        task, training = self.inputs.task, self.inputs.parts.training
        known = self.inputs.parts.known if self.inputs.cross_fitted else training
        store = open_store(self.target.cases, home=self.settings.home, writable=True)
        with closing(store):
            build_index(known, task, frozen, store, seed=self.inputs.request.seed, quiet=self.quiet)
            choice = choose_retriever(
                training, frozen, store, self.plan.neighbours or 1, task=task.name, quiet=self.quiet
            )
        write_panel(self.target.specialists / task.name, choice.retriever)

    def _fit(self) -> None:
        request, crossed = self.inputs.request, self.inputs.cross_fitted
        plan = self.plan.model_copy(update={"arms": arms_to_run(request.generalist and not crossed)})
        with self._run_context(plan) as bench:
            data, fitting, kept = (self._cross_fitted if crossed else self._replayed)(bench, plan)
            if len(fitting) < LEAST:
                return
            found = fit_cases(
                bench,
                self.inputs.task,
                data,
                fitting,
                kept,
                plan,
                independent=True,
                unseen=True,
                max_error=request.max_error,
            )
        write_fit(found, self.target.specialists)

    def _cross_fitted(
        self, bench: RunContext, plan: Plan
    ) -> tuple[str, Sequence[LabelledCase], Sequence[LabelledCase]]:
        """Hash of the data; what heads said of all images out of fold; cases that taught nobody."""
        parts, task = self.inputs.parts, self.inputs.task
        store, panel = bench.gsco.retrieval.store(), bench.gsco.panels[task.name]
        items, said = [*parts["train"], *parts["fit"]], self.target.folder / OUT_OF_FOLD
        fitting = cross_fitted_cases(items, task, panel, said, store, plan.neighbours)
        kept: Sequence[LabelledCase] = ()
        if parts["certify"] and len(fitting) >= LEAST:
            out = self.work / FIT_RUN
            replay(bench, parts.certifying, task, out, plan=plan, quiet=self.quiet)
            _, kept = read_cases(out)
        return parts.dataset.sha256, fitting, kept

    def _replayed(
        self, bench: RunContext, plan: Plan
    ) -> tuple[str, Sequence[LabelledCase], Sequence[LabelledCase]]:
        """Hash of the data, and cases for the fit and for its certificate; none of them taught anybody."""
        parts, out = self.inputs.parts, self.work / FIT_RUN
        if len(parts["fit"]) < LEAST:
            return "", (), ()
        replay(bench, parts.fitting, self.inputs.task, out, plan=plan, quiet=self.quiet)
        run, cases = read_cases(out)
        apart = parts.certified_groups
        return (
            run.dataset_sha256,
            [case for case in cases if case.group not in apart],
            [case for case in cases if case.group in apart],
        )

    def _measure(self) -> None:
        self._test(self.target, self.work / TEST_RUN, self.inputs.task)
        if self.inputs.before is not None:
            self._test(self.inputs.before, self.work / "before", self.inputs.task)

    def _test(self, build: InstalledBuild, out: Path, task: Task) -> None:
        fitted = (build.specialists / task.name / "collaboration.json").is_file()
        names = (
            "specialists",
            VOTE.name,
            MEAN.name,
            KNN.name,
            *([STACKING.name] if fitted else []),
            GSCO.name,
        )
        plan = self.plan.model_copy(update={"split": "test", "arms": names})
        with self._run_context(plan, build) as bench:
            replay(bench, self.inputs.parts.testing, task, out, plan=plan, quiet=self.quiet)

    def _report(self, stages: Stages) -> None:
        from .page import write_page

        record = self._record(stages)
        write_page(record, self.target.folder / REPORT, self.work / TEST_RUN, self.settings.image_folder)
        # The record makes the version complete, so that it comes last.
        write_atomically(self.target.record, record.model_dump_json(indent=1) + "\n")

    def _record(self, stages: Stages) -> BuildRecord:
        from ...graphs.collaboration_fit import read_fit

        request, parts, task = self.inputs.request, self.inputs.parts, self.inputs.task
        found = report_of(self.work / TEST_RUN, seed=request.seed)
        assert found.scores is not None, "the tasks of builds are closed"
        fit = read_fit([self.target.specialists], task.name)
        panel = self._panel()
        dropped = len(found.run.leakage.dropped)
        said = (
            [f"{dropped} test images look like known cases and are left out of the measurement"]
            if dropped
            else []
        )
        return BuildRecord(
            name=self.target.name,
            version=self.target.version,
            inputs=self.inputs.hash,
            kind=task.kind,
            folder=str(parts.dataset.folder.absolute()),
            dataset=parts.dataset.sha256,
            speed=request.speed,
            seed=request.seed,
            counts=parts.counts(),
            images={part: len(parts[part]) for part in PARTS},
            specialists={name: one.card.weights.sha256[:12] for name, one in panel.members.items()},
            retriever=panel.retriever,
            fitted=fit is not None,
            chosen=() if fit is None else fit.chosen,
            test_images=found.scores.n,
            test_groups=found.scores.groups,
            arms=arm_numbers(found.scores),
            best_source=found.scores.best_source,
            majority=_majority(parts),
            subgroups=self._subgroups(),
            promises=_promises(fit, request.max_error),
            grown=self._grown(),
            notes=(*self.inputs.notes, *said),
            gsco=__version__,
            seconds={one.stage: one.seconds for one in stages.done},
        )

    def _subgroups(self) -> tuple[Subgroup, ...]:
        parts = self.inputs.parts
        folder = parts.dataset.folder
        traits = {one.path.relative_to(folder).as_posix(): one.traits for one in parts["test"]}
        return subgroups(current(self.work / TEST_RUN).outcomes[GSCO.name], traits)

    def _grown(self) -> VersionComparison | None:
        before = self.inputs.before
        if before is None:
            return None
        from ..run_comparison import changes

        every = changes(self.work / "before", self.work / TEST_RUN, seed=self.inputs.request.seed)
        own = next(one for one in every if one.arm == GSCO.name)
        accuracy, log_loss = (
            (found.value, found.low, found.high)
            for found in (own.differences["accuracy"], own.differences["log_loss"])
        )
        return VersionComparison(
            before=before.version, added=self.inputs.added, accuracy=accuracy, log_loss=log_loss, cases=own.n
        )

    def _panel(self) -> Panel:
        from ...models.specialist.panel import Panel

        task = self.inputs.task
        panel = Panel.load(task.name, [self.target.specialists], options=task.options)
        if panel.missing:
            raise ConfigurationError(f"{panel.missing[0].source} of the build: {panel.missing[0].reason}")
        self._share(panel)
        return panel

    def _share(self, panel: Panel) -> None:
        """Let the frozen networks of a panel look at each image once."""
        for member in panel.members.values():
            member.cache = self.cache

    @contextmanager
    def _run_context(self, plan: Plan, build: InstalledBuild | None = None) -> Generator[RunContext]:
        """The product with this version in the place of the current one."""
        from ...agent.api import GSCo

        parts = parts_of(self.settings, [*self.others, build or self.target])
        generalist = None
        if asks_generalist(plan):
            parts["generalist"] = generalist = parts["generalist"]()
        with GSCo(**parts) as gsco:
            self._share(gsco.panels[self.target.name])
            yield RunContext(gsco, generalist)


def _card(request: BuildRequest, dataset: Dataset, settings: Settings, before: InstalledBuild | None) -> Task:
    """The task card of new labels.

    Raises:
        ConfigurationError: the name belongs to another task, or the labels do not do.
    """
    others = [one for one in installed_builds(settings.home) if one.name != request.name]
    if request.name in task_book(settings, others):
        raise ConfigurationError(f"there is a task {request.name} already; give the build another --name")
    negative = None
    if dataset.multilabel:
        alone = {label for item in dataset.items if len(item.labels) == 1 for label in item.labels}
        among = {label for item in dataset.items if len(item.labels) > 1 for label in item.labels}
        negative = next(
            (one for one in dataset.labels if one.casefold() in NORMAL and one in alone - among), None
        )
    readable = request.name.replace("_", " ").replace("-", " ")
    try:
        return Task(
            name=request.name,
            kind=TaskKind.MULTILABEL if dataset.multilabel else TaskKind.DIAGNOSIS,
            title=request.title or readable,
            modality=request.modality or f"{readable} image",
            options=dataset.labels,
            negative=negative,
            source=f"built from {dataset.name}",
        )
    except ValueError as error:
        raise ConfigurationError(f"no task can be made of these labels: {error}") from error


def _grown_inputs(request: BuildRequest, before: InstalledBuild | None, say: Say) -> BuildInputs:
    """The inputs of a version that adds images to the current one."""
    from ...tasks import load_task

    if before is None:
        raise ConfigurationError(
            f"there is no build {request.name} to add to; `gsco build FOLDER --name {request.name}` makes it"
        )
    try:
        task = load_task(before.card)
    except TaskError as error:
        raise ConfigurationError(str(error)) from error
    added = read_dataset(
        request.folder, seed=request.seed, shares=(1.0, 0.0, 0.0), task=task, columns=request.columns
    )
    say(added.table())
    record = read_record(before)
    known = read_parts(before.folder)
    if gone := [line.path for line in known if not Path(line.path).is_file()]:
        raise ConfigurationError(
            f"{len(gone)} images of {request.name} {before.version} are no longer where they were, for "
            f"example {gone[0]}: put them back, or build it from scratch"
        )
    base = Dataset(Path(record.folder), (), task.options, record.dataset, task.kind is TaskKind.MULTILABEL)
    parts = extended(known, base, added)
    new = len(parts["train"]) - sum(line.part == "train" for line in known)
    if not new:
        raise ConfigurationError(f"no image of {request.folder} is new to {request.name} {before.version}")
    speed: Speed = record.speed  # type: ignore[assignment]
    panel = tuple(panel_of(task, parts, speed, record.seed, asking=request.generalist))
    return BuildInputs(request, task, parts, panel, _notes(added, parts, panel), before, new)


def _notes(dataset: Dataset, parts: DataParts, panel: Sequence[TrainingConfig]) -> tuple[str, ...]:
    fitted_on = len(parts["fit"]) + (len(parts["train"]) if all(one.refit for one in panel) else 0)
    notes = [*dataset.notes, *(f"{count} left out: {reason}" for reason, count in dataset.left_out.items())]
    if dataset.dropped:
        notes.append(f"{dataset.dropped} left out: their group is also in a later split")
    if fitted_on < LEAST:
        notes.append(
            f"{fitted_on} images are too few to fit the decision on ({LEAST} are needed): "
            "specialists and similar cases are weighed by their reliability"
        )
    if not parts["certify"]:
        notes.append("no images are left for a certificate, so that nothing can be promised about errors")
    return tuple(notes)


def _majority(parts: DataParts) -> float:
    """Accuracy of always saying the most frequent label set of the training images."""
    most = Counter(tuple(sorted(item.labels)) for item in parts["train"]).most_common(1)[0][0]
    test = parts["test"]
    return round(sum(tuple(sorted(item.labels)) == most for item in test) / len(test), 4)


def _promises(fit: CollaborationFit | None, max_error: float | None) -> tuple[Promise, ...]:
    if fit is None or not len(fit.held_out):
        return ()
    limits = ERROR_LIMITS if max_error is None else (max_error,)
    return tuple(promise(certify(fit.held_out, limit)) for limit in limits)


def _target(inputs: BuildInputs, settings: Settings) -> InstalledBuild:
    """The version to build: one that was begun with the same inputs, or a new one."""
    home = builds_folder(settings.home) / inputs.request.name
    done = versions(settings.home, inputs.request.name)
    number = 1 + int(done[-1][1:]) if done else 1
    folder = home / f"v{number}"
    marker = folder / WORK / INPUTS
    if folder.exists() and (not marker.is_file() or marker.read_text(encoding="utf-8") != inputs.hash):
        shutil.rmtree(folder)
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    write_atomically(marker, inputs.hash)
    return InstalledBuild(inputs.request.name, folder)


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Let one process at a time build here; a killed one holds nothing.

    Raises:
        ConfigurationError: another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # another system than Unix
        yield
        return
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"{folder.name} is being built by another process; wait for it"
            ) from None
        yield


def estimate_lines(inputs: BuildInputs) -> str:
    """What will be done and about how long it takes."""
    minutes = max(1, round(estimated_seconds(inputs.panel, inputs.parts) / 60))
    parts = ", ".join(f"{part} {len(inputs.parts[part])}" for part in PARTS)
    names = ", ".join(
        f"{recipe.name} ({recipe.architecture}, {recipe.image_size} px)" for recipe in inputs.panel
    )
    return f"  parts    {parts}\n  panel    {names}\n  time     about {minutes} min"


def listed(notes: Sequence[str]) -> str:
    """Notes, one a line."""
    return "\n".join(f"  note     {note}" for note in notes)

"""A run of the suite: which functions the generalist calls about images, and closed questions about them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage

from ..._support.jsonl import JsonlLog
from ...case import Case, Task, TaskKind
from ...errors import ConfigurationError, GscoError
from ...models.generalist.functions import declared, functions
from ...models.generalist.messages import message
from ...models.generalist.prompts import PROFILES
from ..cases import labelled_examples, read_examples
from .ability_records import LOG, AbilityImage, AbilityRecord, is_answered
from .conversations import consult

if TYPE_CHECKING:
    from ...agent.api import GSCo
    from ...models.generalist.protocol import Generalist
    from ...settings import Settings

REQUEST = "Image {image}. What is the diagnosis?"
TOOLS: Mapping[str, tuple[str, ...]] = {
    "tool choice": ("classify", "retrieve_cases", "list_tasks"),
    "tool choice, diagnose at hand": ("classify", "retrieve_cases", "diagnose", "list_tasks"),
}
"""The functions that are offered, by the name of the ability; the first one that fits must be called."""
CHUNK = 64


def run(
    sources: Mapping[str, Path],
    vqa: Path | None,
    out: Path,
    *,
    settings: Settings,
    split: str = "test",
    limit: int = 50,
    seed: int = 0,
    quiet: bool = False,
) -> None:
    """Run the suite with what the settings name; the same call goes on where it was stopped.

    Args:
        sources: data sets by task.
        vqa: JSON list of ``question``, ``answer``, ``answer_type`` and ``image_name``, with the images in
            a folder ``images`` beside it.
        out: folder of the run.
        settings: which specialists, store and generalist.
        split: of the data sets.
        limit: a random sample of so many images per task.
        seed: of the sample.
        quiet: show no progress.

    Raises:
        GscoError: of what kind, says what is wrong.
    """
    from ...agent.api import GSCo
    from ...agent.assembly import parts_of

    parts: dict[str, Any] = parts_of(settings)
    generalist: Generalist = parts["generalist"]()
    parts |= {"generalist": generalist, "review": ()}
    with GSCo(**parts) as gsco:
        images = [
            image
            for task, source in sources.items()
            for image in images_of(gsco, parts["tasks"].get(task), source, split, limit, seed)
        ]
        show(gsco, generalist, images, out, quiet=quiet)
        consult(gsco, generalist, images, out, quiet=quiet)
        if vqa is not None:
            ask(gsco, generalist, vqa, out, quiet=quiet)


def show(
    gsco: GSCo, generalist: Generalist, images: Sequence[AbilityImage], out: Path, *, quiet: bool = False
) -> None:
    """Let the generalist choose tools."""
    from ..._support.progress import Progress

    out.mkdir(parents=True, exist_ok=True)
    log = JsonlLog(out / LOG, AbilityRecord)
    done = {(one.ability, one.task, one.case) for one in log if is_answered(one, generalist)}
    cards = {card.name: card for card in gsco.tasks if gsco.specialists.members(card.name)}
    offered = functions(tuple((cards | {image.task.name: image.task for image in images}).values()))
    with Progress("tools", len(images), quiet=quiet) as progress:
        for image in images:
            log.append(_chosen(generalist, image, offered, done))
            progress.advance()


def ask(gsco: GSCo, generalist: Generalist, vqa: Path, out: Path, *, quiet: bool = False) -> None:
    """Ask the closed questions of a file; an answer is right if it is the known one, letter case aside.

    Raises:
        ConfigurationError: the file is not as ``run`` describes it.
    """
    from ..._support.progress import Progress

    out.mkdir(parents=True, exist_ok=True)
    log = JsonlLog(out / LOG, AbilityRecord)
    done = {one.case for one in log if one.ability == "closed questions" and is_answered(one, generalist)}
    records = [record for record in _records(vqa) if record["id"] not in done]
    with Progress("questions", len(records), quiet=quiet) as progress:
        for start in range(0, len(records), CHUNK):
            chunk = records[start : start + CHUNK]
            log.append(_ask_case(gsco, generalist, chunk, vqa))
            progress.advance(len(chunk))


def images_of(gsco: GSCo, task: Task, source: Path, split: str, limit: int, seed: int) -> list[AbilityImage]:
    """Read a sample of a data set's images; see ``run``. Those that cannot be read are left out."""
    from ..._support.progress import Progress
    from ...models.dataset import read_dataset

    dataset = read_dataset(source, seed=seed)
    examples = labelled_examples(dataset, split, task, limit=limit, seed=seed)
    with Progress("reading images", len(examples), quiet=True) as progress:
        read = read_examples(examples, gsco.images, progress)
    return [AbilityImage(one.id, task, one.case, one.truth) for one in read if isinstance(one.case, Case)]


def _chosen(
    generalist: Generalist, image: AbilityImage, offered: Mapping[str, Any], done: set[tuple[str, str, str]]
) -> Iterator[AbilityRecord]:
    for ability, names in TOOLS.items():
        if (ability, image.task.name, image.id) in done:
            continue
        wanted = "diagnose" if "diagnose" in names else "classify"
        shown = AbilityRecord(
            ability=ability,
            task=image.task.name,
            case=image.id,
            generalist=generalist.version,
            right=0,
            stated=1,
            expected=1,
            said="",
        )
        try:
            said = generalist.call_tools([_request(image)], [declared(offered[name]) for name in names])
        except GscoError as error:
            yield shown.model_copy(update={"error": _line(error)})
            continue
        right = [
            call["name"] == wanted
            and call["args"].get("task") == image.task.name
            and call["args"].get("image", image.ref.id) == image.ref.id
            for call in said.tool_calls[:1]
        ]
        yield shown.model_copy(update={"right": int(any(right)), "said": _written(said)})


def _request(image: AbilityImage) -> BaseMessage:
    return message("human", REQUEST.format(image=image.ref.id), [image.ref.id])


def _ask_case(
    gsco: GSCo, generalist: Generalist, records: Sequence[dict[str, str]], vqa: Path
) -> Iterator[AbilityRecord]:
    task = Task(name="vqa", kind=TaskKind.QUESTION, modality="radiology")
    profile, requests = PROFILES["paper"], []
    for record in records:
        image = gsco.images.put(vqa.parent / "images" / record["image_name"])
        case = Case(id=record["id"], images=(image,), question=record["question"])
        requests.append(profile.open_messages(task, case))
    for record, answer in zip(records, generalist.generate(requests, max_new_tokens=24), strict=True):
        failed = isinstance(answer, GscoError)
        said = "" if failed else answer
        yield AbilityRecord(
            ability="closed questions",
            task=vqa.parent.name,
            case=record["id"],
            generalist=generalist.version,
            right=int(_plain(said) == _plain(record["answer"])),
            stated=1,
            expected=1,
            said=said,
            error=_line(answer) if failed else None,
            truth=_plain(record["answer"]),
        )


def _records(vqa: Path) -> list[dict[str, str]]:
    try:
        content = json.loads(vqa.read_text(encoding="utf-8"))
        return [
            {
                "id": f"{number}-{record['image_name']}",
                **{name: str(record[name]) for name in ("question", "answer", "image_name")},
            }
            for number, record in enumerate(content)
            if str(record["answer_type"]).strip().upper() == "CLOSED"
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{vqa} is not a JSON list of question, answer, answer_type and image_name: {error}"
        ) from error


def _plain(text: str) -> str:
    return " ".join(text.casefold().strip(" .").split())


def _written(said: AIMessage) -> str:
    calls = [json.dumps({"name": call["name"], "arguments": call["args"]}) for call in said.tool_calls]
    return " ".join(
        filter(None, [said.text, *calls, *(str(call["args"]) for call in said.invalid_tool_calls)])
    )


def _line(error: object) -> str:
    return f"{type(error).__name__}: {error}"

"""Whether a served generalist answers as its weights should: known images, and answers that are known.

A wrong chat template, tokenizer or pixel shuffle gives no error but worse answers. So the prompt is compared
token by token with how it must be read, and answers with those of the same weights in this process, or with
what the model's authors published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..case import Answer, Case, Opinion, SimilarCase, Task
from ..errors import GeneralistError, GscoError
from ..models.generalist.options import OPINION_MASS, is_opinion, no_opinion
from .doctor import Check

if TYPE_CHECKING:
    from ..images import ImageStore
    from ..models.generalist.openai_compatible import OpenAICompatibleGeneralist
    from ..models.generalist.protocol import Choice, Generalist
    from ..settings import Settings

CASES = 50
TOLERANCE = 0.02
"""Two runtimes of the same weights may differ by so much in a probability."""
LITTLE = 0.5
"""With a smaller share of its probability on the options, a model does not answer what it is asked."""
OTHER_MODE = "set another GSCO_GENERALIST_MODE, or look at its chat template"
SERVE = "serve it by `gsco serve generalist`, whose profile has what the model needs"


@dataclass(frozen=True)
class PublishedAnswer:
    """An answer of MedDr's that its authors show: the image's file, and words that the answer holds."""

    file: str
    words: tuple[str, ...]
    whole: bool = False
    """Whether the answer is exactly the words."""

    def given_in(self, answer: str) -> bool:
        """Whether an answer says it; any one of alternatives divided by ``|`` will do."""
        said = answer.casefold().strip()
        if self.whole:
            return said.strip(" .") == self.words[0]
        return all(any(word in said for word in words.split("|")) for words in self.words)


PUBLISHED = (
    PublishedAnswer("test1.jpg", ("retinal vein occlusion|brvo",)),
    PublishedAnswer("test2.jpg", ("ulcerative colitis",)),
    PublishedAnswer("test3.jpg", ("optic nerve",)),
    PublishedAnswer("test4.jpg", ("no",), whole=True),
    PublishedAnswer("test5.jpg", ("osteophytes", "surgical implant")),
)


def verify_serving(settings: Settings, url: str, published: Path | None = None) -> Iterator[Check]:
    """Look at a served generalist.

    Args:
        settings: name, key and home.
        url: of the server.
        published: folder ``examples`` of MedDr's published code, with its five images and questions.
    """
    import tempfile

    from ..images import ImageStore
    from ..models.generalist.openai_compatible import OpenAICompatibleGeneralist

    with tempfile.TemporaryDirectory() as folder:
        images = ImageStore(Path(folder))
        try:
            # Asked in the way that diagnoses ask it: another would show what they are not.
            served = OpenAICompatibleGeneralist(
                url,
                images,
                model=settings.generalist_model,
                api_key=settings.generalist_api_key,
                mode=settings.generalist_mode,
                tools=settings.tool_calls,
                omit=settings.generalist_omit,
                retries=1,
            )
            yield from _checks(served, images, published)
            served.close()
        except GscoError as error:
            yield Check("served generalist", "wrong", str(error))


def _checks(
    served: OpenAICompatibleGeneralist, images: ImageStore, published: Path | None
) -> Iterator[Check]:
    endpoint = served.endpoint
    kind = "vLLM" if endpoint.vllm else "OpenAI-compatible"
    ways = f"chooses by {served.mode}, tool calls {served.tool_level}"
    left_out = f"; it refuses {', '.join(served.parameters.omitted)}" if served.parameters.omitted else ""
    yield Check("served generalist", "ok", f"{served.name} ({kind}), {ways}{left_out}")
    profile = endpoint.profile.name if endpoint.profile else ""
    if profile == "mini":
        yield from _as_in_process(served, images)
        return
    if profile == "meddr":
        yield _conversation(served)
        yield from _as_published(served, images, published)
    yield _sense(served, images)


def _as_in_process(served: OpenAICompatibleGeneralist, images: ImageStore) -> Iterator[Check]:
    """Compare with the same weights in this process."""
    from ..models.generalist.in_process import InProcessGeneralist
    from ..models.mini import bundled

    local = InProcessGeneralist.load(bundled("generalist"), images, dtype="float32")
    requests = [request for request, _ in _requests(images)][:CASES]
    if served.endpoint.vllm:
        check = _same_prompt(served, local, requests[0])
        yield check
        if check.state == "wrong":
            return
    pairs = list(zip(local.choose(requests), served.choose(requests), strict=True))
    yield compared(pairs, local.version)


def _same_prompt(served: OpenAICompatibleGeneralist, local: object, request: Choice) -> Check:
    from ..models.generalist.in_process import InProcessGeneralist

    assert isinstance(local, InProcessGeneralist)
    return same_tokens(served.prompt_ids(request.messages), local.prompt_ids(request.messages))


def same_tokens(there: Sequence[int], here: Sequence[int]) -> Check:
    """Compare how the server reads a prompt with how this process does."""
    subject = "prompt"
    if list(there) == list(here):
        return Check(subject, "ok", f"read as in this process, {len(here)} tokens")
    place = next(
        (place for place, (one, other) in enumerate(zip(there, here, strict=False)) if one != other),
        min(len(there), len(here)),
    )
    found = (
        f"the server reads {len(there)} tokens, this process {len(here)}; the first difference is at {place}"
    )
    advice = f"its chat template, tokenizer or number of image tokens is another one: {SERVE}"
    return Check(subject, "wrong", found, advice)


def compared(
    pairs: Sequence[tuple[Answer | GeneralistError, Answer | GeneralistError]], version: str
) -> Check:
    """Compare answers here with answers there."""
    subject = "answers"
    known: list[tuple[Answer, Answer]] = []
    for here, there in pairs:
        if isinstance(here, GeneralistError) or isinstance(there, GeneralistError):
            failure = there if isinstance(there, GeneralistError) else here
            return Check(subject, "wrong", f"a case failed: {failure}")
        known.append((here, there))
    other = sum(here.labels != there.labels for here, there in known)
    gaps = [
        abs(here.probabilities[label] - there.probabilities[label])
        for here, there in known
        if here.probabilities and there.probabilities
        for label in here.probabilities
    ]
    worst = max(gaps, default=0.0)
    said = f"{len(known)} cases: {other} other labels, probabilities differ by at most {worst:.4f}"
    if other == 0 and worst <= TOLERANCE:
        return Check(subject, "ok", f"as in this process on {said}")
    advice = (
        f"the prompt is right, so the weights (here version {version}), the image's size or normalisation, or"
        f" the precision are other ones: {SERVE}, in float32"
    )
    return Check(subject, "wrong", f"otherwise than in this process on {said}", advice)


def _conversation(served: OpenAICompatibleGeneralist) -> Check:
    """Compare MedDr's conversation with the published one, text for text."""
    from ..models.generalist.messages import message

    ids = served.prompt_ids([message("human", "Is it?")])
    return same_conversation(served.text_of(ids))


def same_conversation(text: str) -> Check:
    """Whether a question without an image reads as MedDr was trained on it."""
    expected = (
        "<|im_start|>system\nAnswer the questions.<|im_end|>"
        "<|im_start|>user\nIs it?<|im_end|><|im_start|>assistant\n"
    )
    if text == expected:
        return Check("prompt", "ok", "the conversation is the published one")
    advice = f"its chat template or tokenizer is another one: {SERVE}"
    return Check("prompt", "wrong", f"the conversation is put as {text!r}", advice)


def _as_published(
    served: OpenAICompatibleGeneralist, images: ImageStore, folder: Path | None
) -> Iterator[Check]:
    from ..models.generalist.messages import message

    if folder is None:
        advice = (
            "give --published the folder `examples` of MedDr's published code, to compare its five answers"
        )
        yield Check("answers", "note", "not compared with those that the authors show", advice)
        return
    try:
        questions = (folder / "instruction_prompt.txt").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        yield Check("answers", "wrong", f"{folder}/instruction_prompt.txt: {error.strerror}")
        return
    asked = [
        [message("human", question.strip(), [images.put(folder / one.file).id])]
        for one, question in zip(PUBLISHED, questions, strict=True)
    ]
    said = served.generate(asked, max_new_tokens=512)
    yield as_published([answer if isinstance(answer, str) else "" for answer in said])


def as_published(answers: Sequence[str]) -> Check:
    """Compare five answers with those that MedDr's authors show."""
    wrong = [one.file for one, answer in zip(PUBLISHED, answers, strict=True) if not one.given_in(answer)]
    if not wrong:
        return Check("answers", "ok", "what the authors show, in all five examples")
    advice = (
        "another order of the pixel shuffle (ps_version must be v1), another image size or damaged weights"
        f" give fluent but wrong answers: {SERVE}"
    )
    return Check("answers", "wrong", f"not what the authors show, in {', '.join(wrong)}", advice)


def one_question(model: Generalist, images: ImageStore) -> Check:
    """Ask a generalist about one bundled image; what cannot be answered is no generalist to diagnose with."""
    request, _ = next(_requests(images, evidence=False))
    (answer,) = model.choose([request])
    if isinstance(answer, GeneralistError):
        return Check("generalist", "wrong", f"{model.name} does not answer: {answer}")
    said = f"{model.name}, version {model.version}, answers {answer.labels[0]!r} to a bundled image"
    if not is_opinion(answer):
        return Check("generalist", "wrong", f"{said}, but {no_opinion(answer)}", OTHER_MODE)
    return Check("generalist", "ok", said)


def _sense(served: OpenAICompatibleGeneralist, images: ImageStore) -> Check:
    """Ask about the bundled images, whose truth is known; chance is what a blind model reaches."""
    listed = [(request, truth) for request, truth in _requests(images, evidence=False)]
    answers = served.choose([request for request, _ in listed])
    if failed := [answer for answer in answers if isinstance(answer, GeneralistError)]:
        return Check("sense", "wrong", f"{len(failed)} of {len(answers)} cases failed: {failed[0]}")
    right = sum(
        isinstance(answer, Answer) and truth in answer.labels
        for answer, (_, truth) in zip(answers, listed, strict=True)
    )
    chance = sum(1 / len(request.options) for request, _ in listed)
    said = f"{right} of {len(listed)} bundled images right; chance is {chance:.0f}"
    masses = sorted(
        answer.mass for answer in answers if isinstance(answer, Answer) and answer.mass is not None
    )
    if masses and masses[len(masses) // 2] < OPINION_MASS:
        found = f"{said}; most answers are no opinion: {masses[len(masses) // 2]:.2g} lies on the options"
        advice = f"it does not answer in the mode {served.mode!r}: {OTHER_MODE}"
        return Check("sense", "wrong", found, advice)
    if masses and masses[len(masses) // 2] < LITTLE:
        advice = f"it answers in other words: {OTHER_MODE}"
        return Check(
            "sense", "note", f"{said}; options have {masses[len(masses) // 2]:.1%} of its mind", advice
        )
    return Check("sense", "ok" if right > chance else "note", said)


def _requests(images: ImageStore, *, evidence: bool = True) -> Iterator[tuple[Choice, str]]:
    """Bundled images with their truth; each once alone, and once with made-up evidence."""
    from ..models.generalist.prompts import PROFILES
    from ..models.generalist.protocol import Choice
    from ..models.mini.samples import samples
    from ..tasks import builtin_tasks

    tasks, profile = builtin_tasks(), PROFILES["paper"]
    for number, sample in enumerate(samples()):
        task, case = tasks[sample.task], Case(id=sample.file, images=(images.put(sample.path),))
        arms = [((), ()), _made_up(task, number)] if evidence else [((), ())]
        for arm in arms:
            yield Choice(profile.closed_messages(task, case, *arm), task.options, task.aliases), sample.label


def _made_up(task: Task, number: int) -> tuple[tuple[Opinion, ...], tuple[SimilarCase, ...]]:
    label = task.options[number % len(task.options)]
    said = Opinion(specialist="one", architecture="none", labels=(label,), probabilities={label: 0.7})
    found = SimilarCase(
        id="known", sha256="0" * 64, task=task.name, labels=(label,), similarity=0.9, encoder="none"
    )
    return (said,), (found,)

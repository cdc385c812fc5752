"""How a served model is asked to choose: three ways, what each costs, and where they differ.

*strings*
    Every option is put in as the answer, and the log-probabilities of its tokens are read: the likelihood
    that the answer is exactly this option, as in process. vLLM only. It costs one prefill per option, since
    vLLM does not read its prefix cache for requests of prompt log-probabilities.
*letters*
    The options get letters behind the question, and the probabilities of the letters as the first token are
    read. One request, whose prefix (image and question) is cached between the arms of an experiment. It asks
    another question than *strings*: a model that was not trained on lettered options may prefer a letter
    whatever it stands for, and ``Answer.mass`` is then small. MedDr answers them badly, and the bundled
    generalist was taught none. On servers other than vLLM a letter outside the likeliest twenty counts as 0.
*decode*
    The model writes its answer greedily, held to the options by vLLM and matched to one of them elsewhere.
    One request of a few tokens, and no probabilities. It follows the likeliest *first* token, so that it can
    end in another option than the likeliest whole string.
"""

from __future__ import annotations

import asyncio
import math
import string
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage, HumanMessage

from ...case import Answer
from ...errors import AnswerUnparsed, GeneralistError
from ..serving.profiles import Mode
from .discovery import Endpoint, content_text
from .hints import label_text
from .messages import parts
from .options import answer_from_scores, answer_from_text
from .protocol import Choice

LETTERS = string.ascii_uppercase
_LONGEST_OPTION = 64
_LIKELIEST = 20
_WITH_ANSWER = ("continue_final_message", "add_generation_prompt", "prompt_logprobs")
_T = TypeVar("_T")


@dataclass(frozen=True)
class ChoiceRequest:
    """What a way of choosing needs of a server."""

    endpoint: Endpoint
    payload: Callable[..., dict[str, Any]]
    """Messages and parameters to the body of a request."""
    post: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
    """Sends a body and returns the answer."""
    letters: Callable[[], Mapping[str, tuple[int, ...]]]
    """Token ids of each letter; empty where the server does not tell."""


def mode_for(wanted: Mode, endpoint: Endpoint) -> Mode:
    """The way that is wanted, or else the model's own, or else the best that the server has.

    Raises:
        GeneralistError: the model cannot answer in the way that is wanted.
    """
    profile = endpoint.profile
    if wanted == "letters" and profile and not profile.letters:
        raise GeneralistError(
            f"{profile.name} was not trained to answer by letters, and its diagnoses would differ; leave"
            " GSCO_GENERALIST_MODE at auto"
        )
    if wanted == "strings" and endpoint.vllm and not endpoint.end_of_turn:
        raise GeneralistError(
            "the served chat template puts no token behind an answer, so an option cannot be told from a"
            " longer one that begins with it; set GSCO_GENERALIST_MODE=decode, or serve the model with a"
            " template that ends each turn (vLLM: --chat-template)"
        )
    if wanted == "strings" and not endpoint.continues:
        raise GeneralistError(
            "the served chat template writes an answer in another way than it opens one, so options would be"
            " scored where no answer begins; set GSCO_GENERALIST_MODE=decode"
        )
    if wanted != "auto":
        return wanted
    if not endpoint.vllm or not endpoint.end_of_turn or not endpoint.continues:
        return "decode"
    own = profile.mode if profile else "auto"
    return "strings" if own == "auto" else own


async def choose(mode: Mode, request: Choice, asking: ChoiceRequest) -> Answer:
    """Answer one closed question.

    Raises:
        GeneralistError: the server lacks what the way needs, or the answer cannot be read.
    """
    ways = {"strings": by_strings, "letters": by_letters, "decode": by_decoding}
    return await ways[mode](request, asking)


async def by_strings(request: Choice, asking: ChoiceRequest) -> Answer:
    """Score every option as the whole answer."""
    body = await _body(
        asking,
        request.messages,
        max_tokens=1,
        extra_body={"continue_final_message": True, "add_generation_prompt": False, "prompt_logprobs": 0},
    )
    options = [label_text(option) + asking.endpoint.end_of_turn for option in request.options]
    tokens = await together(_tokens_with(body, option, asking) for option in options)
    begins = await _log_of_beginning(body, options, tokens, asking)
    return answer_from_scores(request.options, beyond_common_beginning(tokens), begins)


async def by_letters(request: Choice, asking: ChoiceRequest) -> Answer:
    """Score the letters that the options are given."""
    if len(request.options) > len(LETTERS):
        raise GeneralistError(
            f"there are more options than letters ({len(request.options)}); use another mode"
        )
    letters = LETTERS[: len(request.options)]
    ids = await asyncio.to_thread(asking.letters) if asking.endpoint.vllm else {}
    extra: dict[str, object] = {"logprobs": True}
    if ids:
        extra |= {"logprob_token_ids": sorted({id for letter in letters for id in ids[letter]})}
        extra |= {"return_tokens_as_token_ids": True}
    else:
        extra |= {"top_logprobs": _LIKELIEST}
    body = await _body(asking, lettered(request), max_tokens=1, extra_body=extra)
    answer = await asking.post(body)
    listed = ((answer["choices"][0].get("logprobs") or {}).get("content") or [{}])[0].get("top_logprobs")
    if not listed:
        raise GeneralistError("the server gives no log-probabilities; use the mode 'decode'")
    read = _by_id(listed, ids) if ids else _by_text(listed)
    scores = [_sum(read.get(letter, ())) for letter in letters]
    if max(scores) == -math.inf:
        raise AnswerUnparsed(
            "no letter is among the likeliest answers; this model does not answer with letters"
        )
    return answer_from_scores(request.options, scores)


async def by_decoding(request: Choice, asking: ChoiceRequest) -> Answer:
    """Let the model write one of the options."""
    options = [label_text(option) for option in request.options]
    extra = {"structured_outputs": {"choice": options}} if asking.endpoint.vllm else {}
    body = await _body(asking, request.messages, max_tokens=_LONGEST_OPTION, extra_body=extra)
    message = (await asking.post(body))["choices"][0]["message"]
    text = without_thoughts(content_text(message.get("content")))
    if not text:
        declined = "declined to answer" if message.get("refusal") else "gave an empty answer"
        raise AnswerUnparsed(f"the generalist {declined}")
    return answer_from_text(text, request.options, request.aliases)


def lettered(request: Choice) -> list[BaseMessage]:
    """The question with a letter for each option behind it, so that all before it stays one prefix."""
    *before, last = request.messages
    images, text = parts(last)
    pairs = zip(LETTERS, request.options, strict=False)
    listed = " ".join(f"{letter}. {label_text(option)}" for letter, option in pairs)
    text = f"{text.rstrip()} The options are: {listed}. Answer with the letter of one option only."
    blocks: list[str | dict[object, object]] = [{"type": "image", "file_id": id} for id in images]
    return [*before, HumanMessage([*blocks, {"type": "text", "text": text}] if images else text)]


def beyond_common_beginning(options: Sequence[Sequence[tuple[int, float]]]) -> list[float]:
    """Log-likelihood of each option, less what all of them share.

    Args:
        options: for each option the tokens of prompt and option as (id, log-probability).

    Returns:
        Sums over the tokens from the first one that differs. What stands before is the prompt, and
        perhaps a beginning that all options share; it would add the same to each.
    """
    shared = _shared(options)
    return [sum(value for _, value in tokens[shared:]) for tokens in options]


def _shared(options: Sequence[Sequence[tuple[int, float]]]) -> int:
    """How many tokens all options begin with."""
    pairs = zip(*options, strict=False)
    return sum(1 for _ in takewhile(lambda alike: len({id for id, _ in alike}) == 1, pairs))


async def _log_of_beginning(
    body: dict[str, Any],
    options: Sequence[str],
    tokens: Sequence[Sequence[tuple[int, float]]],
    asking: ChoiceRequest,
) -> float | None:
    """Log-likelihood of what all options begin with, such as *grade* of *grade 1* and *grade 2*.

    It belongs to the mass of the options. None where the server does not tell where the prompt ends.
    """
    if len({option[:1] for option in options}) > 1:
        return 0.0
    alone = {key: value for key, value in body.items() if key not in _WITH_ANSWER}
    usage = (await asking.post(alone)).get("usage") or {}
    if not (length := usage.get("prompt_tokens")):
        return None
    # The first token of the prompt has no probability, and is not listed.
    return sum(value for _, value in tokens[0][int(length) - 1 : _shared(tokens)])


async def together(work: Iterable[Coroutine[object, None, _T]]) -> list[_T]:
    """Run coroutines at once; where one fails, or nobody waits any more, the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def without_thoughts(text: str) -> str:
    """The answer behind a reasoning model's thoughts, where the server leaves them in."""
    return text.rpartition("</think>")[2].strip()


async def _body(asking: ChoiceRequest, messages: Sequence[BaseMessage], **given: object) -> dict[str, Any]:
    """A request's body, made in a thread, since a large image takes long to encode."""

    def make() -> dict[str, object]:
        payload = asking.payload(list(messages), **given)
        extra = payload.pop("extra_body", None) or {}
        return {**payload, **extra}

    return await asyncio.to_thread(make)


async def _tokens_with(body: dict[str, Any], answer: str, asking: ChoiceRequest) -> list[tuple[int, float]]:
    """Every token of the prompt with one option as the answer, and its log-probability."""
    turn = {"role": "assistant", "content": answer}
    response = await asking.post({**body, "messages": [*body["messages"], turn]})
    listed = response.get("prompt_logprobs")
    if not listed:
        raise GeneralistError("the server gives no prompt_logprobs; use the mode 'decode'")
    return [_token(entry) for entry in listed if entry]


def _token(entry: dict[str, Any]) -> tuple[int, float]:
    id, value = next(iter(entry.items()))
    return int(id), float(value["logprob"])


def _by_id(listed: Sequence[Mapping[str, Any]], ids: Mapping[str, tuple[int, ...]]) -> dict[str, list[float]]:
    """Log-probabilities by letter, where tokens are named as ``token_id:7``."""
    values = {str(entry["token"]).rpartition(":")[2]: float(entry["logprob"]) for entry in listed}
    return {letter: [values[str(id)] for id in own if str(id) in values] for letter, own in ids.items()}


def _by_text(listed: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Log-probabilities by letter, with or without a space or a full stop."""
    found: dict[str, list[float]] = {}
    for entry in listed:
        found.setdefault(str(entry["token"]).strip(" .)▁\n").upper(), []).append(float(entry["logprob"]))
    return found


def _sum(values: Sequence[float]) -> float:
    """Log of the sum of probabilities."""
    if not values:
        return -math.inf
    best = max(values)
    return best + math.log(math.fsum(math.exp(value - best) for value in values))

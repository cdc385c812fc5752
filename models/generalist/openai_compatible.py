"""A generalist behind an OpenAI-compatible server: vLLM, or any other that takes images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

import openai
from langchain_core.messages import AIMessage, BaseMessage
from pydantic import SecretStr

from ...case import Answer
from ...errors import AnswerUnparsed, GeneralistError
from .endpoint import connect, explained, place
from .hints import label_text
from .options import answer_from_scores, answer_from_text
from .protocol import Choice

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool

    from ...images import ImageStore

Mode = Literal["auto", "strings", "decode"]
_In = TypeVar("_In")
_Out = TypeVar("_Out")

_ENDS_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "</s>")
_LONGEST_OPTION = 64


@dataclass(frozen=True)
class Endpoint:
    """What was found out about a server."""

    models: tuple[str, ...]
    vllm: bool
    end_of_turn: str = ""
    """The text of the token that ends an answer; empty where the server does not tell."""


class OpenAICompatibleGeneralist:
    """Implements ``Generalist`` over HTTP.

    ``choose`` has two modes. *strings* (vLLM only, chosen there by ``auto``) prefills every option as the
    answer and reads the log-probabilities of its tokens: the same distribution as in process, at the
    price of one prefill per option. *decode* lets the model write, held to the options where the server
    is vLLM and matched to one of them elsewhere; it costs one request and has no probabilities.

    Args:
        base_url: up to and including ``/v1``.
        images: where image ids are looked up.
        model: name at the server; empty for the only one it serves.
        api_key: sent as bearer token; never shown.
        mode: how ``choose`` asks.
        timeout: seconds per request.
        retries: on connection errors, 408, 409, 429 and 5xx, with growing waits.
        concurrency: requests in flight at once.

    Raises:
        GeneralistError: no model is named, and the server cannot be asked or serves several.
    """

    def __init__(
        self,
        base_url: str,
        images: ImageStore,
        *,
        model: str = "",
        api_key: SecretStr | None = None,
        mode: Mode = "auto",
        timeout: float = 120.0,
        retries: int = 3,
        concurrency: int = 16,
    ) -> None:
        self._url = base_url
        self._mode: Mode = mode
        self._lock = threading.Lock()
        self._found: Endpoint | None = None
        self._chat = connect(base_url, model, api_key or SecretStr(""), images, timeout, retries)
        if not model:
            self._chat.model_name = model = self._only_model()
        self.name = f"{model} at {urlsplit(base_url).netloc.rpartition('@')[2]}"
        self.version = model
        self.batch_size = concurrency

    def choose(self, requests: Sequence[Choice]) -> list[Answer | GeneralistError]:
        """Answer closed questions; see ``Generalist.choose`` and the class for the modes."""
        try:
            strings = self._mode == "strings" or (self._mode == "auto" and self.endpoint.vllm)
        except GeneralistError as error:
            return [error for _ in requests]
        return (
            self._choose_by_strings(requests) if strings else self._each(self._choose_by_decoding, requests)
        )

    def generate(
        self, requests: Sequence[Sequence[BaseMessage]], *, max_new_tokens: int = 256
    ) -> list[str | GeneralistError]:
        """Answer greedily; see ``Generalist.generate``."""

        def ask(messages: Sequence[BaseMessage]) -> str:
            with self._explained():
                return _without_thoughts(self._chat.invoke(list(messages), max_tokens=max_new_tokens).text)

        return self._each(ask, requests)

    def stream(self, messages: Sequence[BaseMessage], *, max_new_tokens: int = 256) -> Iterator[str]:
        """Yield one answer piece by piece; see ``Generalist.stream``.

        Raises:
            GeneralistError: the server cannot be reached or refuses.
        """
        with self._explained():
            for chunk in self._chat.stream(list(messages), max_tokens=max_new_tokens):
                if chunk.text:
                    yield chunk.text

    def call_tools(self, messages: Sequence[BaseMessage], tools: Sequence[BaseTool]) -> AIMessage:
        """Let the model answer or call tools, by the server's own tool calling.

        Raises:
            GeneralistError: the server cannot be reached or has no tool calling.
        """
        with self._explained():
            return self._chat.bind_tools(tools).invoke(list(messages))

    def chat_model(self) -> BaseChatModel:
        """The LangChain chat model underneath."""
        return self._chat

    @property
    def endpoint(self) -> Endpoint:
        """What the server is; asked once.

        Raises:
            GeneralistError: it cannot be reached.
        """
        with self._lock:
            if self._found is None:
                with self._explained():
                    self._found = self._ask_endpoint()
            return self._found

    def _only_model(self) -> str:
        models = self.endpoint.models
        if len(models) != 1:
            listed = ", ".join(models) or "none"
            raise GeneralistError(
                f"set GSCO_GENERALIST_MODEL; the server at {place(self._url)} serves: {listed}"
            )
        return models[0]

    def _ask_endpoint(self) -> Endpoint:
        client = self._chat.root_client
        try:
            listed = list(client.models.list())
        except openai.NotFoundError:
            listed = []  # a server for one model need not list it
        vllm = any(getattr(model, "owned_by", "") == "vllm" for model in listed)
        models = tuple(model.id for model in listed)
        return Endpoint(models, vllm, self._end_of_turn(models) if vllm else "")

    def _end_of_turn(self, models: Sequence[str]) -> str:
        """The first known end-of-turn text that is a single token of the served model."""
        url = urlsplit(self._url)
        path = url.path.rstrip("/").removesuffix("/v1") + "/tokenize"
        address = urlunsplit((url.scheme, url.netloc, path, "", ""))
        for text in _ENDS_OF_TURN:
            body = {"model": self._chat.model_name or models[0], "prompt": text, "add_special_tokens": False}
            try:
                answer: Any = self._chat.root_client.post(address, body=body, cast_to=object)
            except openai.NotFoundError:
                return ""
            if answer["count"] == 1:
                return text
        return ""

    def _choose_by_strings(self, requests: Sequence[Choice]) -> list[Answer | GeneralistError]:
        jobs = [(request, option) for request in requests for option in request.options]
        tokens = iter(self._each(self._tokens_with, jobs))
        return [self._weighed(request, [next(tokens) for _ in request.options]) for request in requests]

    def _weighed(
        self, request: Choice, tokens: Sequence[list[tuple[int, float]] | GeneralistError]
    ) -> Answer | GeneralistError:
        scored: list[list[tuple[int, float]]] = []
        for option in tokens:
            if isinstance(option, GeneralistError):
                return option
            scored.append(option)
        try:
            return answer_from_scores(request.options, beyond_common_beginning(scored))
        except GeneralistError as error:
            return error

    def _tokens_with(self, job: tuple[Choice, str]) -> list[tuple[int, float]]:
        """Every token of the prompt with one option as the answer, and its log-probability."""
        request, option = job
        answer = AIMessage(label_text(option) + self.endpoint.end_of_turn)
        asked = {"continue_final_message": True, "add_generation_prompt": False, "prompt_logprobs": 0}
        with self._explained():
            payload = self._chat._get_request_payload(
                [*request.messages, answer], max_tokens=1, extra_body=asked
            )
            response = self._chat.root_client.chat.completions.create(**payload)
            listed = (response.model_extra or {}).get("prompt_logprobs")
            if not listed:
                raise GeneralistError(
                    f"the server at {place(self._url)} gives no prompt_logprobs; use the mode 'decode'"
                )
            return [_token(entry) for entry in listed if entry]

    def _choose_by_decoding(self, request: Choice) -> Answer:
        options = [label_text(option) for option in request.options]
        extra: dict[str, Any] = {"structured_outputs": {"choice": options}} if self.endpoint.vllm else {}
        with self._explained():
            said = self._chat.invoke(list(request.messages), max_tokens=_LONGEST_OPTION, extra_body=extra)
        text = _without_thoughts(said.text)
        if not text:
            raise AnswerUnparsed(f"{self.name} gave an empty answer")
        return answer_from_text(text, request.options, request.aliases)

    def _each(self, ask: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out | GeneralistError]:
        def guarded(item: _In) -> _Out | GeneralistError:
            try:
                return ask(item)
            except GeneralistError as error:
                return error

        with ThreadPoolExecutor(self.batch_size, thread_name_prefix="generalist") as pool:
            return list(pool.map(guarded, items))

    def _explained(self) -> Any:
        return explained(self._url, self._chat.model_name)


def beyond_common_beginning(options: Sequence[Sequence[tuple[int, float]]]) -> list[float]:
    """Log-likelihood of each option, less what all of them share.

    Args:
        options: for each option the tokens of prompt and option as (id, log-probability).

    Returns:
        Sums over the tokens from the first one that differs. What stands before is the prompt, and
        perhaps a beginning that all options share; it would add the same to each.
    """
    shared = 0
    for together in zip(*options, strict=False):
        if len({id for id, _ in together}) > 1:
            break
        shared += 1
    return [sum(value for _, value in tokens[shared:]) for tokens in options]


def _token(entry: dict[str, Any]) -> tuple[int, float]:
    id, value = next(iter(entry.items()))
    return int(id), float(value["logprob"])


def _without_thoughts(text: str) -> str:
    """The answer behind a reasoning model's thoughts, where the server leaves them in."""
    return text.rpartition("</think>")[2].strip()

"""A generalist behind an OpenAI-compatible server: vLLM, or any other that takes images."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import SecretStr

from ..._support.background import BackgroundLoop
from ...case import Answer
from ...errors import AnswerUnparsed, GeneralistError
from ..serving.profiles import Mode, ToolLevel, profile_of
from .deadline import Deadline, within
from .discovery import Endpoint, Level, ask_vllm, discover, tokens_of, tool_level
from .endpoint import Calling, EncodedImages, connect
from .faults import check_address, explained, place, without_version
from .option_choice import LETTERS, ChoiceRequest, choose, mode_for, without_thoughts
from .parameters import RequestParameters
from .protocol import Choice

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool

    from ...images import ImageStore

_TOOL_TOKENS = 1024
_DISCOVERY_SECONDS = 60.0
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class OpenAICompatibleGeneralist:
    """Implements ``Generalist`` over HTTP, and ``AsyncGeneralist``.

    Requests run on an event loop of this object's own, so that all callers share its connections and its
    limit. A caller that is cancelled or interrupted closes its connections, and the server stops computing.

    Args:
        base_url: up to and including ``/v1``.
        images: where image ids are looked up.
        model: name at the server; empty for the only one it serves.
        api_key: sent as bearer token; never shown.
        mode: how ``choose`` asks (see ``choosing``); ``auto`` takes the model's profile, or *strings* from
            vLLM and *decode* from any other server.
        tools: how tools are called; ``auto`` takes the model's profile, or finds out what the server can.
        timeout: seconds that the server may be silent.
        deadline: seconds for an answer, retries included.
        retries: on connection errors, time-outs, 408, 409, 429 and 5xx, with growing, jittered waits, or
            those that the server asks for.
        concurrency: requests in flight at once.
        omit: request parameters that are left out from the start (see ``parameters.OMITTABLE``); those that
            the server refuses are left out from then on anyway.

    Raises:
        ConfigurationError: the address is none, or holds a secret; a parameter cannot be left out.
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
        tools: ToolLevel = "auto",
        timeout: float = 120.0,
        deadline: float = 300.0,
        retries: int = 3,
        concurrency: int = 16,
        omit: Iterable[str] = (),
    ) -> None:
        check_address(base_url)
        self.parameters = RequestParameters(place(base_url), omit)
        """What requests to this server go without; see ``parameters``."""
        self._url = base_url
        self._deadline = deadline
        self._mode: Mode = mode
        self._tools: ToolLevel = tools
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None
        self._level: Level | None = None
        self._letters: Mapping[str, tuple[int, ...]] | None = None
        self._loop = BackgroundLoop("this generalist")
        self._slots = asyncio.Semaphore(concurrency)
        # As many again are made ready meanwhile; more would fill the memory with pixels that wait.
        self._ready = asyncio.Semaphore(2 * concurrency)
        profile = profile_of(model) if model else None
        self._connected = partial(
            connect,
            base_url,
            api_key=api_key or SecretStr(""),
            images=EncodedImages(images),
            timeout=timeout,
            deadline=deadline,
            retries=retries,
            calling=self._calling,
            parameters=self.parameters,
        )
        ends = profile.ends if profile else ()
        self._chat = self._connected(model, stop_ids=ends)
        # A second client for this object's own loop: connections must not be shared between loops.
        self._own = self._connected(model, stop_ids=ends, own_connections=True)
        self._farewell = self._own.root_async_client.close
        weakref.finalize(self, self._loop.abandon, self._farewell).atexit = False
        if not model:
            model = self._only_model()
        self.name = f"{model} at {urlsplit(base_url).netloc}"
        self.version = model
        self.batch_size = concurrency
        self.counts: Counter[str] = Counter()
        """How answers to closed questions were found (``Answer.parse``), and how many were not: those that
        matched no option as ``unparsed``, all others as ``failed``."""

    def choose(self, requests: Sequence[Choice]) -> list[Answer | GeneralistError]:
        """Answer closed questions; see ``Generalist.choose`` and ``choosing`` for the modes."""
        try:
            _ = self.endpoint
        except GeneralistError as error:
            return [error for _ in requests]
        return self._all(self._choose, requests)

    async def achoose(self, request: Choice) -> Answer:
        """Answer one closed question; cancelling it cancels its requests at the server.

        Raises:
            GeneralistError: no answer could be had.
        """
        return await self._here(self._choose(request))

    def generate(
        self, requests: Sequence[Sequence[BaseMessage]], *, max_new_tokens: int = 256
    ) -> list[str | GeneralistError]:
        """Answer greedily; see ``Generalist.generate``."""
        return self._all(lambda messages: self._generate(messages, max_new_tokens), requests)

    async def agenerate(self, messages: Sequence[BaseMessage], *, max_new_tokens: int = 256) -> str:
        """Answer one open question; cancelling it cancels its request at the server.

        Raises:
            GeneralistError: no answer could be had.
        """
        return await self._here(self._generate(messages, max_new_tokens))

    def stream(self, messages: Sequence[BaseMessage], *, max_new_tokens: int = 256) -> Iterator[str]:
        """Yield one answer piece by piece; closing the iterator stops the server.

        Raises:
            GeneralistError: the server cannot be reached or refuses.
        """
        with self._explained():
            for chunk in self._chat.stream(list(messages), max_tokens=max_new_tokens):
                if chunk.text:
                    yield chunk.text

    def call_tools(self, messages: Sequence[BaseMessage], tools: Sequence[BaseTool]) -> AIMessage:
        """Let the model answer or call tools, natively or held to a form; see ``tool_level``.

        Raises:
            GeneralistError: the server cannot be reached, or the model is not let call tools.
        """
        with self._explained():
            return self._chat.bind_tools(tools).invoke(list(messages), max_tokens=_TOOL_TOKENS)

    def prompt_ids(self, messages: Sequence[BaseMessage]) -> list[int]:
        """The prompt as the model reads it, image tokens included; vLLM only.

        Raises:
            GeneralistError: the server cannot be reached, or does not tell.
        """
        payload = self._chat._get_request_payload(list(messages))  # pyright: ignore[reportPrivateUsage]
        body = {"messages": payload["messages"], "add_generation_prompt": True}
        with self._explained():
            return list(ask_vllm(self._chat.root_client, self._chat.model_name, "/tokenize", body)["tokens"])

    def text_of(self, ids: Sequence[int]) -> str:
        """The text that token ids stand for, control tokens included; vLLM only.

        Raises:
            GeneralistError: the server cannot be reached, or does not tell.
        """
        with self._explained():
            body = {"tokens": list(ids)}
            return ask_vllm(self._chat.root_client, self._chat.model_name, "/detokenize", body)["prompt"]

    def chat_model(self) -> BaseChatModel:
        """A LangChain chat model of this server; its ``bind_tools`` works at every level but *none*.

        Each asynchronous request has a connection of its own, so that any event loop may use it.
        """
        return self._connected(
            self._chat.model_name, stop_ids=self._chat.stop_ids, own_connections=True, keep_alive=False
        )

    def close(self) -> None:
        """Cancel what still runs and close the connections."""
        self._loop.close(self._farewell)

    @property
    def mode(self) -> Mode:
        """How ``choose`` asks this server.

        Raises:
            GeneralistError: it cannot be reached.
        """
        return mode_for(self._mode, self.endpoint)

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together; 0 where the server does not tell.

        Raises:
            GeneralistError: it cannot be reached.
        """
        return self.endpoint.context_length

    @property
    def tool_level(self) -> Level:
        """How tools are called: natively, by the form of the answer, or not; found out once.

        Raises:
            GeneralistError: the server cannot be reached.
        """
        own = self._tools
        if own == "auto" and self.endpoint.profile:
            own = self.endpoint.profile.tools
        if own != "auto":
            return own
        with self._lock:
            if self._level is None:
                with self._explained(), self._discovering():
                    self._level = tool_level(
                        self._chat.root_client, self._chat.model_name, self._endpoint_known
                    )
            return self._level

    @property
    def endpoint(self) -> Endpoint:
        """What the server is; asked once.

        Raises:
            GeneralistError: it cannot be reached.
        """
        with self._lock:
            return self._endpoint_known

    @property
    def _endpoint_known(self) -> Endpoint:
        if self._endpoint is None:
            with self._explained(), self._discovering():
                self._endpoint = discover(self._chat.root_client, self._chat.model_name)
        return self._endpoint

    def _only_model(self) -> str:
        models = self.endpoint.models
        if not models and not self._url.rstrip("/").endswith("/v1"):
            raise GeneralistError(
                f"no model is listed at {place(self._url)}/models; {without_version(self._url)}"
            )
        if len(models) != 1:
            listed = ", ".join(models) or "none"
            raise GeneralistError(
                f"set GSCO_GENERALIST_MODEL; the server at {place(self._url)} serves: {listed}"
            )
        ends = self.endpoint.profile.ends if self.endpoint.profile else ()
        for chat in (self._chat, self._own):
            chat.model_name, chat.stop_ids = models[0], ends
        return models[0]

    def _calling(self) -> Calling:
        level = self.tool_level
        return Calling(level, level == "constrained" and self.endpoint.vllm)

    @cached_property
    def _choice_request(self) -> ChoiceRequest:
        payload_of = self._own._get_request_payload  # pyright: ignore[reportPrivateUsage]
        return ChoiceRequest(self.endpoint, payload_of, self._post, self._letter_ids)

    def _letter_ids(self) -> Mapping[str, tuple[int, ...]]:
        """Ids of each letter, with and without a space in front, where that is one token."""
        with self._lock:
            if self._letters is None:
                client, model = self._chat.root_client, self._chat.model_name
                single: dict[str, tuple[int, ...]] = {}
                for letter in LETTERS:
                    spelt = [tokens_of(client, model, text) for text in (letter, f" {letter}")]
                    single[letter] = tuple({ids[0] for ids in spelt if len(ids) == 1})
                self._letters = single if all(single.values()) else {}
            return self._letters

    async def _choose(self, request: Choice) -> Answer:
        if self._endpoint is None:
            await asyncio.to_thread(getattr, self, "endpoint")
        try:
            async with self._ready:
                with self._explained(), within(self._deadline):
                    answer = await choose(self.mode, request, self._choice_request)
        except AnswerUnparsed:
            self.counts["unparsed"] += 1
            raise
        except GeneralistError:
            self.counts["failed"] += 1
            raise
        self.counts[answer.parse] += 1
        return answer

    async def _generate(self, messages: Sequence[BaseMessage], max_new_tokens: int) -> str:
        with self._explained():
            async with self._slots:
                said = await self._own.ainvoke(list(messages), max_tokens=max_new_tokens)
            return without_thoughts(said.text)

    async def _post(self, body: dict[str, object]) -> dict[str, object]:
        async with self._slots:
            answer: Any = await self._own.root_async_client.post(
                "/chat/completions", body=body, cast_to=object
            )
        if not isinstance(answer, dict) or "choices" not in answer:
            raise TypeError("no chat completion")
        return answer

    def _all(
        self, ask: Callable[[_In], Awaitable[_Out]], items: Sequence[_In]
    ) -> list[_Out | GeneralistError]:
        async def guarded(item: _In) -> _Out | GeneralistError:
            try:
                return await ask(item)
            except GeneralistError as error:
                return error

        async def all_of_them() -> list[_Out | GeneralistError]:
            return list(await asyncio.gather(*map(guarded, items)))

        return self._loop.run(all_of_them())

    async def _here(self, work: Any) -> Any:
        """Do it on this object's loop, for a caller on another one."""
        return await asyncio.wrap_future(self._loop.submit(work))

    def _discovering(self) -> AbstractContextManager[Deadline]:
        """Others wait meanwhile, so a server that hangs is given up sooner."""
        return within(min(self._deadline, _DISCOVERY_SECONDS))

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self._url, self._chat.model_name)

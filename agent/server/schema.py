"""What the server takes and gives: OpenAI's chat protocol, as far as an agent can honour it.

Clients send more than an agent has a use for: tools of their own, sampling parameters, metadata. All of it
is accepted, so that every client works as it is, and what had no effect is listed in ``gsco.ignored``.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...case import Diagnosis
from ...graphs.events import EvidenceArrived, ReviewRequested
from ...models.generalist.prompts import ProfileName

MODEL = "gsco"
"""The agent, its tools hidden."""
MODEL_WITH_TOOLS = "gsco-with-tools"
"""The agent, with its tool calls and what they found shown as reasoning."""
MODELS = (MODEL, MODEL_WITH_TOOLS)

ThreadName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]
TaskName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100)]
Words = Annotated[str, Field(max_length=100_000)]


class _Open(BaseModel):
    """A record of OpenAI's: fields that we do not know are left aside."""

    model_config = ConfigDict(extra="ignore")


class ImageUrl(_Open):
    """An image: a data URI. Addresses on the web are refused."""

    url: str


class File(_Open):
    """A file: ``file_data`` is a data URI, of a DICOM file for example."""

    filename: str | None = None
    file_data: str | None = None


class ImageSource(_Open):
    """An image as Anthropic's clients send it."""

    data: str | None = None


class Part(_Open):
    """A part of a message: ``text``, ``image_url`` or ``file``; parts of other types are ignored."""

    type: str
    text: Words | None = None
    image_url: ImageUrl | str | None = None
    file: File | None = None
    file_data: str | None = None
    source: ImageSource | None = None


Content = Words | Annotated[list[Part | Words], Field(max_length=64)] | None


class Message(_Open):
    """One message of the conversation that the client resends."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None


class ResponseFormat(_Open):
    """The form of the answer: words, or the ``Diagnosis`` record in JSON."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, object] | None = None


class StreamOptions(_Open):
    """OpenAI's options of a stream."""

    include_usage: bool | None = None


class Options(BaseModel):
    """What gsco takes besides OpenAI's fields; the same names are read from ``metadata``."""

    model_config = ConfigDict(extra="forbid")

    thread: ThreadName | None = None
    """Keep the conversation under this name: then only what follows the last answer is read."""
    task: TaskName | None = None
    """What is asked where the agent's tool calls name no task."""
    group: Annotated[str, Field(max_length=200)] | None = None
    """Patient or study pseudonym, whose known cases are not retrieved."""
    tools: Literal["hidden", "shown"] | None = None
    """Whether tool calls are shown; None goes by the model's name."""


class ChatRequest(BaseModel):
    """``POST /v1/chat/completions``. Any other field is accepted and listed in ``gsco.ignored``."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    """One answer is given at a time; more are refused."""
    tools: list[object] | None = None
    """Ignored: the agent calls its own tools."""
    tool_choice: str | dict[str, object] | None = None
    """Ignored, unless it demands a call of the client's tools, which is refused."""
    response_format: ResponseFormat | None = None
    metadata: dict[str, object] | None = None
    gsco: Options | None = None


class GscoFields(BaseModel):
    """What gsco says besides OpenAI's fields."""

    thread: str | None = None
    """Where the conversation is kept, if it is."""
    diagnosis: Diagnosis | None = None
    """The decision, with all evidence; where it and the words differ, it counts."""
    diagnoses: tuple[Diagnosis, ...] = ()
    notes: tuple[str, ...] = ()
    review: ReviewRequested | None = None
    """Set where a person must decide: ``POST /v1/threads/{thread}/decision``."""
    evidence: tuple[EvidenceArrived, ...] = ()
    """With tools shown: what arrived, in order."""
    ignored: dict[str, str] = Field(default_factory=dict)
    """Fields and messages of the request that had no effect, each with the reason."""


class Usage(BaseModel):
    """Tokens of the client's words and of the answer, estimated at four characters each."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class AssistantMessage(BaseModel):
    """The agent's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    reasoning_content: str | None = None
    """With tools shown: which were called and what they found."""


class CompletionChoice(BaseModel):
    """The only choice."""

    index: Literal[0] = 0
    message: AssistantMessage
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class Completion(BaseModel):
    """The answer to ``POST /v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    choices: list[CompletionChoice]
    usage: Usage = Field(default_factory=Usage)
    gsco: GscoFields


class Model(BaseModel):
    """One entry of ``GET /v1/models``."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "gsco"


class Models(BaseModel):
    """The answer to ``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[Model]


class DiagnosisOptions(BaseModel):
    """What is asked of ``POST /v1/diagnose`` besides the images."""

    model_config = ConfigDict(extra="forbid")

    task: TaskName | None = None
    """What is asked; left out, the task is chosen from the image."""
    question: Words | None = None
    """For tasks that answer questions."""
    context: Words | None = None
    """Clinical context, for tasks that answer questions or write reports. Where a task is not named or is
    closed, question and context have no effect, and the header ``x-gsco-ignored`` names them."""
    group: Annotated[str, Field(max_length=200)] | None = None
    """Patient or study pseudonym, whose known cases are not retrieved."""
    frame: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Page, or frame of a DICOM file; left out, a DICOM file's middle one."""
    window: tuple[float, float] | None = None
    """Center and width for grey images, in the file's own values; goes before a DICOM file's own."""
    profile: ProfileName | None = None
    moed: Literal["require", "prefer", "off"] | None = None
    """Whether specialists are asked."""
    rad: Literal["require", "prefer", "off"] | None = None
    """Whether similar known cases are looked for."""
    gate: Literal["refuse", "warn", "off"] | None = None
    """What happens to an image that does not fit the task."""
    neighbours: Annotated[int, Field(ge=0, le=1000)] | None = None
    decision: Literal["auto", "fused", "adaptive", "generalist"] | None = None
    """Which rule decides."""
    max_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of the answers given alone at most this share may be wrong."""


class DiagnosisRequest(DiagnosisOptions):
    """``POST /v1/diagnose``: the fixed protocol on one case."""

    image: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1, max_length=16)]
    """A data URI, or several of one case. Any format that gsco reads, DICOM too."""


class DecisionRequest(BaseModel):
    """``POST /v1/threads/{thread}/decision``: what a person makes of the diagnosis that is under review."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["approve", "edit", "reject"]
    reviewer: Annotated[str, Field(max_length=100)] = ""
    """Who decides, where no API keys are set. With keys it is the key's user, and no other name is taken."""
    reason: Annotated[str, Field(max_length=2000)] = ""
    """Needed to edit and to reject."""
    labels: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    """To edit: the right labels."""


class Health(BaseModel):
    """Whether the server runs, and whether it can answer."""

    status: Literal["alive", "ready", "loading", "failed"]
    reason: str = ""

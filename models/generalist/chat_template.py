"""A checkpoint's chat template: messages to the text that its tokenizer reads, and where an answer ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import GeneralistError
from .messages import check_length, image_ids, neutralise_tokens, parts, without_system
from .prompts import label_text

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from transformers import PreTrainedModel, ProcessorMixin

NO_TOOLS = (
    "the model's chat template shows no tools, so it cannot call any; the fixed diagnosis graph needs no "
    "calls, and a server (GSCO_GENERALIST_URL) can hold a model to their form"
)
_ROLES = {"system": "system", "human": "user", "ai": "assistant", "tool": "tool"}


class ChatTemplate:
    """Renders conversations for one model.

    Templates differ in what they take: text as a string or as a list of parts, a system message or none. Both
    are tried once. Control tokens of this tokenizer in the messages' text are broken up first, whoever wrote
    them.

    Args:
        model: an image-text-to-text model; its generation configuration may say what ends an answer.
        processor: its processor, with ``tokenizer`` and a chat template.

    Raises:
        GeneralistError: the checkpoint lacks a chat template, an image placeholder, or an end of turn.
    """

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin) -> None:
        self._processor: Any = processor
        self.tokenizer: Any = self._processor.tokenizer
        self.generation_ends = _ends(model)
        """Ids that end an answer by the generation configuration."""
        self._placeholder_text = self._image_token(model)
        added = self.tokenizer.added_tokens_decoder.values()
        self._special = (
            *self.tokenizer.all_special_tokens,
            *(str(token) for token in added if token.special),
        )
        self._control = tuple({*self._special, *filter(_is_control, self.tokenizer.get_added_vocab())})
        self._option_ids: dict[str, tuple[int, ...]] = {}
        self._text_in_parts = not self._shows("Question", [_turn("user", "Question")])
        turns = [self._plain_turn("system", "Rules"), self._plain_turn("user", "Question")]
        self._takes_system = self._shows("Rules", turns)
        self.end_of_turn = self._end_of_turn()
        self._answer_opening, self._answer_lead = self._opening()

    @property
    def shows_tools(self) -> bool:
        """Whether the chat template has a place for tools."""
        return "tools" in str(self._processor.chat_template)

    @property
    def ends(self) -> list[int]:
        """Ids after which nothing more is generated."""
        return sorted({*self.generation_ends, self.end_of_turn})

    def options(self, options: Iterable[str]) -> tuple[tuple[int, ...], ...]:
        """Token ids of each option as a whole answer, end of turn included.

        Raises:
            GeneralistError: the tokenizer cannot tell two options apart.
        """
        ids = tuple(self._option(label_text(option)) for option in options)
        if len(set(ids)) != len(ids) or not ids:
            raise GeneralistError("there are no options, or the tokenizer cannot tell two of them apart")
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, without control tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def decode_turn(self, ids: Sequence[int]) -> str:
        """Text of generated ids up to the end of the turn; tool calls keep their control tokens."""
        own = [id for id in ids[: _index(ids, self.end_of_turn)] if id != self.tokenizer.pad_token_id]
        return self.tokenizer.decode(own, skip_special_tokens=False).strip()

    def render(
        self,
        messages: Sequence[BaseMessage],
        *,
        answer_follows: bool = True,
        tools: Sequence[Mapping[str, object]] = (),
    ) -> str:
        """The messages in the model's own chat template, one placeholder per image.

        Raises:
            GeneralistError: a message or the tool list cannot be put into this model's template.
        """
        check_length(messages)
        if not self._takes_system:
            messages = without_system(messages)
        conversation = [self._turn(message) for message in messages]
        listed: dict[str, object] = {"tools": [dict(tool) for tool in tools]} if tools else {}
        if tools and not self.shows_tools:
            raise GeneralistError(NO_TOOLS)
        text = self._rendered(conversation, answer_follows=answer_follows, **listed)
        count = len(image_ids(messages))
        if text.count(self._placeholder_text) != count:
            raise GeneralistError(f"the model's chat template does not place {count} images; check it")
        return text

    def _turn(self, message: BaseMessage) -> dict[str, object]:
        if message.type not in _ROLES:
            raise GeneralistError(f"a message of type {message.type!r} cannot be sent to a generalist")
        images, text = parts(message)
        text = neutralise_tokens(text, self._special if message.type == "ai" else self._control)
        turn = self._plain_turn(_ROLES[message.type], text, len(images))
        if calls := getattr(message, "tool_calls", ()):
            turn["tool_calls"] = [
                {"type": "function", "function": {"name": call["name"], "arguments": call["args"]}}
                for call in calls
            ]
        return turn

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []

    def _option(self, option: str) -> tuple[int, ...]:
        if option not in self._option_ids:
            opening = self._answer_opening
            text = self._answer_lead + neutralise_tokens(option, self._control)
            # Tokenised behind the turn's opening, since some tokenizers treat a text's start specially.
            alone, whole = self._tokenise([opening, opening + text])
            ids = whole[len(alone) :] if whole[: len(alone)] == alone else self._tokenise([text])[0]
            self._option_ids[option] = (*ids, self.end_of_turn)
        return self._option_ids[option]

    def _opening(self) -> tuple[str, str]:
        """What the template opens an answer with, and what it puts between that and the answer's text.

        Idefics opens with ``Assistant:`` and writes ``Assistant: text``: the model's own answer begins with a
        space. Where a template writes answers in another way than it opens them, nothing is put between.
        """
        from langchain_core.messages import AIMessage, HumanMessage

        question = [HumanMessage("Question")]
        opened, closed = self.render(question), self.render(question, answer_follows=False)
        answered = self.render([*question, AIMessage("Answer")], answer_follows=False)
        lead = answered[len(opened) :].partition("Answer")[0] if answered.startswith(opened) else ""
        return opened.removeprefix(closed), lead

    def _plain_turn(self, role: str, text: str, images: int = 0) -> dict[str, object]:
        if not images and not self._text_in_parts:
            return _turn(role, text)
        return _turn(role, [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}])

    def _rendered(
        self, conversation: list[dict[str, object]], *, answer_follows: bool, **listed: object
    ) -> str:
        try:
            return self._processor.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=answer_follows, **listed
            )
        except Exception as error:  # jinja raises what the template's author chose
            raise GeneralistError(f"the model's chat template refuses these messages: {error}") from error

    def _shows(self, text: str, conversation: list[dict[str, object]]) -> bool:
        """Whether a text stands in what the template makes of a conversation."""
        try:
            return text in self._rendered(conversation, answer_follows=False)
        except GeneralistError:
            return False

    def _image_token(self, model: PreTrainedModel) -> str:
        """The text that the template puts where an image stands."""
        token = getattr(self._processor, "image_token", None)
        if not isinstance(token, str) and (id := getattr(model.config, "image_token_id", None)) is not None:
            token = str(self.tokenizer.convert_ids_to_tokens(int(id)))
        if not token or not self._processor.chat_template:
            raise GeneralistError("the checkpoint has no chat template or no image token; use it by a server")
        return token

    def _end_of_turn(self) -> int:
        """The token that the template puts behind an answer, or else that of the generation configuration."""
        from langchain_core.messages import AIMessage, HumanMessage

        text = self.render([HumanMessage("Question"), AIMessage("Answer")], answer_follows=False)
        ids = self._tokenise([text.rpartition("Answer")[2]])[0]
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        known = (*(id for id in ids if id in special), *self.generation_ends, self.tokenizer.eos_token_id)
        end = next((id for id in known if id is not None), None)
        if end is None:
            raise GeneralistError(
                "neither chat template nor generation configuration nor tokenizer says which token"
                " ends an answer, so options cannot be told from their beginnings; set eos_token_id in the"
                " checkpoint's generation_config.json"
            )
        return int(end)


def _ends(model: PreTrainedModel) -> tuple[int, ...]:
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return () if own is None else (own,) if isinstance(own, int) else tuple(own)


def _turn(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


def _index(ids: Sequence[int], end: int) -> int:
    return next((place for place, id in enumerate(ids) if id == end), len(ids))


def _is_control(token: str) -> bool:
    return len(token) > 2 and token[0] + token[-1] in ("<>", "[]")

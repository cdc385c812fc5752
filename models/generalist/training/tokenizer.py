"""The mini generalist's tokenizer: byte-level BPE with ChatML's control tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PADDING = "<|endoftext|>"
TURN = "<|im_start|>"
END_OF_TURN = "<|im_end|>"
IMAGE = "<IMG_CONTEXT>"
IMAGE_START = "<img>"
IMAGE_END = "</img>"
VIDEO = "<video>"
CONTROL_TOKENS = (
    PADDING,
    TURN,
    END_OF_TURN,
    IMAGE_START,
    IMAGE_END,
    IMAGE,
    VIDEO,
    "<tools>",
    "</tools>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)

CHAT_TEMPLATE = (
    "{%- macro said(content) -%}{%- if content is string -%}{{ content }}"
    "{%- else -%}{%- for part in content or [] -%}"
    "{%- if part['type'] == 'image' -%}{{ '<IMG_CONTEXT>\n' }}"
    "{%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{%- endmacro -%}"
    "{%- set own = messages and messages[0]['role'] == 'system' -%}"
    "{{ '<|im_start|>system\n' }}"
    "{%- if own -%}{{ said(messages[0]['content']) }}{%- else -%}{{ 'Answer the questions.' }}{%- endif -%}"
    "{%- if tools -%}{{ '\n<tools>' }}"
    "{%- for tool in tools -%}{{ '\n' + (tool | tojson) }}{%- endfor -%}{{ '\n</tools>' }}{%- endif -%}"
    "{{ '<|im_end|>' }}"
    "{%- for message in messages[1 if own else 0:] -%}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- if message['role'] == 'tool' -%}"
    "{{ '<tool_response>\n' + said(message['content']) + '\n</tool_response>' }}"
    "{%- else -%}{{ said(message['content']) }}{%- endif -%}"
    "{%- for call in message['tool_calls'] or [] -%}{%- set function = call['function'] -%}"
    "{{ '<tool_call>\n{\"name\": ' + (function['name'] | tojson) + ', \"arguments\": ' }}"
    "{{ (function['arguments'] | tojson) + '}\n</tool_call>' }}{%- endfor -%}"
    "{{ '<|im_end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""ChatML as MedDr has it: no line break behind a turn, images before the text. Tools as Hermes has them:
the list behind the system message, a call and a response as JSON or text between their control tokens."""


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one control token."""
    found = tokenizer.convert_tokens_to_ids(token)
    return found if isinstance(found, int) else found[0]


def train_tokenizer(corpus: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Learn the merges. Equal text in equal order gives an equal tokenizer.

    Args:
        corpus: texts to learn from. Digits stay single, so that numbers are read digit by digit.
        vocabulary: size including control tokens and the 256 bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(CONTROL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PADDING,
        eos_token=END_OF_TURN,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        extra_special_tokens={
            "start_image_token": IMAGE_START,
            "end_image_token": IMAGE_END,
            "context_image_token": IMAGE,
            "video_token": VIDEO,
        },
        chat_template=CHAT_TEMPLATE,
    )

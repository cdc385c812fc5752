"""Random checkpoints of the layouts that vision-language models come in, small, saved by transformers itself.

Templates are those of the published checkpoints, shortened to what a diagnosis uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from .conftest import CORPUS, make_tiny

QWEN_TEMPLATE = (
    "{%- if tools %}{{ '<|im_start|>system\n' }}"
    "{%- if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{%- endif %}"
    "{{ '# Tools\n<tools>' }}{%- for tool in tools %}{{ '\n' }}{{ tool | tojson }}{%- endfor %}"
    '{{ \'\n</tools>\nAnswer with <tool_call>\n{"name": NAME, "arguments": ARGUMENTS}\n</tool_call>\' }}'
    "{{ '<|im_end|>\n' }}"
    "{%- elif messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}"
    "{%- for m in messages %}{%- if not (tools and loop.first and m.role == 'system') %}"
    "{{ '<|im_start|>' + m.role + '\n' }}{%- if m.content is string %}{{ m.content }}{%- else %}"
    "{%- for part in m.content %}{%- if part.type == 'image' %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else %}{{ part.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}{{ '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
ONEVISION_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\n' + content['text'] }}{% endfor %}{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
IDEFICS_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}"
    "{%- if messages[0]['content'] is string -%}{%- set first = messages[0]['content'] + '\n\n' -%}"
    "{%- else -%}{%- set first = messages[0]['content'][0]['text'] + '\n\n' -%}{%- endif -%}"
    "{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first = '' -%}"
    "{%- set loop_messages = messages -%}{%- endif -%}{%- for message in loop_messages -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{%- endif -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}{%- else -%}"
    "{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- else -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{ '<end_of_turn>\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
TEXT = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "max_position_embeddings": 4096,
    "initializer_range": 0.15,
}
SIGLIP = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 56,
    "patch_size": 14,
    "initializer_range": 0.3,
}


def tokenizer(control: list[str], **named: Any) -> Any:
    """A byte-level tokenizer with the given control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        CORPUS * 2,
        trainers.BpeTrainer(
            vocab_size=700, special_tokens=control, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="left", **named)


def ids_of(tokens: Any, **names: str) -> dict[str, int]:
    return {name: tokens.convert_tokens_to_ids(token) for name, token in names.items()}


def qwen(folder: Path) -> None:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokens = tokenizer(
        [
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|vision_start|>",
            "<|vision_end|>",
            "<|image_pad|>",
            "<|video_pad|>",
            "<tool_call>",
            "</tool_call>",
        ],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 128,
        "patch_size": 14,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.3,
    }
    text = {
        **TEXT,
        "vocab_size": len(tokens),
        "bos_token_id": None,
        "eos_token_id": tokens.eos_token_id,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0},
    }
    ends = ids_of(
        tokens,
        image_token_id="<|image_pad|>",
        video_token_id="<|video_pad|>",
        vision_start_token_id="<|vision_start|>",
        vision_end_token_id="<|vision_end|>",
    )
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ends)
    size = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=size),
        tokens,
        Qwen2VLVideoProcessor(size=size),
        chat_template=QWEN_TEMPLATE,
    )
    save(folder, Qwen2_5_VLForConditionalGeneration(config), processor)


def gemma(folder: Path) -> None:
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
    )

    tokens = tokenizer(
        [
            "<pad>",
            "<eos>",
            "<bos>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
            "<image_soft_token>",
        ],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )
    tokens.add_tokens(["\n" * count for count in range(1, 5)])  # vLLM looks for them in the vocabulary
    ends = ids_of(
        tokens,
        boi_token_index="<start_of_image>",
        eoi_token_index="<end_of_image>",
        image_token_id="<image_soft_token>",
    )
    text = {**TEXT, "vocab_size": len(tokens), "head_dim": 64, "sliding_window": 512}
    text |= {"layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 64}
    config = Gemma3Config(text_config=text, vision_config=SIGLIP, mm_tokens_per_image=4, **ends)
    images = Gemma3ImageProcessor(size={"height": 56, "width": 56})
    processor = Gemma3Processor(images, tokens, chat_template=GEMMA_TEMPLATE, image_seq_length=4)
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.3)
    model.generation_config.eos_token_id = [1, tokens.convert_tokens_to_ids("<end_of_turn>")]
    save(folder, model, processor)


def onevision(folder: Path) -> None:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    tokens = tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    points = [[56, 56], [56, 112], [112, 56], [112, 112]]
    text = {**TEXT, "model_type": "qwen2", "vocab_size": len(tokens), "eos_token_id": tokens.eos_token_id}
    config = LlavaOnevisionConfig(
        text_config=text,
        vision_config={**SIGLIP, "model_type": "siglip_vision_model", "vision_use_head": False},
        image_grid_pinpoints=points,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        **ids_of(tokens, image_token_id="<image>", video_token_id="<video>"),
    )
    size = {"height": 56, "width": 56}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=points),
        tokens,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=ONEVISION_TEMPLATE,
    )
    save(folder, LlavaOnevisionForConditionalGeneration(config), processor)


def idefics(folder: Path) -> None:
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    places = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    tokens = tokenizer(
        [
            "<|endoftext|>",
            "<|im_start|>",
            "<fake_token_around_image>",
            "<image>",
            "<end_of_utterance>",
            "<global-img>",
            *places,
        ],
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|endoftext|>",
    )
    text = {**TEXT, "model_type": "llama", "vocab_size": len(tokens), "pad_token_id": 0}
    text |= {"eos_token_id": tokens.eos_token_id, "bos_token_id": 1}
    config = Idefics3Config(
        text_config=text,
        vision_config=SIGLIP,
        scale_factor=2,
        **ids_of(tokens, image_token_id="<image>"),
    )
    images = Idefics3ImageProcessor(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    processor = Idefics3Processor(images, tokens, image_seq_len=4, chat_template=IDEFICS_TEMPLATE)
    save(folder, Idefics3ForConditionalGeneration(config), processor)


def save(folder: Path, model: Any, processor: Any) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _name_as_published(folder / "model.safetensors")


def _name_as_published(file: Path) -> None:
    """Weights of a SigLIP tower under the names that the hub's checkpoints and other readers have."""
    from safetensors.torch import load_file, save_file

    tower, inner = "vision_tower.", "vision_tower.vision_model."
    weights = {
        name.replace(tower, inner) if name.startswith(tower) and inner not in name else name: weight
        for name, weight in load_file(file).items()
    }
    save_file(weights, file, {"format": "pt"})


FAMILIES: Mapping[str, Callable[[Path], Any]] = {
    "qwen2.5-vl": qwen,
    "gemma3": gemma,
    "llava-onevision": onevision,
    "idefics3": idefics,
    "internvl": make_tiny,
}
CALLS_TOOLS = ("qwen2.5-vl",)


def make_family(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    FAMILIES[name](folder)
    return folder

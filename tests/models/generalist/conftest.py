from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gsco.case import ImageRef
from gsco.images import ImageStore
from gsco.models.generalist.in_process import InProcessGeneralist

CHAT_TEMPLATE = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{%- if m['content'] is string -%}{{ m['content'] }}{%- else -%}{%- for b in m['content'] -%}"
    "{%- if b['type'] == 'image' -%}{{ '<IMG_CONTEXT>\n' }}{%- else -%}{{ b['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}{{ '<|im_end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
CONTROL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<video>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
]
CORPUS = [
    "You are a helpful medical assistant. Your task is disease diagnosis. You are given a pathology image.",
    "The possible diagnoses are: 'normal', 'tumor', 'benign', 'malignant'. yes no glioma meningioma",
    "The diagnoses of the most similar cases (share, similarity) are normal 3/10 91%, tumor 7/10 90%.",
    "The diagnoses of the specialist models (probability, reliability) are tumor 90% 95%.",
    "The response should only contain one option. system Answer the questions. user assistant",
]


def make_tiny(folder: Path) -> Path:
    """A random InternVL of 160,000 weights, saved by transformers itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
        InternVLVisionConfig,
        LlamaConfig,
        PreTrainedTokenizerFast,
    )

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        CORPUS * 2,
        trainers.BpeTrainer(
            vocab_size=600, special_tokens=CONTROL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    size = {"height": 56, "width": 56}
    vision = InternVLVisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=[56, 56],
        patch_size=[14, 14],
        initializer_range=0.3,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=512,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    torch.manual_seed(0)
    model = InternVLForConditionalGeneration(config)
    images = GotOcr2ImageProcessor(
        size=size, crop_to_patches=False, min_patches=1, max_patches=1, image_mean=[0.485, 0.456, 0.406]
    )
    processor = InternVLProcessor(
        images, tokenizer, InternVLVideoProcessor(size=size), image_seq_length=4, chat_template=CHAT_TEMPLATE
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    return ImageStore(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def refs(images: ImageStore) -> list[ImageRef]:
    """Six images of different sizes, grey and coloured."""
    noise = np.random.default_rng(0)
    shapes = [(60, 80, 3), (224, 300, 3), (56, 56, 3), (90, 90), (200, 40, 3), (33, 70)]
    return [images.put(noise.integers(0, 255, shape, dtype=np.uint8)) for shape in shapes]


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path, images: ImageStore) -> InProcessGeneralist:
    return InProcessGeneralist.load(tiny_folder, images, device="cpu")

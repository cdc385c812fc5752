"""``gsco train generalist`` on a MedDr-class checkpoint: LoRA through peft, the loop through transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...._support.progress import Progress
from ....errors import ConfigurationError
from ..conversations import read_collections
from .config import FineTuning
from .layout import load_layout, read_config
from .samples import Collator, Samples, Template

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Trainer

NEEDED = "fine-tuning needs peft and accelerate: pip install 'gsco[train]'"
ADAPTER = "adapter_model.safetensors"
CARD = "fine_tuning.json"


def fine_tune(config: FineTuning) -> Path:
    """Train the adapter, going on from the last checkpoint in ``config.out``.

    Returns:
        The folder with the adapter; ``merge`` puts it into the checkpoint.

    Raises:
        ConfigurationError: a package, the checkpoint, a collection or an image cannot be used, or the
            folder holds an adapter of another configuration.
    """
    _claim(config)
    if (config.out / ADAPTER).is_file():
        return config.out
    folder = local_folder(config.base)
    trainer, samples = trainer_of(config, folder)
    if samples.left_out:
        long = f"{samples.left_out} conversations are longer than {config.max_tokens} tokens, left out"
        Progress("", 1).line(long)
    trainer.train(resume_from_checkpoint=_last_checkpoint(config.out))
    model: Any = trainer.model
    model.save_pretrained(config.out)
    return config.out


def trainer_of(config: FineTuning, folder: Path) -> tuple[Trainer, Samples]:
    """The trainer, ready to run, and what it learns from."""
    try:
        from accelerate import PartialState
        from transformers import Trainer, TrainingArguments
    except ImportError as error:
        raise ConfigurationError(NEEDED) from error
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    content = read_config(folder)
    vision, ratio = content["vision_config"], float(content.get("downsample_ratio", 0.5))
    if vision["image_size"] != config.image_size:
        raise ConfigurationError(
            f"the checkpoint sees {vision['image_size']} pixels, the configuration says {config.image_size}"
        )
    template = Template(tokenizer, int(config.image_size / vision["patch_size"] * ratio) ** 2)
    collections = [one for path in config.collections for one in read_collections(path)]
    samples = Samples(collections, template, config.image_size, config.max_tokens)
    bf16 = config.precision == "bf16" or (config.precision == "auto" and torch.cuda.is_available())
    devices = PartialState().num_processes
    arguments = TrainingArguments(
        output_dir=str(config.out),
        per_device_train_batch_size=min(config.device_batch, config.global_batch),
        gradient_accumulation_steps=accumulation(config, devices),
        learning_rate=config.lr,
        num_train_epochs=config.epochs,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        bf16=bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        deepspeed=None if config.deepspeed is None else str(config.deepspeed),
        save_steps=config.save_every,
        save_total_limit=2,
        logging_steps=10,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        seed=config.seed,
    )
    model = adapted(folder, config, torch.bfloat16 if bf16 else torch.float32)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    collator = Collator(int(padding or 0), template.image_id)
    trainer: Any = Trainer(model=model, args=arguments, train_dataset=samples, data_collator=collator)
    return trainer, samples


def adapted(folder: Path, config: FineTuning, dtype: torch.dtype) -> PeftModel:
    """The checkpoint with a fresh adapter on the language model; nothing else learns."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ConfigurationError(NEEDED) from error
    names = "|".join(map(re.escape, config.lora.targets))
    settings = LoraConfig(
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=rf"language_model\..*\.({names})",
        base_model_name_or_path=config.base,
    )
    model: Any = load_layout(folder, dtype)
    torch.manual_seed(config.seed)
    return get_peft_model(model, settings)


def accumulation(config: FineTuning, devices: int) -> int:
    """Passes per step.

    Raises:
        ConfigurationError: the global batch is not a multiple of what all devices take at once.
    """
    at_once = min(config.device_batch, config.global_batch) * devices
    if config.global_batch % at_once:
        raise ConfigurationError(
            f"global_batch {config.global_batch} is not a multiple of device_batch × devices, {at_once}"
        )
    return config.global_batch // at_once


def local_folder(source: str) -> Path:
    """The checkpoint's folder; a hub id is downloaded.

    Raises:
        ConfigurationError: there is no such folder, and nothing can be downloaded.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(source, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja"])
        )
    except Exception as error:  # the hub client has many
        raise ConfigurationError(f"no folder and no reachable hub model: {source} ({error})") from error


def _claim(config: FineTuning) -> None:
    """Write down whose folder it is, or see that it is this configuration's."""
    own = config.model_dump_json(exclude={"out"}, indent=1)
    card = config.out / CARD
    if card.is_file() and card.read_text(encoding="utf-8") != own:
        raise ConfigurationError(f"{config.out} belongs to another configuration; name another folder")
    config.out.mkdir(parents=True, exist_ok=True)
    card.write_text(own, encoding="utf-8")


def _last_checkpoint(folder: Path) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    return get_last_checkpoint(str(folder)) if folder.is_dir() else None

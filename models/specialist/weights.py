"""Weights on disk: safetensors, whole or as an overlay on a shared backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...disk import read_file, replacing
from ...errors import SpecialistError
from .card import Weights

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_FILE = "weights.safetensors"

Dtype = Literal["int8", "float16", "float32"]

_MAX_BYTES = 2**33
_SMALL = 2**14
"""Matrices with fewer elements are not worth eight bits."""
_SCALE = "::scale"
"""Suffix of the tensor that holds an int8 tensor's scales."""


def round_state(state: Mapping[str, Tensor], dtype: Dtype) -> dict[str, Tensor]:
    """Return the float32 tensors that will be read back after storing as ``dtype``.

    Raises:
        SpecialistError: a weight is not finite, or does not fit into float16.
    """
    return unpack_state(pack_state(state, dtype))


def pack_state(state: Mapping[str, Tensor], dtype: Dtype) -> dict[str, Tensor]:
    """Return the tensors as they are stored.

    ``int8`` is symmetric with one scale per output channel. A small matrix (a classifier, whose inputs
    may differ in scale by orders of magnitude) is stored as float16 instead. Tensors of one dimension
    (biases, normalisation statistics) keep float32: they are small, and running variances leave
    float16's range.

    Raises:
        SpecialistError: a weight is not finite, or does not fit into float16.
    """
    import torch

    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        if tensor.is_floating_point():
            tensor = tensor.float()
            small = tensor.ndim == 2 and tensor.numel() < _SMALL
            if tensor.ndim > 1 and (dtype == "float16" or (dtype == "int8" and small)):
                tensor = tensor.half()
            if not bool(torch.isfinite(tensor).all()):
                raise SpecialistError(
                    f"tensor {name!r} is not finite as {dtype}; store float32 or train with a lower rate"
                )
            if dtype == "int8" and tensor.ndim > 1 and not small:
                scale = tensor.abs().flatten(1).amax(1).clamp_min(1e-12) / 127
                packed[name + _SCALE] = scale
                tensor = (tensor / scale.view(-1, *[1] * (tensor.ndim - 1))).round().to(torch.int8)
        packed[name] = tensor
    return packed


def unpack_state(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return stored tensors as float32 (counters keep their type)."""
    state: dict[str, Tensor] = {}
    for name, tensor in packed.items():
        if name.endswith(_SCALE):
            continue
        scale = packed.get(name + _SCALE)
        if scale is not None:
            tensor = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
        state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def write_weights(folder: Path, state: Mapping[str, Tensor], dtype: Dtype) -> Weights:
    """Write the weights' file atomically and return its entry for the card."""
    from safetensors.torch import save

    payload = save(pack_state(state, dtype))
    with replacing(folder / WEIGHTS_FILE) as fresh:
        fresh.write_bytes(payload)
    return Weights(file=WEIGHTS_FILE, sha256=hashlib.sha256(payload).hexdigest(), dtype=dtype)


def read_weights(folder: Path, weights: Weights, *, without: Collection[str] = ()) -> dict[str, Tensor]:
    """Read the weights' file as float32 tensors.

    Args:
        folder: that holds the file.
        weights: the card's entry.
        without: names of tensors that are not wanted.

    Raises:
        SpecialistError: the file is missing, or is not the one that the card describes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state = load(checked_bytes(folder, weights))
    except SafetensorError as error:
        raise SpecialistError(f"the weights of {folder.name!r} are not safetensors: {error}") from error
    try:
        return unpack_state({name: tensor for name, tensor in state.items() if name not in without})
    except RuntimeError as error:
        raise SpecialistError(f"the weights of {folder.name!r} do not fit their scales: {error}") from error


def checked_bytes(folder: Path, weights: Weights) -> bytes:
    """The weights' file as it is, if it is the one that the card describes.

    Raises:
        SpecialistError: it is missing, or another one.
    """
    if Path(weights.file).name != weights.file:
        raise SpecialistError(f"the card of {folder.name!r} names weights outside its folder")
    try:
        payload = read_file(folder / weights.file, _MAX_BYTES)
    except OSError as error:
        raise SpecialistError(f"the weights of {folder.name!r} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(payload).hexdigest()
    if found != weights.sha256:
        raise SpecialistError(
            f"the weights of {folder.name!r} have sha256 {found[:12]}, its card says {weights.sha256[:12]}: "
            "the file is damaged or was replaced; copy or train it again"
        )
    return payload


def read_foreign_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict written by other software: safetensors, or a torch file without pickled code.

    Common wrappings (``state_dict``, ``model``, a ``module.`` prefix) are taken off.

    Raises:
        SpecialistError: it cannot be read, or holds more than tensors.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SpecialistError(f"no weights' file at {path}") from error
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise SpecialistError(
            f"{path.name} cannot be read as weights (only tensors are accepted): {error}"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(tensor, torch.Tensor) for tensor in content.values()
    ):
        raise SpecialistError(f"{path.name} holds no state dict (a mapping from names to tensors)")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def overlay_of(state: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return only the tensors that the base lacks or holds with other values."""
    import torch

    return {
        name: tensor
        for name, tensor in state.items()
        if name not in base or not torch.equal(tensor, base[name])
    }

"""Weights that were made to do harm: refused with a ``SpecialistError``, and nothing of theirs runs."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gsco.errors import SpecialistError
from gsco.models.specialist.report import ReportSpecialist
from gsco.models.specialist.specialist import TimmSpecialist
from gsco.models.specialist.weights import read_foreign_state
from safetensors.torch import load, save

from ...memory import peak_above_rest

pytestmark = pytest.mark.attack


class Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def _header(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _changed(whole: bytes, change: Callable[[dict[str, torch.Tensor]], object]) -> bytes:
    state = load(whole)
    change(state)
    return save({name: tensor.contiguous() for name, tensor in state.items()})


def _rename(state: dict[str, torch.Tensor]) -> None:
    state["../../escape"] = state.pop(next(iter(state)))


def _widen(state: dict[str, torch.Tensor]) -> None:
    name = next(iter(state))
    state[name] = torch.zeros(3, *state[name].shape)


def _bad_scale(state: dict[str, torch.Tensor]) -> None:
    name = next(name for name, tensor in state.items() if tensor.ndim > 1)
    state[f"{name}::scale"] = torch.zeros(7)


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE: dict[str, Callable[[bytes, Path], bytes]] = {
    "pickle": lambda whole, mark: pickle.dumps(Bomb(mark)),
    "empty": lambda whole, mark: b"",
    "header beyond the file": lambda whole, mark: struct.pack("<Q", 2**62) + whole[8:],
    "header of 100 MB": lambda whole, mark: struct.pack("<Q", 100_000_000) + b"{" * 1000,
    "no JSON": lambda whole, mark: struct.pack("<Q", 9) + b"not json!",
    "deep JSON": lambda whole, mark: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "offsets outside": lambda whole, mark: _header({"x": {**TENSOR, "data_offsets": [0, 2**40]}}, bytes(8)),
    "offsets that overlap": lambda whole, mark: _header({"x": TENSOR, "y": TENSOR}, bytes(8)),
    "a shape without data": lambda whole, mark: _header({"x": {**TENSOR, "shape": [2**40, 2**20]}}, bytes(8)),
    "an unknown type": lambda whole, mark: _header({"x": {**TENSOR, "dtype": "OBJECT"}}, bytes(8)),
    "cut off": lambda whole, mark: whole[: len(whole) // 2],
    "another name": lambda whole, mark: _changed(whole, _rename),
    "another shape": lambda whole, mark: _changed(whole, _widen),
    "a scale that fits nothing": lambda whole, mark: _changed(whole, _bad_scale),
}


def with_weights(trained: Path, folder: Path, content: bytes) -> Path:
    """A specialist with other weights, whose card vouches for them."""
    shutil.copytree(trained, folder)
    card = json.loads((folder / "card.json").read_bytes())
    card["weights"]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / "weights.safetensors").write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_weights_are_refused(trained: Path, tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "ran"
    content = HOSTILE[kind]((trained / "weights.safetensors").read_bytes(), mark)
    folder = with_weights(trained, tmp_path / trained.name, content)
    with pytest.raises(SpecialistError):
        TimmSpecialist.load(folder)
    assert not mark.exists()


@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
def test_weights_that_never_end_are_not_read(trained: Path, tmp_path: Path, target: str) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / trained.name))
    (folder / "weights.safetensors").unlink()
    if target == "pipe":
        os.mkfifo(folder / "weights.safetensors")
    else:
        (folder / "weights.safetensors").symlink_to(target)
    with pytest.raises(SpecialistError, match="not a regular file"):
        TimmSpecialist.load(folder)


def test_a_foreign_checkpoint_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"state_dict": Bomb(mark)}, tmp_path / "x.pth")
    (tmp_path / "y.pth").write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    for name in ("x.pth", "y.pth"):
        with pytest.raises(SpecialistError, match="only tensors are accepted"):
            read_foreign_state(tmp_path / name)
    assert not mark.exists()


def test_a_report_model_larger_than_its_weights_allocates_nothing(
    report_folder: Path, tmp_path: Path
) -> None:
    whole = report_folder / "report" / "writer"
    folder = Path(shutil.copytree(whole, tmp_path / "writer"))
    config = json.loads((folder / "config.json").read_bytes())
    config["decoder"].update(num_hidden_layers=24, hidden_size=4096, intermediate_size=16384)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert ReportSpecialist.load(whole).card.name == "writer"

    def load() -> None:
        with pytest.raises(SpecialistError, match="numbers"):
            ReportSpecialist.load(folder)

    assert peak_above_rest(load) < 250 * 2**20

from pathlib import Path

import pytest
import torch
from gsco.errors import ConfigurationError
from gsco.models.generalist.training.config import Stage
from gsco.models.generalist.training.stage import Optimisation, read_checkpoint, schedule
from torch import nn

TOTAL = 12


def network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    # Batch normalisation computes in float32 only.
    middle = nn.BatchNorm1d(8) if dtype == torch.float32 else nn.Identity()
    return nn.Sequential(nn.Linear(4, 8), middle, nn.Dropout(0.3), nn.Linear(8, 2))


def optimisation(path: Path, dtype: torch.dtype = torch.float32, fingerprint: str = "one") -> Optimisation:
    settings = Stage(lr=0.05)
    return Optimisation(
        network(dtype), settings, TOTAL, dtype=dtype, checkpoint=path, fingerprint=fingerprint
    )


def loss_of(stage: Optimisation, stop: int | None = None):
    def loss(step: int) -> torch.Tensor:
        if step == stop:
            raise KeyboardInterrupt
        weight = next(stage.module.parameters())
        inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step)).to(weight.dtype)
        return nn.functional.cross_entropy(stage.module(inputs).float(), (inputs[:, 0] > 0).long())

    return loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = optimisation(tmp_path / "whole.pt", dtype)
    whole.run(loss_of(whole), "toy")
    first = optimisation(tmp_path / "parts.pt", dtype)
    first._every = 0.0  # a checkpoint at every step
    with pytest.raises(KeyboardInterrupt):
        first.run(loss_of(first, stop=5), "toy")
    second = optimisation(tmp_path / "parts.pt", dtype)
    assert second.step == 5
    second.run(loss_of(second), "toy")
    ended = whole.module.state_dict()
    assert ("1.running_mean" in ended) == (dtype == torch.float32)
    for name, kept in second.module.state_dict().items():
        assert torch.equal(kept, ended[name]), name
    ended = [read_checkpoint(tmp_path / name)["weights"] for name in ("whole.pt", "parts.pt")]
    assert all(torch.equal(ended[0][name], ended[1][name]) for name in ended[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_falls(tmp_path: Path, dtype: torch.dtype) -> None:
    stage = optimisation(tmp_path / "x.pt", dtype)
    stage.module.eval()
    before = loss_of(stage)(99).item()
    stage.run(loss_of(stage), "toy")
    stage.module.eval()
    assert loss_of(stage)(99).item() < 0.7 * before


def test_masters_are_finer_than_the_weights(tmp_path: Path) -> None:
    stage = optimisation(tmp_path / "x.pt", torch.bfloat16)
    stage.run(loss_of(stage), "toy")
    master = read_checkpoint(tmp_path / "x.pt")["weights"]["0.weight"]
    assert master.dtype == torch.float32
    assert not torch.equal(master, master.bfloat16().float())


def test_a_finished_stage_does_nothing(tmp_path: Path) -> None:
    stage = optimisation(tmp_path / "x.pt")
    stage.run(loss_of(stage), "toy")
    again = optimisation(tmp_path / "x.pt")
    assert again.finished
    again.run(loss_of(again, stop=TOTAL), "toy")


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    optimisation(tmp_path / "x.pt").save()
    with pytest.raises(ConfigurationError, match="another configuration"):
        optimisation(tmp_path / "x.pt", fingerprint="two")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"cut off")
    with pytest.raises(ConfigurationError, match=r"x\.pt"):
        optimisation(tmp_path / "x.pt")


def test_no_half_written_file_stays(tmp_path: Path) -> None:
    optimisation(tmp_path / "x.pt").save()
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_the_rate_warms_up_and_decays() -> None:
    rates = [schedule(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.02

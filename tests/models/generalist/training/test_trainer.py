import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gsco.errors import ConfigurationError
from gsco.models.generalist.training.config import Stage
from gsco.models.generalist.training.trainer import Optimisation, read_checkpoint, schedule
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


def losses_of(stage: Optimisation, stop: int | None = None):
    def losses(step: int) -> list[torch.Tensor]:
        if step == stop:
            raise KeyboardInterrupt
        weight = next(stage.module.parameters())
        inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step)).to(weight.dtype)
        return [nn.functional.cross_entropy(stage.module(inputs).float(), (inputs[:, 0] > 0).long())]

    return losses


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = optimisation(tmp_path / "whole.pt", dtype)
    whole.run(losses_of(whole), "toy")
    first = optimisation(tmp_path / "parts.pt", dtype)
    first._every = 0.0  # a checkpoint at every step
    with pytest.raises(KeyboardInterrupt):
        first.run(losses_of(first, stop=5), "toy")
    second = optimisation(tmp_path / "parts.pt", dtype)
    assert second.step == 5
    second.run(losses_of(second), "toy")
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
    before = losses_of(stage)(99)[0].item()
    stage.run(losses_of(stage), "toy")
    stage.module.eval()
    assert losses_of(stage)(99)[0].item() < 0.7 * before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_in_parts_train_as_their_sum(tmp_path: Path, dtype: torch.dtype) -> None:
    start, ended = nn.Linear(4, 2), []
    for name, parts in (("whole.pt", 1), ("parts.pt", 4)):
        path, settings, linear = tmp_path / name, Stage(lr=0.05), copy.deepcopy(start)
        stage = Optimisation(linear, settings, TOTAL, dtype=dtype, checkpoint=path, fingerprint="one")

        def losses(step: int, linear: nn.Linear = linear, parts: int = parts) -> Iterator[torch.Tensor]:
            inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step)).to(dtype)
            for some in inputs.chunk(parts):
                yield nn.functional.cross_entropy(linear(some).float(), (some[:, 0] > 0).long()) / parts

        stage.run(losses, "toy")
        ended.append(read_checkpoint(path)["weights"]["weight"])
    torch.testing.assert_close(*ended, atol=1e-5 if dtype == torch.float32 else 0.02, rtol=0.02)


def test_masters_are_finer_than_the_weights(tmp_path: Path) -> None:
    stage = optimisation(tmp_path / "x.pt", torch.bfloat16)
    stage.run(losses_of(stage), "toy")
    master = read_checkpoint(tmp_path / "x.pt")["weights"]["0.weight"]
    assert master.dtype == torch.float32
    assert not torch.equal(master, master.bfloat16().float())


def test_a_finished_stage_does_nothing(tmp_path: Path) -> None:
    stage = optimisation(tmp_path / "x.pt")
    stage.run(losses_of(stage), "toy")
    again = optimisation(tmp_path / "x.pt")
    assert again.finished
    again.run(losses_of(again, stop=TOTAL), "toy")


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

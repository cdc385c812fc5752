from __future__ import annotations

import pytest
from gsco.models import torch_threads
from gsco.models.torch_threads import TorchThreads, planned_threads, set_threads


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch):
    import torch

    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch_threads, "_chosen", None)
    yield
    torch.set_num_threads(before)


def slower(factors: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which so many threads need so many times the time of one."""
    monkeypatch.setattr(torch_threads, "_seconds", lambda threads, limit=0.0: factors[threads])


@pytest.mark.parametrize(
    ("factors", "count"),
    [
        ({1: 1.0, 2: 8.0}, 1),
        ({1: 1.0, 2: 0.95}, 1),
        ({1: 1.0, 2: 0.55}, 2),
        ({1: 1.0, 2: 0.55, 4: 0.3, 8: 0.4}, 4),
        ({1: 1.0, 2: 0.55, 4: 0.3, 6: 0.2}, 6),
    ],
)
def test_threads_are_added_as_long_as_they_are_worth_it(
    monkeypatch: pytest.MonkeyPatch, factors: dict[int, float], count: int
):
    slower(factors, monkeypatch)
    assert torch_threads._measured(max(factors)).count == count


def test_it_is_measured_once_and_what_is_set_is_kept(monkeypatch: pytest.MonkeyPatch):
    import torch

    torch.set_num_threads(2)
    slower({1: 1.0, 2: 8.0}, monkeypatch)
    assert "measured when the first model loads" in planned_threads(0).reason
    assert set_threads(0).count == torch.get_num_threads() == 1
    slower({1: 1.0, 2: 0.5}, monkeypatch)
    assert set_threads(0).count == 1
    assert set_threads(2) == TorchThreads(2, "2 torch threads, by GSCO_TORCH_THREADS")
    assert torch.get_num_threads() == 2


def test_the_environments_own_number_is_kept(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = torch.get_num_threads()
    assert set_threads(0) == TorchThreads(0, "3 torch threads, by OMP_NUM_THREADS")
    assert torch.get_num_threads() == before


def test_the_measurement_stops_where_it_is_too_slow_already():
    import torch

    whole = torch_threads._seconds(1)
    assert torch.get_num_threads() == 1
    assert 0 < torch_threads._seconds(1, limit=whole / 1000) < whole

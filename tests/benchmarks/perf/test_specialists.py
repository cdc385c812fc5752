from __future__ import annotations

from gsco.benchmarks.perf import specialists
from gsco.models.specialist.card import Transform
from gsco.models.specialist.specialist import TimmSpecialist


def test_every_way_of_looking_gets_a_time() -> None:
    specialist = TimmSpecialist.from_timm("test_resnet", ["a", "b"], task="t", transform=Transform(size=32))
    result = specialists.measure(specialist, specialists.pictures(6, size=40), batch_size=4, rounds=2)
    assert [len(taken) for taken in result.seconds.values()] == [2] * 5
    assert all(second > 0 for taken in result.seconds.values() for second in taken)


def test_a_vision_transformer_is_built_at_the_cards_size() -> None:
    specialist = TimmSpecialist.from_timm("test_vit", ["a", "b"], task="t", transform=Transform(size=160))
    for run in specialists.contenders(specialist, specialists.pictures(2), 2).values():
        run()

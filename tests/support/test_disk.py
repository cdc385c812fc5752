"""What is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from gsco.disk import replacing


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "new" / "card.json"
    with replacing(place) as fresh:
        fresh.write_text("first")
        assert not place.exists()
    with pytest.raises(RuntimeError), replacing(place) as fresh:
        fresh.write_text("half")
        raise RuntimeError
    assert place.read_text() == "first"
    assert list(place.parent.iterdir()) == [place]


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    place = tmp_path / "model"
    for name in ("old", "new"):
        with replacing(place) as fresh:
            fresh.mkdir()
            (fresh / name).touch()
    assert [file.name for file in place.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [place]

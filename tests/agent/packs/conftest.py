from collections.abc import Mapping
from pathlib import Path

import pytest
from gsco.agent.packs.export import export_pack
from gsco.settings import Settings


@pytest.fixture(scope="session")
def busi_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundled task as a pack."""
    folder = tmp_path_factory.mktemp("pack")
    return export_pack(Settings(home=folder / "home"), "busi", folder / "busi.gsco.zip").path


@pytest.fixture(scope="session")
def small_files() -> Mapping[str, bytes]:
    """The files of a pack that passes the archive's checks, without weights."""
    return {
        "README.md": b"# small\n",
        "LICENCE.txt": b"none\n",
        "task.json": b"{}\n",
        "configs/metadata.json": b"{}\n",
        "specialists/small/probe/card.json": b"{}\n" * 50,
        "specialists/small/probe/weights.safetensors": bytes(range(256)) * 8,
    }

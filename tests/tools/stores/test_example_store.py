"""The store that ``examples/own_case_store.py`` shows is a case store like the bundled ones."""

import runpy
from pathlib import Path

import gsco
import pytest

from .conformance import CaseStoreConformance

EXAMPLE = Path(gsco.__file__).parent / "examples" / "own_case_store.py"


class TestExampleStore(CaseStoreConformance):
    @pytest.fixture
    def opened(self):
        example = runpy.run_path(str(EXAMPLE))
        memory = example["Memory"]()
        return lambda: example["MemoryStore"](memory)

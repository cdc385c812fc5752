from __future__ import annotations

import pytest
from gsco.tools.stores.weaviate import WeaviateStore

from .conformance import CaseStoreConformance, Opened

pytestmark = pytest.mark.weaviate


class TestWeaviateStore(CaseStoreConformance):
    @pytest.fixture
    def opened(self, fresh: str) -> Opened:
        return lambda: WeaviateStore(fresh)

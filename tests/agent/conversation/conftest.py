from ..server.conftest import bundled, bundled_address, data_uri

__all__ = ["bundled", "bundled_address", "data_uri"]

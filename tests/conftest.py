"""What all tests share: no network, small real images, and the effort of property tests."""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from gsco.images import ImageStore
from hypothesis import HealthCheck, settings
from PIL import Image, ImageDraw

from .vllm import vllm_meddr, vllm_mini

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one per process, before torch is loaded

__all__ = ["vllm_meddr", "vllm_mini"]
_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "short",
    max_examples=60,
    derandomize=True,
    deadline=timedelta(seconds=10),
    suppress_health_check=_SLOW_IS_FINE,
)
settings.register_profile(
    "long", max_examples=1000, deadline=timedelta(seconds=10), suppress_health_check=_SLOW_IS_FINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m attack`` read only the files that hold attacks: importing the others takes a minute."""
    if config.option.markexpr != "attack" or collection_path.suffix != ".py":
        return None
    return True if "mark.attack" not in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Refuse every connection that leaves this machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(original: Callable) -> Callable:
        def call(self: socket.socket, address):
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
                raise OSError(f"tests may not connect to {address[0]}")
            return original(self, address)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(connect))
        patch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
        yield


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def picture(mode: str = "L", size: tuple[int, int] = (48, 40), seed: int = 0) -> Image.Image:
    """A small picture with a gradient, an ellipse and some noise, none of them symmetric."""
    width, height = size
    noise = np.random.default_rng(seed).normal(0, 4, (height, width, 3))
    ramp = np.linspace(20, 200, width)[None, :, None] * np.array([1.0, 0.8, 0.6])
    image = Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8))
    ImageDraw.Draw(image).ellipse(
        (width // 8, height // 6, width // 2, height // 2), fill=(230, 200 - seed % 90, 120)
    )
    return image if mode == "RGB" else image.convert(mode)


@pytest.fixture
def make_image() -> Callable[..., Image.Image]:
    """``make_image(mode="L", size=(48, 40), seed=0)``: a small deterministic picture."""
    return picture


@pytest.fixture
def store(tmp_path) -> ImageStore:
    """An empty image store."""
    return ImageStore(tmp_path / "images")

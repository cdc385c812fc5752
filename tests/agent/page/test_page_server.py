"""What the whole application lets through."""

import asyncio
import os

import gradio as gr
import httpx
import pytest
from gradio import blocks, processing_utils
from gsco.agent.auth import Users
from gsco.agent.page.layout import sheet
from gsco.agent.page.server import application, confine_gradio, serve_page
from gsco.errors import ConfigurationError
from gsco.settings import Settings


@pytest.fixture(scope="module")
def app(gsco, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "")
        patch.setattr(processing_utils, "async_ssrf_protected_get", None)
        patch.setattr(processing_utils, "async_ssrf_protected_download", None)
        patch.setattr(blocks.Block, "async_move_resource_to_block_cache", None)
        home = tmp_path_factory.mktemp("home")
        confine_gradio(home / "gradio")
        yield asyncio.run(made(gsco, home))


async def made(gsco, home):
    """Gradio leaves a loop of its own behind where none runs."""
    return application(gsco, Settings(home=home, max_image_bytes=1000), Users())


def ask(app, method: str, path: str, **more) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **more)

    return asyncio.run(run())


def test_the_page_names_no_other_server_for_its_parts(app):
    page = ask(app, "GET", "/")
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    config = ask(app, "GET", "/config").json()
    assert config["analytics_enabled"] is False and not config.get("stylesheets")
    assert "http" not in sheet()


def test_what_is_too_large_is_not_kept(app):
    for size, status in ((500, 200), (5000, 413)):
        answer = ask(app, "POST", "/gradio_api/upload", files={"files": ("a.png", b"x" * size)})
        assert answer.status_code == status
    assert oct(os.stat(os.environ["GRADIO_TEMP_DIR"]).st_mode & 0o777) == "0o700"  # noqa: PTH116


def test_no_address_or_file_is_read_in_the_place_of_an_upload(app):
    for owner, name in (
        (processing_utils, "async_ssrf_protected_get"),
        (processing_utils, "async_ssrf_protected_download"),
        (blocks.Block, "async_move_resource_to_block_cache"),
    ):
        with pytest.raises(gr.Error, match="upload the image itself"):
            asyncio.run(getattr(owner, name)("http://192.0.2.1/x.png", "/tmp"))


def test_nothing_on_the_page_is_an_interface_for_programs(app):
    assert ask(app, "GET", "/gradio_api/info").json() == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_other_machines_need_keys(tmp_path):
    with pytest.raises(ConfigurationError, match="GSCO_API_KEYS"):
        serve_page(Settings(home=tmp_path), host="0.0.0.0", port=0)

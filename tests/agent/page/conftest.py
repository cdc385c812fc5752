"""The real page in a process of its own, and Debian's Chromium to look at it with."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ..reports.examples import diagnosis, thumbnail
from ..server.conftest import gsco, make_gsco, running

__all__ = ["diagnosis", "gsco", "make_gsco", "thumbnail"]
PATIENCE = 120_000
"""Milliseconds that a slow machine gets for each thing that is waited for."""


@contextmanager
def page_of(home: Path, **environment: str) -> Iterator[str]:
    """The address of ``gsco ui`` with the bundled models."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GSCO_")},
        "GSCO_HOME": str(home),
        "GSCO_TORCH_THREADS": "1",
        **environment,
    }
    log = home / "ui.log"
    with log.open("w", encoding="utf-8") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "gsco.agent.cli", "ui", "--port", "0"],
            env=env,
            stdout=told,
            stderr=subprocess.STDOUT,
            cwd=home,
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def served_page(gsco, home: Path, **settings) -> Iterator[str]:
    """The address of a page in this process, over a given installation."""
    import gradio as gr
    from gradio import processing_utils
    from gsco.agent.auth import Users
    from gsco.agent.page.server import application, confine_gradio
    from gsco.settings import Settings

    given = Settings(home=home, **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "")
        for owner, name in (
            (processing_utils, "async_ssrf_protected_get"),
            (processing_utils, "async_ssrf_protected_download"),
            (gr.blocks.Block, "async_move_resource_to_block_cache"),
        ):
            patch.setattr(owner, name, getattr(owner, name))  # put back what the page replaces
        confine_gradio(home / "gradio")
        users = Users.parse(given.api_keys.get_secret_value())
        with running(lambda: application(gsco, given, users)) as address:
            yield address


def _address(process: subprocess.Popen, log: Path) -> str:
    while process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text(encoding="utf-8")):
            return found[0]
        time.sleep(0.2)
    raise AssertionError(log.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium, headless; for a module only, since Playwright keeps an event loop running in this thread."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no chromium on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that containers do not give.
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    """``visit(address, width=1400)``: a browser page of a new visitor; requests to elsewhere fail it."""
    contexts, strange, problems = [], [], []

    def at_home(route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            strange.append(route.request.url)
            route.abort()

    def open_page(address: str, width: int = 1400):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.route(re.compile("^(http|ws)"), at_home)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.unroute_all(behavior="ignoreErrors")
        context.close()
    assert strange == [] and problems == []

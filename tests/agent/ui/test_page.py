"""The page in a real browser, with the bundled models."""

import pytest
from gsco.models.mini.samples import samples

from .conftest import page_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with page_of(tmp_path_factory.mktemp("home")) as address:
        yield address


def ask(page, text: str, *files: str) -> None:
    """Say something on the page, with images."""
    page.wait_for_selector("#progress p:empty", state="attached")
    if files:
        page.locator("#box input[type=file]").set_input_files(list(files))
        page.wait_for_selector("#box .thumbnail-item")
    page.fill("#box textarea", text)
    page.keyboard.press("Enter")


def test_a_case_is_discussed(visit, address):
    page = visit(address)
    sample = samples("chest_xray")[3]
    ask(page, "What is the diagnosis?", str(sample.path))
    page.wait_for_selector("#panel .voice table.bars")
    page.wait_for_selector("#panel .gallery img")
    page.wait_for_selector("#panel nav.downloads")
    assert "What is the diagnosis?" in page.inner_text("#chat")
    assert page.inner_text("#panel .verdict") == sample.label
    assert page.locator("#panel .voice").count() == 4
    assert "Research use. Not a medical device." in page.inner_text("#standing")
    assert "bundled" in page.inner_text("#standing")

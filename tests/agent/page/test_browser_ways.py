"""Other ways through the page in a real browser: by key, by keyboard, stopped, and with a DICOM file."""

import json
from io import BytesIO

import numpy as np
import pytest
from gsco.models.mini.samples import samples
from PIL import Image

from .conftest import page_of
from .test_browser import ask, attach, check_evidence, dicom, download, fits, ready, shoot

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
SAMPLE = samples("chest_xray")[3]
ANA, BEN = "a-key-of-ana-0123456789", "a-key-of-ben-0123456789"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with page_of(tmp_path_factory.mktemp("home"), GSCO_API_KEYS=f"ana:{ANA},ben:{BEN}") as address:
        yield address


def enter(page, key: str) -> None:
    page.fill("input#key", key)
    page.keyboard.press("Enter")


def test_only_a_key_opens_the_page_and_only_its_own_conversations(visit, address):
    page = visit(address, 390)
    assert page.locator("#box").count() == 0 and fits(page)
    enter(page, ANA[:-1])
    page.wait_for_selector("text=Invalid key.")
    shoot(page, "login")
    enter(page, ANA)
    ask(page, "What can you assess?", SAMPLE.path)
    page.wait_for_selector("#panel .verdict")
    page.reload()
    ready(page)
    page.click(".sidebar .toggle-button")
    page.wait_for_selector("#threads button")
    other = visit(address)
    enter(other, BEN)
    ready(other)
    assert other.locator("#threads button").count() == 0


def test_a_dicom_image_is_diagnosed_and_its_patient_stays_out_of_everything(visit, address):
    page = visit(address)
    enter(page, BEN)
    pixels = np.asarray(Image.open(SAMPLE.path).convert("L"), np.uint16) * 16
    ask(
        page,
        "What is the diagnosis?",
        {"name": "Nobody_Known.dcm", "mimeType": "application/dicom", "buffer": dicom(pixels)},
    )
    page.wait_for_selector("#panel nav.downloads")
    check_evidence(page)
    assert page.inner_text("#panel .verdict").rstrip("?") in ("normal", "pneumonia")
    taken = (page.content(), download(page, "HTML").decode(), download(page, "JSON").decode())
    assert not any("Nobody^Known" in text or "1.2.3" in text for text in taken)
    assert json.loads(taken[2])["task"] == "chest_xray"


def test_the_page_is_used_by_keyboard_alone(visit, address):
    page = visit(address)
    page.wait_for_selector("input#key:focus")
    page.keyboard.type(ANA)
    page.keyboard.press("Enter")
    ready(page)
    attach(page, SAMPLE.path)  # the file dialogue is the browser's own
    reach(page, "#box textarea")
    page.keyboard.type("What is the diagnosis?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#panel nav.downloads")
    reach(page, "#panel nav.downloads a")
    with page.expect_download() as begun:
        page.keyboard.press("Enter")
    assert begun.value.suggested_filename


def reach(page, selector: str) -> None:
    """Go on with the tabulator until something has the focus, and see that the focus is shown."""
    for _ in range(60):
        if page.evaluate("one => document.activeElement?.matches(one)", selector):
            shown = page.evaluate(
                """() => {
                    const style = getComputedStyle(document.activeElement);
                    return style.outlineStyle !== 'none' || style.boxShadow !== 'none'
                        || style.borderStyle !== 'none' || document.activeElement.matches('textarea');
                }"""
            )
            assert shown
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the tabulator does not reach {selector}")


def test_an_answer_is_stopped_and_the_conversation_goes_on(visit, address):
    page = visit(address)
    enter(page, BEN)
    ask(page, "What is the diagnosis?", SAMPLE.path)
    page.click("#box .stop-button")
    page.wait_for_selector("#box .submit-button")
    assert "What is the diagnosis?" in page.inner_text("#chat"), "it is kept, however early it was stopped"
    page.fill("#box textarea", "Which kinds of images can you diagnose?")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#chat').innerText.includes('ultrasound')")
    page.wait_for_selector("#panel nav.downloads")


def test_a_picture_of_bytes_is_no_dicom(visit, address):
    page = visit(address)
    enter(page, BEN)
    broken = BytesIO(dicom()[:300]).getvalue()
    ask(page, "What is this?", {"name": "IM1.dcm", "mimeType": "application/dicom", "buffer": broken})
    page.wait_for_selector("#alert .alert")
    assert page.input_value("#box textarea") == "What is this?"

"""The page in a real browser, with the bundled models: from an image to a report in the reader's hands."""

import json
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from gsco.models.mini.samples import samples
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pypdf import PdfReader

from .conftest import page_of

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
SAMPLE = samples("chest_xray")[3]
OTHER = next(one.label for one in samples("chest_xray") if one.label != SAMPLE.label)
QUESTION = "What is the diagnosis?"
REASON = "A <i>shadow</i> behind the heart."
SHOTS = Path(folder) if (folder := os.environ.get("GSCO_TEST_SHOTS")) else None
"""Where screenshots go, for whoever works on the page."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with page_of(tmp_path_factory.mktemp("home"), GSCO_REVIEW="always") as address:
        yield address


def test_a_case_from_the_image_to_the_report(visit, address):
    page = visit(address)
    ask(page, QUESTION, SAMPLE.path)
    page.wait_for_selector("#panel .voice table.bars")
    page.wait_for_selector("#decide")
    check_evidence(page)
    assert page.inner_text("#panel .verdict") == SAMPLE.label
    assert QUESTION in page.inner_text("#chat") and "A person must decide" in page.inner_text("#chat")
    assert page.is_disabled("#box textarea")
    check_widths(page, "review")

    page.check("#action >> text=Edit the label")
    page.wait_for_selector("#reason textarea")  # which moves what is below it
    page.wait_for_selector("#labels input")
    page.fill("#reviewer textarea, #reviewer input", "Dr. A'B")
    page.click("#decide")
    alerted(page, "Give a reason")
    page.fill("#reason textarea", REASON)
    choose(page, "#labels", OTHER)
    watch(page)
    page.click("#decide")
    page.wait_for_selector("#panel .badges >> text=changed by a person")
    page.wait_for_selector("#review", state="hidden")
    page.wait_for_function("() => !document.querySelector('#box textarea').disabled")
    assert page.inner_text("#panel .verdict") == OTHER
    assert "Dr. A'B changed it" in page.inner_text("#panel")
    said = page.locator("#chat .bot").all_inner_texts()
    words = said[0].splitlines()[0]
    assert words and any(words in one for one in page.evaluate("() => window.streamed"))
    assert f"shows {OTHER}." in said[0], "what is said is what the person decided"
    assert page.locator("#chat script, #panel script, #chat i, #panel i").count() == 0
    check_widths(page, "decided")

    record = json.loads(download(page, "JSON"))
    assert record["labels"] == [OTHER] and record["review"]["decision"]["reviewer"] == "Dr. A'B"
    assert len(record["evidence"]["opinions"]) == 4 and len(record["evidence"]["similar_cases"]) == 10
    html = download(page, "HTML").decode()
    assert "A &lt;i&gt;shadow&lt;/i&gt; behind" in html and "Dr. A" in html and "<i>" not in html
    pdf = PdfReader(BytesIO(download(page, "PDF")))
    assert len(pdf.pages) == 1 and REASON in pdf.pages[0].extract_text()

    page.click("#looks >> text=Where each specialist looked")
    page.wait_for_selector("#look img >> nth=1")
    choose(page, "#specialist", "Specialist 4")
    page.wait_for_selector("#look >> text=Where Specialist 4 looked for pneumonia")
    check_widths(page, "looked")

    check_conversations(page, visit(address), address)


def check_evidence(page) -> None:
    """Bars of every specialist, similar cases that can be looked at, and where a specialist looked."""
    assert page.locator("#panel .voice").count() == 4
    bars = page.locator("#panel .voice .fill")
    assert any(box["width"] > 10 for bar in bars.all() if (box := bar.bounding_box()))
    assert page.locator("#panel .gallery figure img").count() == 10
    assert page.locator("#panel .pane img").count() == 3
    page.wait_for_function(
        "() => [...document.querySelectorAll('#panel img, #chat img')].every(one => one.naturalWidth > 0)"
    )
    assert "specialists agree" in page.inner_text("#panel .badges")


def check_conversations(page, stranger, address: str) -> None:
    """A conversation is found again, and deleted, by the browser that held it only."""
    report = page.get_attribute("#panel nav.downloads a >> nth=0", "href")
    ready(stranger)
    assert stranger.locator("#threads button").count() == 0
    assert stranger.request.get(f"{address}/{report}").status == 404
    assert page.request.get(f"{address}/{report}").status == 200
    page.reload()
    ready(page)
    page.click(".sidebar .toggle-button")
    page.wait_for_selector("#panel .badges >> text=changed by a person")
    page.click("#new")
    page.wait_for_selector("#panel .voice", state="detached")
    page.click(f"#threads button >> text={QUESTION}")
    page.wait_for_selector("#panel .badges >> text=changed by a person")
    assert QUESTION in page.inner_text("#chat")
    shoot(page, "opened")
    page.click("#delete")
    page.click("#yes")
    page.wait_for_selector("#threads button", state="detached")
    page.wait_for_selector("#panel .voice", state="detached")
    assert page.request.get(f"{address}/{report}").status == 404


def test_what_is_no_image_is_refused(visit, address):
    page = visit(address)
    assert "Research use. Not a medical device." in page.inner_text("#standing")
    ask(page, "What is this?", {"name": "scan.png", "mimeType": "image/png", "buffer": b"%PDF-1.7 no image"})
    alerted(page, "the file is a PDF document")
    assert page.input_value("#box textarea") == "What is this?"


def test_a_dicom_image_is_seen_through_a_window(visit, address):
    page = visit(address, 390)
    ready(page)
    attach(page, {"name": "IM0001", "mimeType": "application/dicom", "buffer": dicom()})
    page.click("#window >> text=Window of DICOM images")
    before = page.get_attribute("#preview img", "src")
    page.fill("#center input", "300")
    page.fill("#width input", "-5")
    page.wait_for_selector("#preview .alert >> text=width is at least 1")
    page.fill("#width input", "100")
    page.wait_for_selector("#preview img")
    assert page.get_attribute("#preview img", "src") != before
    assert "Nobody" not in page.content() and fits(page)
    shoot(page, "window")


def ready(page) -> None:
    """Wait until the models are loaded."""
    page.wait_for_selector("#standing >> text=the small bundled one")


def ask(page, text: str, file: Path | dict) -> None:
    ready(page)
    attach(page, file)
    page.fill("#box textarea", text)
    page.keyboard.press("Enter")


def attach(page, file: Path | dict) -> None:
    page.locator("#box input[type=file]").set_input_files(file)
    page.wait_for_selector("#box .thumbnail-item, #box .thumbnail-wrapper")


def choose(page, field: str, option: str) -> None:
    page.click(f"{field} input")
    page.click(f"[role=option] >> text={option}")


def download(page, kind: str) -> bytes:
    with page.expect_download() as begun:
        page.click(f"#panel nav.downloads a >> text={kind}")
    return Path(begun.value.path()).read_bytes()


def alerted(page, words: str) -> None:
    page.wait_for_selector(f"#alert .alert >> text={words}")


def watch(page) -> None:
    """Keep what the generalist says while it still works."""
    page.evaluate(
        """() => {
            window.streamed = [];
            new MutationObserver(() => {
                const said = [...document.querySelectorAll('#chat .bot')].at(-1)?.innerText.trim();
                const works = document.querySelector('#progress')?.innerText.trim();
                if (said && works) window.streamed.push(said);
            }).observe(document.body, {subtree: true, childList: true, characterData: true});
        }"""
    )


def check_widths(page, name: str) -> None:
    """Nothing reaches beyond the page's right edge, on a desk and on a phone."""
    for width, height in ((390, 844), (1400, 900)):
        page.set_viewport_size({"width": width, "height": height})
        assert fits(page), width
        shoot(page, name)


def fits(page) -> bool:
    return page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth
        && [...document.querySelectorAll('.gsco, .gsco *')].every(
            one => one.getBoundingClientRect().right <= innerWidth + 1)"""
    )


def shoot(page, name: str) -> None:
    if SHOTS is not None:
        page.screenshot(path=SHOTS / f"{name}-{page.viewport_size['width']}.png", full_page=True)


def dicom(pixels: np.ndarray | None = None) -> bytes:
    """Grey values of 12 bits, a ramp if none are given, with a patient's name."""
    if pixels is None:
        pixels = np.tile(np.arange(0, 1024, 16, dtype=np.uint16), (64, 1))
    dataset = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.CTImageStorage, "1.2.3"
    dataset.PatientName = "Nobody^Known"
    (dataset.Rows, dataset.Columns), dataset.SamplesPerPixel = pixels.shape, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = pixels.astype(np.uint16).tobytes()
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()

"""What a person meets on the page in a real browser: samples, evidence in view, reload, stop, access."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from gsco.models.mini.samples import samples

from .conftest import page_of
from .test_browser import ask, attach, choose, dicom, fits, ready, shoot

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]
FINDING = next(one for one in samples("chest_xray") if one.label == "pneumonia")
NORMAL = next(one for one in samples("chest_xray") if one.label == "normal")
LONG = next(one for one in samples("lung_histology") if "squamous" in one.label)
SIZES = ((1400, 900), (390, 844))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with page_of(tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture(scope="module")
def under_review(tmp_path_factory):
    with page_of(tmp_path_factory.mktemp("home"), GSCO_REVIEW="always") as address:
        yield address


def answered(page) -> None:
    page.wait_for_selector("#panel nav.downloads")
    idle(page)


def idle(page) -> None:
    page.wait_for_function("() => document.querySelector('#progress').innerText.trim() === ''")
    page.wait_for_selector("#box .submit-button")


def accessible(page) -> list[str]:
    """What axe finds, in all rules that it has."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def focused(page) -> dict:
    return page.evaluate(
        """() => {
            const one = document.activeElement, box = one.getBoundingClientRect();
            return {
                name: `${one.tagName} ${one.id} ${one.className} ${one.innerText?.slice(0, 30)}`,
                body: one === document.body,
                seen: one.checkVisibility({visibilityProperty: true, opacityProperty: true})
                    && box.width > 0 && box.right > 0 && box.left < innerWidth,
            };
        }"""
    )


def hidden_stops(page) -> list[str]:
    """Everything unseen that the tabulator stops at on its way through the page."""
    found = []
    page.evaluate("() => { document.activeElement.blur(); window.getSelection().removeAllRanges(); }")
    for _ in range(70):
        page.keyboard.press("Tab")
        stop = focused(page)
        if stop["body"]:
            break
        if not stop["seen"]:
            found.append(stop["name"])
    return found


def broken_words(page) -> list[str]:
    """Labels of which a word is cut over two lines."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.gsco :is(th, b, h3, .verdict, figcaption, button span)')]
            .flatMap(one => [...one.childNodes].filter(node => node.nodeType === 3).flatMap(node =>
                [...node.data.matchAll(/[\\w-]+/g)].filter(word => {
                    const range = document.createRange();
                    range.setStart(node, word.index);
                    range.setEnd(node, word.index + word[0].length);
                    return !word[0].includes('-') && range.getClientRects().length > 1;
                }).map(word => word[0])))"""
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_sample_is_chosen_by_keyboard_and_the_evidence_stays_in_view(visit, address, size):
    page = visit(address, size[0])
    page.set_viewport_size({"width": size[0], "height": size[1]})
    ready(page)
    for task in ("brain MRI", "breast ultrasound", "paediatric chest X-rays", "lung histology"):
        assert task in page.inner_text("#start"), "it says what it knows"
    assert page.locator("#start button img").count() == 8
    assert fits(page) and accessible(page) == [] and hidden_stops(page) == [] and broken_words(page) == []
    shoot(page, "start")
    page.focus("#start button >> nth=1")
    page.keyboard.press("Enter")
    answered(page)
    assert not page.is_visible("#start") and "lite0" not in page.inner_text("#chat")
    verdict = page.inner_text("#panel .verdict")
    for question in ("Why?", "How sure are you?", "What did the specialists say?"):
        page.fill("#box textarea", question)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#chat >> text={question}")
        idle(page)
    log = page.locator("#chat [role=log]")
    assert log.evaluate("one => one.scrollHeight > one.clientHeight"), "the chat is long enough to scroll"
    for place in ("0", "one.scrollHeight"):
        log.evaluate(f"one => one.scrollTo(0, {place})")
        log.scroll_into_view_if_needed()
        box = page.locator("#panel .verdict").bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= size[1], "the evidence stays in view"
        assert box["x"] >= 0 and box["x"] + box["width"] <= size[0]
    assert accessible(page) == [] and hidden_stops(page) == []
    shoot(page, "answer")
    page.reload()
    page.wait_for_selector(f"#panel .verdict >> text={verdict}")
    assert "How sure are you?" in page.inner_text("#chat"), "a reload brings the conversation back"
    page.click(".sidebar .toggle-button")
    entry = page.locator("#threads button[aria-current]")
    entry.wait_for()
    assert entry.locator("img").evaluate("one => one.naturalWidth") > 0
    assert re.search(rf"{verdict}.*%\s+\d\d \w\w\w \d\d:\d\d", entry.inner_text(), re.S)
    assert accessible(page) == []
    shoot(page, "conversations")


def test_details_hold_the_names_of_models(visit, address):
    page = visit(address)
    ask(page, "What is the diagnosis?", FINDING.path)
    answered(page)
    seen = page.inner_text("#panel") + page.inner_text("#chat")
    assert not re.search("lite0|mobilenet|regnet|images/|[0-9a-f]{10}", seen)
    assert re.findall(r"\d+\.\d+ ?%|\d %", seen) == [], "all shares are rounded alike"
    page.click("#panel .voice summary >> nth=0")
    page.click("#panel details.foot summary")
    assert "efficientnet_lite0" in page.inner_text("#panel") and "gsco 0" in page.inner_text("#panel")
    assert accessible(page) == []


def test_the_image_is_compared_at_one_zoom_and_its_heat_slid_away(visit, address):
    page = visit(address)
    ask(page, "What is the diagnosis?", FINDING.path)
    answered(page)
    widths = (
        "() => [...document.querySelectorAll('#panel .pane img')].map(i => i.getBoundingClientRect().width)"
    )
    before = page.evaluate(widths)
    assert len(before) == 3 and len(set(before)) == 1
    page.focus("#panel input[data-set='--zoom']")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    after = page.evaluate(widths)
    assert len(set(after)) == 1 and after[0] == pytest.approx(2 * before[0], rel=0.01)
    heat = "() => getComputedStyle(document.querySelector('#panel .heat')).opacity"
    assert page.evaluate(heat) == "0.6"
    page.focus("#panel input[data-set='--heat']")
    page.keyboard.press("Home")
    assert page.evaluate(heat) == "0"
    page.focus("#panel .pane >> nth=0")
    page.keyboard.press("ArrowLeft")
    origin = "() => [...document.querySelectorAll('#panel .pane img')].map(i => getComputedStyle(i).{})"
    assert len(set(page.evaluate(origin.format("transformOrigin")))) == 1, "both are moved together"
    known = page.inner_text("#panel .beside figcaption")
    page.click("#panel .gallery button >> nth=4")
    assert page.inner_text("#panel .beside figcaption") != known
    page.click("#looks >> text=Where each specialist looked")
    page.wait_for_selector("#look .heat")
    choose(page, "#specialist", "Specialist 4")
    page.wait_for_selector("#look >> text=Where Specialist 4 looked for pneumonia")
    shoot(page, "compared")


def test_no_heat_map_where_nothing_was_found(visit, address):
    page = visit(address)
    ask(page, "What is the diagnosis?", NORMAL.path)
    answered(page)
    assert page.inner_text("#panel .verdict") == "normal"
    assert page.locator("#panel .heat").count() == 0 and page.locator("#panel .pane").count() == 2


@pytest.mark.parametrize("width", [1400, 820, 390, 320])
def test_labels_never_break_inside_a_word(visit, address, width):
    page = visit(address, width)
    ask(page, "What is the diagnosis?", LONG.path)
    answered(page)
    assert broken_words(page) == [] and fits(page)
    shoot(page, "long")


def test_two_images_of_one_question_are_looked_at_one_by_one(visit, address):
    page = visit(address)
    ready(page)
    attach(page, FINDING.path)
    page.locator("#box input[type=file]").set_input_files(NORMAL.path)
    page.wait_for_function("() => document.querySelectorAll('#box .thumbnail-item').length >= 2")
    page.fill("#box textarea", "What are the diagnoses?")
    page.keyboard.press("Enter")
    answered(page)
    page.wait_for_selector("#cases label >> nth=1")
    assert page.inner_text("#panel .verdict") == "normal"
    page.click("#cases label >> text=pneumonia")
    page.wait_for_selector("#panel .verdict >> text=pneumonia")
    assert page.get_attribute("#panel nav.downloads a >> nth=0", "href").endswith("/0.json")
    assert accessible(page) == []
    shoot(page, "two")


def test_the_drawers_block_no_question(visit, address):
    page = visit(address)
    ready(page)
    page.click("#window >> text=Window of DICOM images")
    page.click("#about >> text=About the case")
    page.wait_for_selector("#width input")
    assert accessible(page) == [] and hidden_stops(page) == []
    attach(page, FINDING.path)
    page.fill("#box textarea", "What is the diagnosis?")
    page.keyboard.press("Enter")
    answered(page)
    assert page.inner_text("#panel .verdict") == "pneumonia" and not page.is_visible("#alert .alert")
    page.fill("#center input", "40")
    page.fill("#box textarea", "How sure are you?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#chat >> text=The probability of pneumonia")
    attach(page, {"name": "IM1", "mimeType": "application/dicom", "buffer": dicom()})
    page.wait_for_selector("#preview .alert >> text=width is at least 1")


def test_a_stopped_question_is_kept_and_its_image_is_sent_again(visit, address):
    page = visit(address)
    ask(page, "What is the diagnosis?", FINDING.path)
    page.click("#box .stop-button")
    idle(page)
    assert "What is the diagnosis?" in page.inner_text("#chat") and page.locator("#chat img").count() == 1
    if page.is_visible("#alert .alert"):  # unless it was answered before it was stopped
        assert "no decision on this image" in page.inner_text("#panel")
    attach(page, FINDING.path)
    page.fill("#box textarea", "What is the diagnosis?")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('#chat .user img').length === 2")
    answered(page)
    assert page.inner_text("#panel .verdict") == "pneumonia" and not page.is_visible("#alert .alert")
    assert page.inner_text("#chat").count("is diagnosed as pneumonia") == 2


@pytest.mark.parametrize("size", SIZES)
def test_the_form_of_a_review_has_no_barriers(visit, under_review, size):
    page = visit(under_review, size[0])
    ask(page, "What is the diagnosis?", FINDING.path)
    page.wait_for_selector("#decide")
    page.check("#action >> text=Edit the label")
    page.wait_for_selector("#reason textarea")
    assert accessible(page) == [] and hidden_stops(page) == [] and fits(page)
    page.reload()
    page.wait_for_selector("#decide")
    assert page.is_disabled("#box textarea"), "after a reload it still waits for a person"
    shoot(page, "form")

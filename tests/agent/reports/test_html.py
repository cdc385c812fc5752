import re
from html.parser import HTMLParser

import numpy as np
import pytest
from gsco.agent.reports import view_of
from gsco.agent.reports.html import page, panel, style
from gsco.agent.reports.pictures import overlay, picture
from gsco.agent.reports.sheet import Sheet
from PIL import Image

VOID = {"meta", "img", "br"}


class Read(HTMLParser):
    """Tags with their attributes and visible text; a tag that is not closed in its turn is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def pictures():
    image = Image.new("L", (900, 600), 50)
    return [
        picture(image, "The image"),
        picture(overlay(image, np.ones((600, 900), np.float32)), "Where it looked"),
    ]


def test_the_page_shows_everything(diagnosis, pictures, thumbnail):
    view = view_of(diagnosis, {"case-0": thumbnail}, title="Shades")
    read = Read(page(Sheet(view, pictures, ["Rejected by Dr A."], "A small model.")))
    for expected in (
        "Research software. Not a medical device",
        "A small model.",
        "img-0123456789ab",
        "dark?",
        "confidence 40%",
        "a suggestion only",
        "a person must decide",
        "generalist against specialists",
        "≠ differs",
        "balanced accuracy 80% on validation images",
        "similarity 0.90",
        "specialist:three: the weights are damaged",
        "Rejected by Dr A.",
        "Where it looked",
        "tiny, prompt paper@00000000",
    ):
        assert expected in read.text, expected


def test_texts_of_others_cannot_leave_their_place(diagnosis, pictures):
    for made in (page(Sheet(view_of(diagnosis), pictures)), panel(view_of(diagnosis))):
        read = Read(made)
        assert "script" not in {tag for tag, _ in read.tags}
        assert '<script>alert("x")</script> & ]]> {{ 7 * 7 }} </style>' in read.text
        assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]


def test_the_page_loads_nothing(diagnosis, pictures, thumbnail):
    made = page(Sheet(view_of(diagnosis, {"case-0": thumbnail}), pictures))
    addresses = [
        value
        for _, attributes in Read(made).tags
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert len(addresses) == 3 and all(
        re.match(r"data:image/(png|jpeg);base64,", str(address)) for address in addresses
    )
    assert "default-src 'none'" in made
    assert "url(" not in style() and "@import" not in style()


def test_every_picture_has_words_for_who_cannot_see_it(diagnosis, pictures, thumbnail):
    made = page(Sheet(view_of(diagnosis, {"case-0": thumbnail}), pictures))
    assert all(attributes.get("alt") for tag, attributes in Read(made).tags if tag == "img")


def test_pictures_are_small_and_heat_is_seen():
    image = Image.new("L", (900, 600), 50)
    heat = np.zeros((600, 900), np.float32)
    heat[:, 450:] = 1.0
    laid = np.asarray(overlay(image, heat))
    assert laid.shape == (341, 512, 3)
    assert (laid[:, :200] == 50 * (1 - 0)).all(), "cold places stay as they are"
    assert laid[:, 400:].min() > 90

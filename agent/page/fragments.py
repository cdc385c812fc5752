"""Small pieces of the page as HTML. Every text is escaped, whoever wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from markupsafe import Markup

from ...case import DISCLAIMER
from ..reports.pictures import ReportImage

STANDING = "Research use. Not a medical device."
FORMATS = ("json", "html", "pdf")
EMPTY = Markup(
    '<div class="gsco panel empty"><p class="soft">Evidence appears here while a case is looked at: what '
    "each specialist says, the most similar known cases, and how sure the decision is.</p></div>"
)


def undecided(image: ReportImage | None, words: str) -> Markup:
    """The place of the evidence, while there is none on the image that is talked about."""
    shown_image = Markup('<img src="{}" alt="{}">').format(image.address, image.caption) if image else ""
    return Markup('<div class="gsco panel"><p class="soft">{}</p><div class="shown">{}</div></div>').format(
        words, shown_image
    )


def plain(text: str) -> str:
    """Text for a bubble of the chat, which reads its content as HTML."""
    return escape(text, quote=False)


def status_line(note: str = "") -> Markup:
    """What stands on the page at all times: what this is for, and what decides here."""
    more = Markup(" <span>{}</span>").format(note) if note else Markup("")
    return Markup(
        '<header class="gsco top"><h1>gsco</h1><p class="note" role="note"><strong>{}</strong>{}</p></header>'
    ).format(STANDING, more)


def progress(doing: str, seconds: float = 0.0) -> Markup:
    """What it is busy with; readers of the screen hear the words and not every second."""
    if not doing:
        return Markup('<p class="gsco progress" role="status"></p>')
    clock = (
        Markup(' <span aria-hidden="true">{} s</span>').format(f"{seconds:.0f}")
        if seconds >= 1
        else Markup("")
    )
    return Markup(
        '<p class="gsco progress" role="status"><span class="pulse" aria-hidden="true"></span>{}…{}</p>'
    ).format(doing, clock)


def alert(message: str) -> Markup:
    """What went wrong, and what to do about it."""
    return Markup('<p class="gsco alert" role="alert">{}</p>').format(message) if message else Markup("")


def figures(pictures: Sequence[ReportImage], *, captions: bool = False) -> Markup:
    """Pictures side by side; without captions these are read out only."""
    images = (
        Markup('<figure><img src="{}" alt="{}">{}</figure>').format(
            one.address,
            one.caption,
            Markup("<figcaption>{}</figcaption>").format(one.caption) if captions else Markup(""),
        )
        for one in pictures
    )
    return Markup('<div class="gsco shown">{}</div>').format(Markup("").join(images))


def review_form(reasons: Sequence[str]) -> Markup:
    """Says that a person must decide first, and why."""
    items = Markup("").join(Markup("<li>{}</li>").format(reason) for reason in reasons)
    return Markup(
        '<div class="gsco asking"><p><strong>A person must decide before this can continue.</strong></p>'
        '<ul class="reasons">{}</ul></div>'
    ).format(items)


def lines(texts: Sequence[str]) -> Markup:
    """Remarks, one below the other."""
    return Markup('<div class="gsco remarks">{}</div>').format(
        Markup("").join(Markup("<p>{}</p>").format(text) for text in texts)
    )


def downloads(thread: str, number: int, name: str = "Download report") -> Markup:
    """Links to a report on a diagnosis of a conversation, for taking away; the name tells landmarks apart."""
    links = (
        Markup('<a href="{}" download>{}</a>').format(
            f"reports/{quote(thread)}/{number}.{kind}", kind.upper()
        )
        for kind in FORMATS
    )
    return Markup('<nav class="gsco downloads" aria-label="{} {}">Report {}</nav>').format(
        name, number + 1, Markup(" ").join(links)
    )


def login(wrong: bool = False) -> Markup:
    """The page that asks for a key; it stands alone."""
    message = alert("Invalid key.") if wrong else Markup("")
    return Markup(_LOGIN).format(message=message, disclaimer=DISCLAIMER)


_LOGIN = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>gsco</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #16202b; margin: 0; display: grid; min-height: 100vh;
  place-items: center; background: #f4f6f8; }}
main {{ background: #fff; border: 1px solid #d5dbe1; border-radius: 10px; padding: 1.5em; width: 20em;
  max-width: calc(100vw - 5em); }}
h1 {{ font-size: 1.2em; margin: 0 0 .8em; }}
label, input, button {{ display: block; width: 100%; box-sizing: border-box; font: inherit; }}
input {{ padding: .5em; margin: .3em 0 1em; border: 1px solid #7d93ab; border-radius: 6px; }}
button {{ padding: .55em; border: 0; border-radius: 6px; background: #0b5cad; color: #fff;
  font-weight: 600; }}
.alert {{ color: #a3180f; }}
small {{ color: #55616e; }}
</style></head>
<body><main><h1>gsco</h1>{message}
<form method="post" action="login"><label for="key">Your key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Enter</button></form>
<p><small>{disclaimer}</small></p></main></body></html>
"""

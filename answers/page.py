"""The page to try a photograph on: one file that asks nobody but the server that it comes from."""

import base64
import hashlib
import re
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from answers import rendering
from answers.answerer import SYNTHETIC
from answers.reply import GIVEN, Replies
from stages.common.files import reading
from stages.model_file.interface import MODEL_CARD

TEMPLATE = Path(__file__).with_name("page.html")
CARD_BELOW = 2  # the card's headings stand so many levels below those of the page


def render(replies: Replies, most_bytes: int) -> str:
    """The page in HTML; a photograph may have `most_bytes`."""
    answerer = replies.answerer
    path = answerer.path.with_name(MODEL_CARD.name)
    with reading(path):
        card = as_html(path.read_text(encoding="utf-8")) if path.is_file() else None
    return rendering.render(
        TEMPLATE,
        words=replies.words,
        synthetic=SYNTHETIC if answerer.synthetic else None,
        labels=len(answerer.model.labels),
        training_rows=len(replies.training.image_files),
        sizes=bool(answerer.ranges) and answerer.can_ignore_sizes,
        ignore_sizes=replies.ignore_sizes,
        pictures=replies.pictures is not None,
        most_bytes=most_bytes,
        most_pixels=GIVEN.pixels,
        formats=GIVEN.formats,
        card=card,
    )


def as_html(card: str) -> Markup:
    """A model's card as HTML, without the header that model hubs read."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    text = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{int(token.tag[1]) + CARD_BELOW}"
        if token.attrs.pop("style", None):  # numbers in a table, whose style the policy refuses
            token.attrs["class"] = "number"
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def policy(page: str) -> str:
    """What a browser may do with the page, as a Content-Security-Policy: run and draw what is
    written in it, show pictures that it holds itself, and ask its own server."""
    own = {
        name: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
            for part in re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
        )
        for name in ("script", "style")
    }
    return (
        f"default-src 'none'; script-src {own['script']}; style-src {own['style']}; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )

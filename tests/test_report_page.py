"""The report in a real browser: all is drawn, and nothing is asked of the network."""

import re
import shutil

import pytest
from conftest import PROJECT
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = PROJECT / "screenshots"
WIDTHS = (390, 1280)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # No sandbox: it cannot be had where the tests run as root, and the page is our own.
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(params=WIDTHS)
def opened(request, browser, scheme, reproduced):
    """The page of the reproduced project at one width, and what the browser had to say."""
    page = browser.new_page(
        viewport={"width": request.param, "height": 900}, color_scheme=scheme, offline=True
    )
    said, asked = [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto((reproduced.folder / "reports/index.html").as_uri())
    page.said, page.asked = said, asked
    yield page
    SCREENSHOTS.mkdir(exist_ok=True)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.screenshot(path=SCREENSHOTS / f"report-{request.param}-{scheme}.png", full_page=True)
    page.close()


def test_the_page_reads_well_in_a_browser(opened):
    assert opened.said == []
    # The page itself, and nothing but what is inside it.
    assert [url for url in opened.asked if not url.startswith("data:")] == [opened.url]
    assert opened.evaluate("document.scripts.length") == 0

    # No sideways scroll, not even with all tables shown.
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wide = opened.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0

    figures = opened.locator("figure")
    assert figures.count() == 11
    for index in range(figures.count()):
        figure = figures.nth(index)
        # One of the two drawings is shown, and lies inside the window.
        (drawing,) = [found for found in figure.locator("[role=img]").all() if found.is_visible()]
        box = drawing.locator("svg").bounding_box()
        assert box["width"] > 300
        assert box["height"] > 60
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= opened.viewport_size["width"]
        assert len(drawing.get_attribute("aria-label")) > 20
        sizes = drawing.locator("text").evaluate_all(
            """texts => texts.map(text => {
                const place = text.getScreenCTM();
                return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(place.a, place.b);
            })"""
        )
        assert min(sizes) > 8.5  # CSS pixels
        assert len(figure.locator("figcaption").inner_text()) > 30
    # Pictures inside the drawings can be decoded.
    drawn = opened.evaluate(
        """async () => {
            const sizes = [];
            for (const image of document.querySelectorAll("image, img")) {
                const copy = new Image();
                copy.src = image.getAttribute("xlink:href") ?? image.getAttribute("href")
                    ?? image.src;
                await copy.decode();
                sizes.push(copy.naturalWidth);
            }
            return sizes;
        }"""
    )
    assert all(width > 0 for width in drawn)

    # Text stands out from the page, in the drawings too.
    ink, page, drawing = opened.evaluate(
        """() => {
            const body = getComputedStyle(document.body);
            const text = document.querySelector("figure svg text");
            return [body.color, body.backgroundColor, getComputedStyle(text).fill];
        }"""
    )
    assert contrast(ink, page) > 7
    assert contrast(drawing, page) > 7


def contrast(one, other):
    """The contrast of two colours, from 1 to 21, as WCAG 2 defines it."""

    def luminance(colour):
        channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)

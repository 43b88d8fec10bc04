"""What the pages and sentences about answers have in common."""

import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from stages.reporting import page
from stages.reporting.captions import percent

REPORT = Path(page.__file__).with_name("template.html")  # whose style the pages have


def share(probability: float) -> str:
    """0.314 as `31.4 %`; neither 0 nor all of it where that is not so."""
    if 0 < probability < 0.0005:
        return "under 0.1 %"
    if 0.9995 <= probability < 1:
        return "over 99.9 %"
    return percent(probability)


def between(low: float, high: float) -> str:
    """`31.4 % to 40.0 %`, or one of them where they are the same."""
    return share(low) if share(low) == share(high) else f"{share(low)} to {share(high)}"


def render(template: Path, **values: Any) -> str:
    """A page in HTML, of a template in which `style` is the report's and all else is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["prose"] = page.prose
    (style,) = re.findall(r"<style>\n(.*?)</style>", REPORT.read_text(encoding="utf-8"), re.DOTALL)
    text = template.read_text(encoding="utf-8")
    return environment.from_string(text).render(style=Markup(style), **values)

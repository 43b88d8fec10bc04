"""Write the page: the template with what the run gives."""

import re
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from stages.model_file.making import (
    how_val_was_measured,
    steps_of,
    what_rows_did,
    what_was_chosen,
)
from stages.reporting.captions import Captions, confused_pairs, counted, percent
from stages.reporting.families import family_of
from stages.reporting.inputs import Inputs
from stages.tables.values import SUBSETS, UNKNOWN

TEMPLATE = Path("stages/reporting/template.html")


def prose(text: str) -> Markup:
    """A sentence as HTML: `code` between backquotes, and no line break before a percent sign."""
    marked = re.sub(r"`(.+?)`", r"<code>\1</code>", str(escape(text)))
    return Markup(marked.replace(" %", "\u00a0%"))


def render(inputs: Inputs, drawn: dict[str, dict[str, str]]) -> str:
    """The page in HTML; `drawn` has the figures by their names."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "counted": counted,
        "percent": percent,
        "label_family": family_of,
        "prose": prose,
    }
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    table, metrics, words = inputs.artefacts, inputs.metrics, inputs.words
    captions = Captions(words)
    subsets = pd.crosstab(table["medium"], table["subset"]).reindex(columns=SUBSETS, fill_value=0)
    groups = pd.crosstab(table["medium"], table["museum"])
    kinds = [
        {
            "columns": captions.kind(kind["columns"]),
            **{name: words.fill(kind[name]) for name in ("treatment", "reason")},
        }
        for kind in inputs.model["kinds"]
    ]
    return template.render(
        drawn=drawn,
        words=words,
        kinds=kinds,
        provenance=inputs.provenance,
        synthetic=metrics["data"]["source"] == "synthetic",
        rows=len(table),
        subsets=subsets,
        groups=groups,
        named_groups=len(groups.columns.drop(UNKNOWN, errors="ignore")),
        quarantined=metrics["quarantined"],
        near_duplicates=captions.near_duplicates(table, inputs.search),
        strategy=inputs.strategy,
        model=inputs.model,
        training=captions.training(inputs.curve, inputs.model),
        steps=steps_of(inputs.curve, inputs.model),
        what_rows_did=what_rows_did(inputs.model),
        how_val_was_measured=how_val_was_measured(inputs.model),
        what_was_chosen=what_was_chosen(inputs.model),
        metrics=metrics,
        subset=inputs.subset,
        per_class=inputs.per_class.to_dict("records"),
        families=any(family_of(label) for label in inputs.per_class["medium"]),
        pairs=confused_pairs(inputs.confusion).to_dict("records"),
        mistakes=inputs.mistakes.to_dict("records"),
        mistakes_caption=captions.mistakes(inputs.mistakes),
        neighbours=inputs.neighbours,
        limits=captions.limits(metrics, inputs.per_class, inputs.importance, inputs.model),
        to_try=captions.to_try(metrics, inputs.curve, inputs.per_class, inputs.model),
    )

"""Tell a run's story as one page: the data, the features, the training, the metrics, the limits.

Reads data/raw/provenance.json, data/artefacts.parquet, data/split.parquet,
data/predictions.parquet, models/model.onnx, reports/metrics.json and details.json, and the
tables under reports/plots/. Writes reports/index.html, and its figures as pictures,
reports/figures/*.png.
"""

import warnings
from pathlib import Path

from tqdm import tqdm

from stages.common.files import write_text
from stages.common.stage import run
from stages.reporting.drawing import NARROW, WIDE
from stages.reporting.export import to_png, to_svg
from stages.reporting.figures import figures_of
from stages.reporting.inputs import read_inputs
from stages.reporting.page import render

STAGE = "report"
PAGE = Path("reports/index.html")
FIGURES = Path("reports/figures")


def main() -> str:
    inputs = read_inputs()
    # What the font of the pictures lacks is a box there; on the page the browser has it.
    warnings.filterwarnings("ignore", "Glyph", UserWarning)
    synthetic = inputs.metrics["data"]["source"] == "synthetic"
    drawn = {}
    for figure in tqdm(figures_of(inputs), desc=STAGE, unit=" figures", disable=None):
        wide = figure.draw(WIDE)
        drawn[figure.name] = {
            "name": figure.name,
            "title": figure.title,
            "alternative": figure.alternative,
            "caption": figure.caption,
            "wide": to_svg(wide, figure.name),
            "narrow": to_svg(figure.draw(NARROW), f"{figure.name}-narrow"),
        }
        # A slide has neither the page's headings nor its banner.
        title = figure.title + (", synthetic data" if synthetic else "")
        to_png(wide, FIGURES / f"{figure.name}.png", title)
    page = render(inputs, drawn)
    write_text(PAGE, page)
    return f"{len(drawn)} figures, {len(page.encode()) / 1e6:.2f} MB"


if __name__ == "__main__":
    run(STAGE, main)

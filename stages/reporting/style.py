"""The colours of the figures, and Matplotlib's settings for all that draws."""

from matplotlib import style

INK = "#1a1b1c"  # used for nothing else: the SVG has `currentColor` in its place
GREY = "#808080"  # can be seen on white and on black
# Colours that are told apart by colour-blind readers too (Okabe and Ito 2008).
BLUE, ORANGE, GREEN = "#0072b2", "#e69f00", "#009e73"
VERMILLION, SKY_BLUE, PURPLE = "#d55e00", "#56b4e9", "#cc79a7"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, SKY_BLUE, PURPLE)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (2, 1)))
STYLE = {
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
}
# For all that draws: the style above, and nothing of the user's own settings.
styled = style.context(STYLE, after_reset=True)

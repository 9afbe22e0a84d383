"""Figures as files and as pieces of a page: sizes, colours, and panels with the same axes."""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, SOFT = "#1d2733", "#5b6775"
VARIABLES = {INK: "var(--ink)", "#000000": "var(--ink)", SOFT: "var(--soft)"}
VARIABLES |= {colour: f"var(--c{at})" for at, colour in enumerate(COLOURS)}
"""Colours of a figure -> those of a page's style sheet."""
Limits = tuple[tuple[float, float], tuple[float, float]]
SETTINGS = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # names of folders may have $ in them
    "svg.fonttype": "none",
    "svg.hashsalt": "the same ids on every call",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
}


def common_limits(drawn: Sequence[tuple[Callable[[Axes, Any], None], Any]]) -> Limits:
    """The limits in which all of some figures fit: of x, and of y."""
    found = []
    for draw, run in drawn:
        axes = Figure().add_subplot()
        draw(axes, run)
        found.append((axes.get_xlim(), axes.get_ylim()))
    x, y = ([limits[at] for limits in found] for at in (0, 1))
    return _union(x), _union(y)


def _union(limits: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The widest of some limits; an axis that runs down still does."""
    low, high = (pick(end for pair in limits for end in pair) for pick in (min, max))
    return (low, high) if limits[0][0] <= limits[0][1] else (high, low)


def render(
    draw: Callable[[Axes, Any], None],
    run: Any,
    kind: str,
    *,
    limits: Limits | None = None,
    height: float = 4,
) -> bytes:
    """One figure as the content of a file, "svg" or "png"; the same run gives the same bytes.

    ``limits`` are those of :func:`common_limits`, for panels that stand side by side; ``height`` is
    in inches, beside a width of 5.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5, height), layout="constrained")
        axes = figure.add_subplot()
        draw(axes, run)
        if limits is not None:
            axes.set(xlim=limits[0], ylim=limits[1])
        file = io.BytesIO()
        if kind == "svg":
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(file, format="svg", metadata=nothing, transparent=True)
        else:
            figure.savefig(file, format=kind, dpi=200, metadata={"Software": None})
    return file.getvalue()


def inline(svg: bytes, *, label: str, caption: str, prefix: str) -> str:
    """An SVG as a figure of a page; the prefix keeps its ids apart from those of others.

    Its colours become the page's, which has others on a dark background.
    """
    text = svg.decode()
    text = text[text.index("<svg") :].replace(
        "<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1
    )
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", text)
    text = re.sub(
        r"\b(fill|stroke): (#[0-9a-f]{6})\b",
        lambda found: f"{found[1]}: {VARIABLES.get(found[2], found[2])}",
        text,
    )
    return f"<figure><h3>{escape(caption)}</h3>{text}</figure>"

"""Pictures for a page that is light or dark: each is drawn twice, on no background."""

import hashlib
import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    name: str
    ink: str
    faint: str
    """Of lines that only guide the eye."""
    blue: str
    orange: str
    green: str
    others: tuple[str, ...]
    """For further lines of a plot."""


LIGHT = Theme(
    "light",
    ink="#1f2328",
    faint="#c4cad1",
    blue="#1a5fb4",
    orange="#b4460f",
    green="#1b7837",
    others=("#b4460f", "#7a3fa0", "#1b7837", "#8a6d00", "#a0305e", "#00767a", "#59636e"),
)
DARK = Theme(
    "dark",
    ink="#e6edf3",
    faint="#4a525c",
    blue="#79b0ff",
    orange="#f5a25d",
    green="#6fcf87",
    others=("#f5a25d", "#c89bf0", "#6fcf87", "#e3c34c", "#f28bb0", "#5cc8cc", "#9aa4af"),
)
Draw = Callable[[Theme], Figure]


def mark(module: ModuleType, data: str = "") -> str:
    """What a picture is drawn from, as a word: it changes where the code or the data does."""
    text = inspect.getsource(module) + inspect.getsource(inspect.getmodule(mark)) + data
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def files(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}-{theme.name}.svg" for theme in (LIGHT, DARK)]


def is_stale(folder: Path, name: str, word: str) -> bool:
    """Whether a picture is missing, or drawn by other code or from other data."""
    return any(
        not f.is_file() or f"drawn from {word}" not in f.read_text() for f in files(folder, name)
    )


def draw(folder: Path, name: str, picture: Draw, word: str) -> None:
    settings: dict[str, Any] = {"svg.hashsalt": name, "font.family": "DejaVu Sans"}
    for theme, file in zip((LIGHT, DARK), files(folder, name), strict=True):
        colours = dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"),
            theme.ink,
        )
        with matplotlib.rc_context(settings | colours):
            figure = picture(theme)
            FigureCanvasSVG(figure)
            made = io.StringIO()
            figure.savefig(
                made,
                format="svg",
                transparent=True,
                metadata={"Date": None, "Creator": None, "Description": f"drawn from {word}"},
            )
            # An element a line; no text is in them that white space would matter to.
            file.write_text(" ".join(made.getvalue().split()).replace("> <", ">\n<") + "\n")

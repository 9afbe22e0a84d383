"""One picture for each paper's model: its parts as boxes, its losses as coloured ones."""

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from tests.readme.drawing import Theme

WIDTH, HEIGHT = 1.62, 0.62
"""Of a box; the centres of two neighbours are 2 apart, those of two rows 1."""


@dataclass(frozen=True)
class Model:
    parts: dict[str, tuple[float, float]]
    """What is in a box: its column and row, row 0 at the top."""
    losses: dict[str, tuple[float, float]]
    """The same of what training minimises."""
    arrows: list[tuple[str, str]]


def side_by_side(*pairs: str) -> list[tuple[str, str]]:
    """Arrows written as ``"a > b"``."""
    return [tuple(pair.split(" > ")) for pair in pairs]


INPUTS = {"text": (0, 0), "audio": (0, 1), "vision": (0, 2)}
AROUND_TEXT = {"audio": (0, 0), "text": (0, 1), "vision": (0, 2)}
MODELS = {
    "hycon": Model(
        {
            **INPUTS,
            "text\nencoder": (1, 0),
            "audio\nencoder": (1, 1),
            "vision\nencoder": (1, 2),
            "fusion": (2.2, 1),
            "score": (3.3, 1),
        },
        {
            "task loss": (4.4, 1),
            "intra-modal\nby class": (1.4, 3.2),
            "inter-modal\nby class": (2.4, 3.2),
            "semi: own\nmodalities": (3.4, 3.2),
        },
        side_by_side(
            "text > text\nencoder",
            "audio > audio\nencoder",
            "vision > vision\nencoder",
            "text\nencoder > fusion",
            "audio\nencoder > fusion",
            "vision\nencoder > fusion",
            "fusion > score",
            "score > task loss",
            "vision\nencoder > intra-modal\nby class",
            "vision\nencoder > inter-modal\nby class",
            "vision\nencoder > semi: own\nmodalities",
        ),
    ),
    "tecafn": Model(
        {
            **AROUND_TEXT,
            "gate: own or a\nnegative's": (1.1, 0),
            "gate: own or a \nnegative's": (1.1, 2),
            "text attends\nto audio": (2.2, 0),
            "text attends\nto vision": (2.2, 2),
            "fusion": (3.3, 1),
            "score": (4.4, 1),
        },
        {
            "contrast: text\nand each other": (0, 3.2),
            "which one\nwas replaced?": (2.2, 3.2),
            "contrast of\nthe attended": (3.3, 3.2),
            "task loss": (4.4, 3.2),
        },
        side_by_side(
            "text > text attends\nto audio",
            "text > text attends\nto vision",
            "audio > gate: own or a\nnegative's",
            "vision > gate: own or a \nnegative's",
            "gate: own or a\nnegative's > text attends\nto audio",
            "gate: own or a \nnegative's > text attends\nto vision",
            "text attends\nto audio > fusion",
            "text attends\nto vision > fusion",
            "fusion > score",
            "vision > contrast: text\nand each other",
            "text attends\nto vision > which one\nwas replaced?",
            "text attends\nto vision > contrast of\nthe attended",
            "score > task loss",
        ),
    ),
    "mcl-mcf": Model(
        {
            **INPUTS,
            "text+audio": (1.2, 0),
            "text+vision": (1.2, 1),
            "audio+vision": (1.2, 2),
            "all three,\nas images": (2.4, 1),
            "hidden": (3.4, 1),
            "score": (4.4, 1),
        },
        {
            "level 1:\nsingle, single": (0, 3.2),
            "level 2:\nfused, single": (1.2, 3.2),
            "level 3:\nfused, fused": (2.4, 3.2),
            "task loss": (4.4, 3.2),
        },
        side_by_side(
            "text > text+audio",
            "audio > text+audio",
            "text > text+vision",
            "vision > text+vision",
            "audio > audio+vision",
            "vision > audio+vision",
            "text+audio > all three,\nas images",
            "text+vision > all three,\nas images",
            "audio+vision > all three,\nas images",
            "all three,\nas images > hidden",
            "hidden > score",
            "vision > level 1:\nsingle, single",
            "audio+vision > level 2:\nfused, single",
            "all three,\nas images > level 3:\nfused, fused",
            "score > task loss",
        ),
    ),
    "mfon": Model(
        {
            **AROUND_TEXT,
            "text attends to\naudio+prompt": (1.2, 0),
            "text attends to\nvision+prompt": (1.2, 2),
            "pooled, side\nby side": (2.4, 1),
            "score": (3.4, 1),
            "frozen teachers\nof one modality": (0, 3.2),
        },
        {
            "distillation": (1.2, 3.2),
            "contrast with\nthe text": (2.4, 3.2),
            "task loss": (3.4, 3.2),
        },
        side_by_side(
            "text > text attends to\naudio+prompt",
            "text > text attends to\nvision+prompt",
            "text > pooled, side\nby side",
            "audio > text attends to\naudio+prompt",
            "vision > text attends to\nvision+prompt",
            "text attends to\naudio+prompt > pooled, side\nby side",
            "text attends to\nvision+prompt > pooled, side\nby side",
            "pooled, side\nby side > score",
            "score > task loss",
            "frozen teachers\nof one modality > distillation",
            "text attends to\nvision+prompt > distillation",
            "pooled, side\nby side > contrast with\nthe text",
        ),
    ),
    "cormult": Model(
        {
            **INPUTS,
            "each attends to\neach other": (1.2, 1),
            "times their\ncorrelation": (2.3, 1),
            "a memory for\neach modality": (3.4, 1),
            "score": (4.5, 1),
            "evaluator,\ntrained first": (1.2, 3.2),
        },
        {"triplets: own and\naltered modalities": (0, 3.2), "task loss": (4.5, 3.2)},
        side_by_side(
            "text > each attends to\neach other",
            "audio > each attends to\neach other",
            "vision > each attends to\neach other",
            "each attends to\neach other > times their\ncorrelation",
            "times their\ncorrelation > a memory for\neach modality",
            "a memory for\neach modality > score",
            "score > task loss",
            "evaluator,\ntrained first > times their\ncorrelation",
            "evaluator,\ntrained first > triplets: own and\naltered modalities",
        ),
    ),
}


def picture(model: str, theme: Theme) -> Figure:
    drawn = MODELS[model]
    boxes = {**drawn.parts, **drawn.losses}
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-1, 10), ylim=(-3.7, 0.5))
    axes.axis("off")
    for text, (column, row) in boxes.items():
        edge = theme.orange if text in drawn.losses else theme.blue
        corner = 2 * column - WIDTH / 2, -row - HEIGHT / 2
        style = "round,pad=0.02,rounding_size=0.12"
        axes.add_patch(
            FancyBboxPatch(corner, WIDTH, HEIGHT, style, edgecolor=edge, facecolor="none", lw=1.3)
        )
        axes.text(2 * column, -row, text, ha="center", va="center", fontsize=8.2)
    for start, end in drawn.arrows:
        tail, tip = ends(boxes[start], boxes[end])
        arrow = {"arrowstyle": "->", "color": theme.ink, "lw": 0.9, "shrinkA": 1, "shrinkB": 1}
        axes.annotate("", tip, tail, arrowprops=arrow)
    return figure


def ends(
    start: tuple[float, float], end: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow leaves its box and meets the next, so that it crosses none between them."""
    (column, row), (to, onto) = start, end
    right, left = (2 * column + WIDTH / 2, -row), (2 * to - WIDTH / 2, -onto)
    top, bottom = (2 * to, -onto + HEIGHT / 2), (2 * to, -onto - HEIGHT / 2)
    if onto - row > 1.1:  # down to a loss
        return (2 * column, -row - HEIGHT / 2), top
    if to < column:
        return (2 * column - WIDTH / 2, -row), (2 * to + WIDTH / 2, -onto)
    if row - onto > 1.1:
        return right, bottom
    if to - column > 1.5 and row != onto:  # past a column
        return right, bottom if onto < row else top
    return right, left

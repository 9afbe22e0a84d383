"""The kinds of figures in the papers, drawn from run folders."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from reference_models.tables.finished import Run
from reference_models.tables.paired import CANNOT_TELL, HELPS, HURTS, Difference
from reference_models.tables.statistics import Summary, in_percent, title

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, SOFT = "#1d2733", "#5b6775"
SPLITS = {"valid": "validation", "test": "test"}
SCORE_MAP = "PuOr"
TSNE_POINTS = 1500
SETTINGS = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "the same ids on every call",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
}


class FigureKind(NamedTuple):
    """One kind of figure: heading, caption, and the function that draws it for a run."""

    heading: str
    words: str
    draw: Callable[[Axes, Run], None]


def draw_terms(axes: Axes, run: Run) -> None:
    """The loss terms over the epochs, and the error on the watched split if there is one."""
    _draw_history(axes, run.history)
    axes.axvline(run.metrics["best_epoch"], color=SOFT, ls=":", lw=1.2)


def draw_stage(name: str) -> Callable[[Axes, Run], None]:
    """The function that draws the loss terms of a part trained before the network."""
    return lambda axes, run: _draw_history(axes, run.stages[name])


def draw_scatter(axes: Axes, run: Run) -> None:
    """Predicted against true scores."""
    labels, predictions = run.labels[""], run.predictions[""]
    bound = 1.05 * max(_scale(run), np.abs(labels).max(), np.abs(predictions).max())
    axes.plot([-bound, bound], [-bound, bound], color=SOFT, lw=1)
    axes.scatter(labels, predictions, s=11, alpha=0.55, color=COLOURS[0], edgecolors="none")
    limits = (-bound, bound)
    axes.set(xlim=limits, ylim=limits, xlabel="true score", ylabel="predicted score")
    axes.set_aspect("equal")


def draw_seven(axes: Axes, run: Run) -> None:
    """Confusion of the classes of Acc-7: scores clipped to [-3, 3], rounded, halves to even."""
    true, predicted = (
        np.round(np.clip(scores, -3, 3)).astype(np.int64)
        for scores in (run.labels[""], run.predictions[""])
    )
    _draw_confusion(axes, true, predicted, {number: str(number) for number in range(-3, 4)})


def draw_two(axes: Axes, run: Run) -> None:
    """Confusion of two classes: negative and non-negative scores, or no and yes."""
    true, predicted = run.labels[""], run.predictions[""]
    names = {0: "no", 1: "yes"}
    if run.scores:
        zero = np.greater if is_sims(run) else np.greater_equal  # 0 is negative in CH-SIMS
        true, predicted = zero(true, 0), zero(predicted, 0)
        names = {0: "negative", 1: "non-negative"}
        if is_sims(run):
            names = {0: "non-positive", 1: "positive"}
    _draw_confusion(axes, true.astype(np.int64), predicted.astype(np.int64), names)


def draw_output(name: str) -> Callable[[Axes, Run], None]:
    """The function that draws the confusion of one of several yes-or-no outputs."""

    def draw(axes: Axes, run: Run) -> None:
        true, predicted = (x[name].astype(np.int64) for x in (run.labels, run.predictions))
        _draw_confusion(axes, true, predicted, {0: f"not {name}", 1: name})

    return draw


def draw_features(axes: Axes, run: Run) -> None:
    """A t-SNE map of the fused features, coloured by score or class if there is a single one."""
    some = np.random.default_rng(0).permutation(len(run.fused))[:TSNE_POINTS]
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(some) < 4:
        axes.text(0.5, 0.5, "too few samples for a map", ha="center", transform=axes.transAxes)
        return
    perplexity = min(30.0, (len(some) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(run.fused[some])
    look: dict[str, Any] = {"s": 13, "edgecolors": SOFT, "linewidths": 0.2}
    if "" not in run.labels:
        axes.scatter(*places.T, color=COLOURS[0], **look)
        return
    low, high = (-_scale(run), _scale(run)) if run.scores else (0, 1)
    points = axes.scatter(
        *places.T, c=run.labels[""][some], cmap=SCORE_MAP, vmin=low, vmax=high, **look
    )
    label = "true score" if run.scores else "true class"
    axes.figure.colorbar(points, ax=axes, shrink=0.8, label=label)


def has_seven(run: Run) -> bool:
    """Whether the run's scores have the seven classes -3 ... 3."""
    return "acc7" in run.metrics["test"]


def is_sims(run: Run) -> bool:
    """Whether the run's scores are those of CH-SIMS."""
    return "acc3" in run.metrics["test"]


def figures_of(run: Run) -> tuple[list[FigureKind], list[str]]:
    """The figures that apply to a run, and a reason for each that does not."""
    kinds = [
        FigureKind(
            "Loss terms over time",
            "Means over each epoch, every term as it enters the loss (times its weight); the dotted"
            " line marks the epoch that was kept.",
            draw_terms,
        )
    ]
    words = "Means over each epoch of a part that was trained before the network, then frozen."
    for name in run.stages:
        kinds.append(FigureKind(f"Loss terms over time: {name}", words, draw_stage(name)))
    left_out = []
    confusion = "Test split. Numbers are samples, shades are shares of a true class."
    if run.scores:
        words = "Test split; on the diagonal a prediction is right."
        kinds.append(FigureKind("Predicted against true scores", words, draw_scatter))
    else:
        left_out.append("predicted against true scores, as the run predicts classes")
    if has_seven(run):
        words = f"{confusion} Scores are rounded to -3 ... 3."
        kinds.append(FigureKind("Confusion of the seven classes", words, draw_seven))
    else:
        left_out.append("the confusion of seven classes, which the run's labels do not have")
    for name in run.labels:
        heading = f"Confusion: {name}" if name else "Confusion of the two classes"
        kinds.append(FigureKind(heading, confusion, draw_output(name) if name else draw_two))
    words = (
        "t-SNE of what the last layer sees, test split, coloured by the true score or class."
        " Distances between far groups mean little in such a map."
    )
    kinds.append(FigureKind("Fused features", words, draw_features))
    return kinds, left_out


def sweep(metric: str, field: str, points: Mapping[float, Summary]) -> Callable[[Axes, Any], None]:
    """The function that draws a metric against a setting: means, and deviations as error bars."""

    def draw(axes: Axes, _: Any) -> None:
        values = sorted(points)
        means, deviations = zip(*((points[v].mean, points[v].std) for v in values), strict=True)
        style = {"color": COLOURS[0], "marker": "o", "capsize": 3, "lw": 1.6}
        axes.errorbar(values, means, yerr=deviations, **style)
        axes.set(xlabel=field, ylabel=title(metric))

    return draw


def intervals(metric: str, rows: Mapping[str, Difference]) -> Callable[[Axes, Any], None]:
    """The function that draws the differences of rows in a metric, with their intervals."""
    colours = {HELPS: COLOURS[2], HURTS: COLOURS[1], CANNOT_TELL: SOFT}

    def draw(axes: Axes, _: Any) -> None:
        axes.axvline(0, color=SOFT, lw=1)
        for at, each in enumerate(rows.values()):
            colour = colours[each.word]
            axes.plot([each.low, each.high], [at, at], color=colour, lw=2.2, solid_capstyle="butt")
            axes.plot(each.value, at, "o", color=colour, ms=6)
        axes.set_yticks(range(len(rows)), [f"{name}\n{each.word}" for name, each in rows.items()])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        unit = ", percentage points" if in_percent(metric) else ""
        axes.set_xlabel(f"difference in {title(metric)}{unit}")

    return draw


def render(draw: Callable[[Axes, Any], None], run: Any, kind: str) -> bytes:
    """One figure as the content of a file, "svg" or "png"; the same run gives the same bytes."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5, 4), layout="constrained")
        draw(figure.add_subplot(), run)
        file = io.BytesIO()
        if kind == "svg":
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(file, format="svg", metadata=nothing, transparent=True)
        else:
            figure.savefig(file, format=kind, dpi=200, metadata={"Software": None})
    return file.getvalue()


def inline(svg: bytes, *, label: str, caption: str, prefix: str) -> str:
    """An SVG as a figure of a page; the prefix keeps its ids apart from those of others."""
    text = svg.decode()
    text = text[text.index("<svg") :].replace(
        "<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1
    )
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", text)
    return f"<figure><h3>{escape(caption)}</h3>{text}</figure>"


def _draw_history(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    epochs = [row["epoch"] for row in history]
    terms = [key for key in history[0] if key.startswith("loss_")]
    names = [name for name in terms if any(row[name] for row in history)]
    watched = {f"{s}_{m}": f"{w} {m}" for s, w in SPLITS.items() for m in ("mae", "loss")}
    dashed = next((key for key in watched if key in history[0]), None)
    for at, name in enumerate([*names, *([dashed] if dashed else [])]):
        values = [row[name] for row in history]
        colour = INK if name == dashed else COLOURS[at % len(COLOURS)]
        axes.plot(
            epochs,
            values,
            color=colour,
            ls="--" if name == dashed else "-" if at < len(COLOURS) else "-.",
            lw=1.2 if name == dashed else 1.8,
            marker="." if len(epochs) == 1 else "",
            label=watched.get(name, name.removeprefix("loss_")).replace("mae", "MAE"),
        )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel="value")
    axes.figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=8.5)


def _scale(run: Run) -> float:
    """The end of the scale of the labels: 1 of CH-SIMS, 3 of MOSI, or what they reach."""
    if has_seven(run):
        return 3.0
    return 1.0 if is_sims(run) else float(np.abs(run.labels[""]).max()) or 1.0


def _draw_confusion(
    axes: Axes, true: NDArray[np.int64], predicted: NDArray[np.int64], classes: Mapping[int, str]
) -> None:
    """Numbers are samples, shades are shares of a true class."""
    counts = confusion_matrix(true, predicted, labels=list(classes))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names: Sequence[str] = list(classes.values())
    display = ConfusionMatrixDisplay(shares, display_labels=names)
    display.plot(ax=axes, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1})
    for place in np.ndindex(counts.shape):
        display.text_[place].set_text(counts[place])
    axes.set(xlabel="predicted class", ylabel="true class")

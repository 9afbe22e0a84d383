"""The kinds of figures in the papers, drawn from run folders."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from reference_models.tables.finished import Run
from reference_models.tables.paired import CANNOT_TELL, HELPS, HURTS, Difference
from reference_models.tables.rendering import COLOURS, INK, SOFT
from reference_models.tables.statistics import Summary, in_percent, title

SPLITS = {"valid": "validation", "test": "test"}
SCORE_MAP = "coolwarm"  # neither end vanishes on a light or on a dark page
TSNE_POINTS = 1500


class FigureKind(NamedTuple):
    """One kind of figure: heading, caption, and the function that draws it for a run.

    ``same_axes``: whether panels of several runs are to have the same limits; ``curves``: whether
    it shows loss terms.
    """

    heading: str
    words: str
    draw: Callable[[Axes, Run], None]
    same_axes: bool = False
    curves: bool = False


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
    look: dict[str, Any] = {"s": 13, "edgecolors": SOFT, "linewidths": 0.4}
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
            same_axes=True,
            curves=True,
        )
    ]
    words = "Means over each epoch of a part that was trained before the network, then frozen."
    for name in run.stages:
        kinds.append(
            FigureKind(_stage_heading(name), words, draw_stage(name), same_axes=True, curves=True)
        )
    left_out = []
    confusion = "Test split. Numbers are samples, shades are shares of a true class."
    if run.scores:
        words = "Test split; on the diagonal a prediction is right."
        kinds.append(
            FigureKind("Predicted against true scores", words, draw_scatter, same_axes=True)
        )
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


def _stage_heading(name: str) -> str:
    return f"Loss terms over time: {name}"


def terms_of(run: Run, heading: str) -> list[str]:
    """The loss terms in the figure of a run that has this heading; none in another kind."""
    figures = {"Loss terms over time": run.history}
    figures |= {_stage_heading(name): history for name, history in run.stages.items()}
    return [name.removeprefix("loss_") for name in _drawn_terms(figures.get(heading, []))]


def _drawn_terms(history: Sequence[Mapping[str, float]]) -> list[str]:
    """The columns of the terms that were not 0 all the time."""
    names = [key for key in (history[0] if history else {}) if key.startswith("loss_")]
    return [name for name in names if any(row[name] for row in history)]


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
        axes.locator_params(axis="x", nbins=5)  # labels as -0.015 are wide
        unit = ", percentage points" if in_percent(metric) else ""
        axes.set_xlabel(f"difference in {title(metric)}{unit}")

    return draw


def _draw_history(axes: Axes, history: Sequence[Mapping[str, float]]) -> None:
    epochs = [row["epoch"] for row in history]
    names = _drawn_terms(history)
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
    for place in np.ndindex(counts.shape):  # dark on the pale half of the shades
        ink = "#f7fbff" if shares[place] > 0.5 else "#08306b"
        display.text_[place].set(text=counts[place], color=ink)
    axes.set(xlabel="predicted class", ylabel="true class")

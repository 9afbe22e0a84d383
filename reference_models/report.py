"""One self-contained HTML page about runs: their table, and four figures for each of them."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors.numpy import load_file
from sklearn.manifold import TSNE
from sklearn.metrics import confusion_matrix

COLUMNS = ("MAE", "Corr", "Acc-7", "Acc-2", "F1")
TERM_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SCORE_MAP = "PuOr"
TSNE_POINTS = 1500
STYLE = """
:root { color-scheme: light; --ink: #1d2733; --soft: #5b6775; --line: #dde3ea; --tint: #f5f7fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 2rem 1.25rem 4rem; color: var(--ink);
  background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; padding-top: 1.1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 0 0 .4rem; font-weight: 600; }
p { max-width: 46rem; margin: .4rem 0 .8rem; }
.soft { color: var(--soft); font-size: .92rem; }
.note { border-left: 4px solid #e69f00; background: #fff8e8; padding: .6rem .9rem;
  max-width: 46rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .8rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { border-bottom: 2px solid var(--ink); }
.grid { display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); }
figure { margin: 0; border: 1px solid var(--line); border-radius: 8px; padding: .8rem;
  break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
code, pre { font: .9rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--tint); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
  .grid { grid-template-columns: 1fr 1fr; } h2 { break-after: avoid; } }
"""


def table_row(metrics: Mapping[str, Any]) -> list[str]:
    """The five metrics of ``COLUMNS`` as text; Acc-2 and F1 as "NN/N / P/N", shares in percent."""

    def number(value: float | None, form: str, factor: float = 1) -> str:
        return "n/a" if value is None or np.isnan(value) else format(value * factor, form)

    def pair(values: Mapping[str, float]) -> str:
        return " / ".join(number(values[side], ".1f", 100) for side in ("nn_n", "p_n"))

    return [
        number(metrics["mae"], ".3f"),
        number(metrics["corr"], ".3f"),
        number(metrics["acc7"], ".1f", 100),
        pair(metrics["acc2"]),
        pair(metrics["f1"]),
    ]


def text_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A plain text table: one row of metrics under each name."""
    lines = [["", *COLUMNS], *([name, *table_row(metrics)] for name, metrics in rows.items())]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def write_report(
    runs: Mapping[str, Path],
    page: Path,
    *,
    title: str,
    lead: str,
    note: str | None = None,
    go_on: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page of finished runs: nothing on it is loaded from anywhere else.

    Args:
        runs: the name that the page gives each run, and its folder.
        page: the HTML file.
        title, lead: heading, and the sentence under it.
        note: what the reader must not overlook, in a box.
        go_on: pairs of what one may want to do next and the command that does it.

    Raises:
        FileNotFoundError: a folder that holds no finished run.
    """
    loaded = {name: _Run(folder) for name, folder in runs.items()}
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(lead)}</p>"]
    if note is not None:
        parts.append(f'<p class="note">{escape(note)}</p>')
    parts += ["<h2>Test results</h2>", _html_table(loaded)]
    for heading, words, draw in (
        (
            "Loss terms over time",
            "Means over each epoch, every term as it enters the loss (times its weight); the dotted"
            " line marks the epoch that was kept.",
            _draw_terms,
        ),
        (
            "Predicted against true scores",
            "Test split; on the diagonal a prediction is right.",
            _draw_scatter,
        ),
        (
            "Confusion of the seven classes",
            "Test split; scores rounded to -3 ... 3. Numbers are samples, shades are shares of a"
            " true class.",
            _draw_confusion,
        ),
        (
            "Fused features",
            "t-SNE of what the last layer sees, test split, coloured by the true score. Distances"
            " between far groups mean little in such a map.",
            _draw_features,
        ),
    ):
        figures = "".join(
            _figure(draw, run, f"{heading}: {name}", name, f"f{len(parts)}-{number}-")
            for number, (name, run) in enumerate(loaded.items())
        )
        parts.append(f"<h2>{heading}</h2><p class=soft>{words}</p><div class=grid>{figures}</div>")
    if go_on:
        steps = "\n\n".join(f"# {words}\n{command}" for words, command in go_on)
        parts.append(f"<h2>How to go on</h2><pre>{escape(steps)}</pre>")
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")


class _Run:
    """What the page needs from one run folder."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        self.history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        self.labels = np.array([float(row["label"]) for row in rows])
        self.predictions = np.array([float(row["prediction"]) for row in rows])
        self.fused = load_file(folder / "fused.safetensors")["test"]


def _html_table(runs: Mapping[str, _Run]) -> str:
    head = "".join(f"<th scope=col>{name}</th>" for name in ("Model", *COLUMNS, "Epoch kept"))
    body = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{cell}</td>" for cell in table_row(run.metrics["test"]))
        + f"<td>{run.metrics['best_epoch']} of {len(run.history)}</td></tr>"
        for name, run in runs.items()
    )
    return (
        "<p class=soft>MAE: lower is better; the others: higher. Acc and F1 in percent; Acc-2 and"
        " F1 as negative against non-negative / negative against positive.</p><div class=scroll>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(draw: Any, run: _Run, label: str, name: str, prefix: str) -> str:
    """One figure as inline SVG; with the prefix before its ids, many fit on one page."""
    settings = {
        "font.family": "sans-serif",
        "font.size": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": "the same ids on every call",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#5b6775",
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(5, 4), layout="constrained")
        draw(figure.add_subplot(), run)
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing, transparent=True)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(
        "<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1
    )
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    return f"<figure><h3>{escape(name)}</h3>{svg}</figure>"


def _draw_terms(axes: Axes, run: _Run) -> None:
    epochs = [row["epoch"] for row in run.history]
    terms = [key for key in run.history[0] if key.startswith("loss_")]
    names = [name for name in terms if any(row[name] for row in run.history)]
    for name, colour in zip(names, TERM_COLOURS, strict=False):
        values = [row[name] for row in run.history]
        axes.plot(epochs, values, color=colour, label=name.removeprefix("loss_"), lw=1.8)
    axes.plot(
        epochs,
        [row["valid_mae"] for row in run.history],
        color="#1d2733",
        ls="--",
        lw=1.2,
        label="validation MAE",
    )
    axes.axvline(run.metrics["best_epoch"], color="#5b6775", ls=":", lw=1.2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel="value")
    axes.figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=8.5)


def _draw_scatter(axes: Axes, run: _Run) -> None:
    bound = 1.05 * max(3.0, np.abs(run.labels).max(), np.abs(run.predictions).max())
    axes.plot([-bound, bound], [-bound, bound], color="#5b6775", lw=1)
    axes.scatter(
        run.labels, run.predictions, s=11, alpha=0.55, color=TERM_COLOURS[0], edgecolors="none"
    )
    axes.set(
        xlim=(-bound, bound), ylim=(-bound, bound), xlabel="true score", ylabel="predicted score"
    )
    axes.set_aspect("equal")


def _draw_confusion(axes: Axes, run: _Run) -> None:
    classes = np.arange(-3, 4)
    true, predicted = (_seven(scores) for scores in (run.labels, run.predictions))
    counts = confusion_matrix(true, predicted, labels=classes)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        dark = shares[row, column] > 0.55
        axes.text(
            column,
            row,
            counts[row, column],
            ha="center",
            va="center",
            fontsize=9,
            color="white" if dark else "#1d2733",
        )
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_xticks(range(7), classes)
    axes.set_yticks(range(7), classes)


def _seven(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """The classes of Acc-7: clipped to [-3, 3] and rounded, halves to even."""
    return np.round(np.clip(scores, -3, 3)).astype(np.int64)


def _draw_features(axes: Axes, run: _Run) -> None:
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
    points = axes.scatter(
        *places.T,
        c=run.labels[some],
        s=13,
        cmap=SCORE_MAP,
        vmin=-3,
        vmax=3,
        edgecolors="#5b6775",
        linewidths=0.2,
    )
    axes.figure.colorbar(points, ax=axes, shrink=0.8, label="true score")

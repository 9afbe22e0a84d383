"""Tables of metrics: names, digits and units, means over seeds; as text, Markdown, CSV and HTML."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from reference_models.engine import flat_metrics

TITLES = {
    "mae": "MAE",
    "corr": "Corr",
    "f1": "F1",
    "accuracy": "Accuracy",
    **{f"acc{classes}": f"Acc-{classes}" for classes in (2, 3, 5, 7)},
}
SIDES = {"nn_n": "nn/n", "p_n": "p/n"}
MAG_BERT = "mag_bert_"
UNITS = (
    "MAE: lower is better; the others: higher. Accuracies and F1 in percent; nn/n is negative"
    " against non-negative, p/n negative against positive."
)
HTML_STYLE = """
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
table.words :is(th, td) { text-align: left; white-space: normal; vertical-align: top; }
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


@dataclass(frozen=True)
class Summary:
    """One metric over runs: mean, deviation (population) and values, shares in percent.

    What is not defined in a run is left out; with nothing left, mean and deviation are NaN.
    """

    mean: float
    std: float
    values: tuple[float, ...]


def summaries(results: Sequence[Mapping[str, Any]]) -> dict[str, Summary]:
    """Every metric over the metrics of several runs, by its flat name: ``acc2_nn_n``."""
    rows = [flat_metrics(metrics) for metrics in results]
    out = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        given = (row.get(name) for row in rows)
        factor = 100 if in_percent(name) else 1
        values = [factor * x for x in given if x is not None and math.isfinite(x)]
        mean, std = (np.mean(values), np.std(values)) if values else (math.nan, math.nan)
        out[name] = Summary(float(mean), float(std), tuple(values))
    return out


def in_percent(metric: str) -> bool:
    """Whether a metric is a share: accuracies and F1 are, errors and correlations are not."""
    return metric.removeprefix(MAG_BERT).startswith(("acc", "f1"))


def title(metric: str) -> str:
    """How a table calls a metric: "Acc-2 nn/n" is ``acc2_nn_n``."""
    own = metric.removeprefix(MAG_BERT)
    head, _, rest = own.partition("_")
    words = [TITLES.get(head, head), SIDES.get(rest, rest)]
    return " ".join(word for word in words if word) + (" (MAG-BERT)" if own != metric else "")


def mean_and_deviation(metric: str, summary: Summary) -> str:
    """ "0.713 ± 0.010", with one decimal where it is a share; without ± for a single run."""
    form = ".1f" if in_percent(metric) else ".3f"
    mean, std = number(summary.mean, form), number(summary.std, form)
    return mean if len(summary.values) < 2 else f"{mean} ± {std}"


def number(value: float | None, form: str) -> str:
    """A formatted number; "n/a" for what is not defined."""
    return "n/a" if value is None or math.isnan(value) else format(value, form)


def printed(metric: str, value: float | None) -> str:
    """A published number with the digits that it has, three or one at least."""
    if value is None:
        return ""
    digits = 1 if in_percent(metric) else 3
    return max(f"{value:.{digits}f}", f"{value:g}", key=len)


def columns(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The columns of one run's metrics: title and text; without other protocols.

    Acc-2 and F1 stand as one column, "NN/N / P/N", where there are both; shares in percent.
    """
    out = {}
    for name, value in metrics.items():
        if f"{name}_" == MAG_BERT or (name == "acc5" and "acc7" in metrics):
            continue
        form, factor = (".1f", 100) if in_percent(name) else (".3f", 1)
        inner = value if isinstance(value, Mapping) else {"": value}
        texts = {k: number(None if v is None else v * factor, form) for k, v in inner.items()}
        if set(texts) == set(SIDES):
            texts = {"": " / ".join(texts[side] for side in SIDES)}
        out |= {title(f"{name}_{k}" if k else name): text for k, text in texts.items()}
    return out


def text_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A plain text table: one row of metrics under each name."""
    cells = {name: columns(metrics) for name, metrics in rows.items()}
    head = list(dict.fromkeys(column for row in cells.values() for column in row))
    lines = [["", *head], *([name, *(row.get(c, "") for c in head)] for name, row in cells.items())]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool) -> str:
    """A table of Markdown; columns after the first to the right, unless they hold ``words``."""
    rule = ["---", *(["---" if words else "---:"] * (len(head) - 1))]
    clean = [[cell.replace("|", "\\|") for cell in row] for row in (head, rule, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in clean)


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> str:
    """The same table as HTML."""
    top = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    kind = " class=words" if words else ""
    return (
        f"<div class=scroll><table{kind}><thead><tr>{top}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def html_page(title: str, parts: Sequence[str]) -> str:
    """A page that loads nothing from anywhere else, out of parts of HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{HTML_STYLE}</style></head>\n<body>"
        + "\n".join([f"<h1>{escape(title)}</h1>", *parts])
        + "</body></html>\n"
    )

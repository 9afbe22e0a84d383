"""Metrics for tables: names, digits and units, means over seeds, and a plain text table."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference_models.running.metrics import flat_metrics

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
NO_SEVEN = "Acc-7 is left out where the labels of the data do not reach from -3 to 3."


@dataclass(frozen=True)
class Summary:
    """One metric over runs: mean, deviation (population) and values, shares in percent.

    Undefined values are left out; if none is defined, mean and deviation are NaN.
    """

    mean: float
    std: float
    values: tuple[float, ...]


def summaries(results: Sequence[Mapping[str, Any]]) -> dict[str, Summary]:
    """The summary of every metric of several runs, by its flat name: ``acc2_nn_n``."""
    rows = [flat_metrics(metrics) for metrics in results]
    out = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        given = (row.get(name) for row in rows)
        factor = 100 if in_percent(name) else 1
        values = [factor * x for x in given if x is not None and math.isfinite(x)]
        mean, std = (np.mean(values), np.std(values)) if values else (math.nan, math.nan)
        out[name] = Summary(float(mean), float(std), tuple(values))
    return out


def main_metrics(names: Iterable[str]) -> list[str]:
    """The metrics that tables show: of the main protocol, and not Acc-5 beside Acc-7."""
    own = [name for name in names if not name.startswith(MAG_BERT)]
    return [name for name in own if not (name == "acc5" and "acc7" in own)]


def units(rows: Iterable[Collection[str]]) -> str:
    """A sentence on the units of a table, and one on Acc-7 where a row of scores has none.

    Args:
        rows: the metrics that each row has, by their flat names.
    """
    return " ".join([UNITS, *([NO_SEVEN] if any(map(_without_seven, rows)) else [])])


def _without_seven(names: Collection[str]) -> bool:
    scores = any(f"{name}_".startswith(MAG_BERT) for name in names)  # of MOSI's kind
    return scores and "acc7" not in names


def in_percent(metric: str) -> bool:
    """Whether a metric is a share: accuracies and F1 are, errors and correlations are not."""
    return metric.removeprefix(MAG_BERT).startswith(("acc", "f1"))


def title(metric: str) -> str:
    """The column title of a metric: "Acc-2 nn/n" for ``acc2_nn_n``."""
    own = metric.removeprefix(MAG_BERT)
    head, _, rest = own.partition("_")
    words = [TITLES.get(head, head), SIDES.get(rest, rest)]
    return " ".join(word for word in words if word) + (" (MAG-BERT)" if own != metric else "")


def mean_and_deviation(metric: str, summary: Summary) -> str:
    """ "0.713 ± 0.010"; shares have one decimal, and a single run has no deviation."""
    form = ".1f" if in_percent(metric) else ".3f"
    mean, std = number(summary.mean, form), number(summary.std, form)
    return mean if len(summary.values) < 2 else f"{mean} ± {std}"


def number(value: float | None, form: str) -> str:
    """A formatted number; "n/a" for an undefined one."""
    return "n/a" if value is None or math.isnan(value) else format(value, form)


def printed(metric: str, value: float | None) -> str:
    """A published number with all of its digits, and at least three decimals (shares: one)."""
    if value is None:
        return ""
    digits = 1 if in_percent(metric) else 3
    return max(f"{value:.{digits}f}", f"{value:g}", key=len)


def columns(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The columns of one run's metrics, title and text, for the main protocol.

    The two sides of Acc-2 and of F1 share a column, nn/n first; shares are in percent.
    """
    out = {}
    for name, value in metrics.items():
        if f"{name}_" == MAG_BERT or (name == "acc5" and "acc7" in metrics):
            continue
        form, factor = (".1f", 100) if in_percent(name) else (".3f", 1)
        inner = value if isinstance(value, Mapping) else {"": value}
        texts = {k: number(None if v is None else v * factor, form) for k, v in inner.items()}
        if set(texts) == set(SIDES):
            both = ", ".join(SIDES.values())
            out[f"{title(name)} {both}"] = " / ".join(texts[side] for side in SIDES)
        else:
            out |= {title(f"{name}_{k}" if k else name): text for k, text in texts.items()}
    return out


def text_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A plain text table: one row of metrics under each name; and a word on what is left out."""
    cells = {name: columns(metrics) for name, metrics in rows.items()}
    head = list(dict.fromkeys(column for row in cells.values() for column in row))
    lines = [["", *head], *([name, *(row.get(c, "") for c in head)] for name, row in cells.items())]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    table = "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    return f"{table}\n{NO_SEVEN}" if any(map(_without_seven, rows.values())) else table

"""What the models reach on CMU-MOSI, and what contrast is worth there."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from reference_models.registry import MODELS
from reference_models.tables.paired import Difference, differences_by_metric, resampled
from reference_models.tables.published import published_row
from reference_models.tables.statistics import in_percent
from reference_models.tables.weighted_metrics import weighted_metrics
from tests.readme.measuring import Floats, kept
from tests.readme.tables import SPACE, table

BASE = "text-only/text-only"
ROWS = {
    BASE: "text alone",
    "hycon/full": "HyCon",
    "hycon-v2/full": "HyCon-v2",
    "hycon/wo_contrast": "without contrast",
    "tecafn/full": "TeCaFN",
    "tecafn/wo_contrast": "without contrast, gate and pairs",
    "mcl-mcf/full": "MCL-MCF",
    "mcl-mcf/wo_contrast": "without contrast",
    "mfon/full": "MFON",
    "mfon/wo_contrast": "without L_ICL",
    "cormult/full": "CorMulT",
    "cormult-residual/full": "CorMulT, `weighting=residual`",
    "cormult/wo_contrast": "without correlation",
}
"""TABLE/ROW of the runs, in order."""
WITHOUT = {
    "hycon-v2/full": "hycon/wo_contrast",
    "cormult-residual/full": "cormult/wo_contrast",
}
"""The row without contrast, where it is not the table's own."""
SEEDS = 3
"""Of a row, at least."""
METRICS = ("mae", "corr", "acc7", "acc2_nn_n", "acc2_p_n", "f1_nn_n", "f1_p_n")
HEAD = (
    *("", "MAE", "Corr", "Acc-7", "Acc-2 nn/n", "Acc-2 p/n", "F1 nn/n", "F1 p/n"),
    *("MAE minus text alone's", "minus that without contrast", "paper's MAE"),
)


def model_of(row: str) -> str:
    """The paper's page that a row stands on."""
    name = row.split("/")[0]
    return {"hycon-v2": "hycon", "cormult-residual": "cormult"}.get(name, name)


def measured(model: str | None = None) -> str:
    """The rows of every encoder that lacks no run: of text alone, and of one model or of all."""
    whole = [name for name in kept().settings if not left(name)]
    return table(HEAD, [line for name in whole for line in lines_of(name, model)])


def left(encoder: str) -> int:
    """Runs that the table of an encoder lacks."""
    return sum(max(SEEDS - len(kept().row(encoder, row)), 0) for row in ROWS)


def lines_of(encoder: str, model: str | None) -> list[list[str]]:
    """The rows of one encoder; those that no run is kept of are left out."""
    found = {row: metrics_by_seed(encoder, row) for row in ROWS}
    lines = []
    for row in ROWS:
        if found[row] and (row == BASE or model in (None, model_of(row))):
            without = WITHOUT.get(row, f"{row.split('/')[0]}/wo_contrast")
            lines.append(
                [
                    _named(row, encoder),
                    *(_mean(found[row], metric) for metric in METRICS),
                    *(_minus(found, row, other) for other in (BASE, without)),
                    _printed(row),
                ]
            )
    return lines


@cache
def metrics_by_seed(encoder: str, row: str) -> dict[int, Mapping[str, Floats]]:
    """Of each seed (1 + R,) values by metric: on the test split, and on R resampled ones."""
    now = kept()
    counts, labels = resampled(len(now.labels)), {"": now.labels}
    names = dict.fromkeys(METRICS)
    runs = now.row(encoder, row).items()
    return {seed: weighted_metrics(names, {"": each}, labels, counts) for seed, each in runs}


def minus(
    row: Mapping[int, Mapping[str, Floats]], other: Mapping[int, Mapping[str, Floats]], metric: str
) -> Difference | None:
    """The paired difference of two rows, over the seeds that both have; None without one."""
    seeds = sorted(row.keys() & other.keys())
    if not seeds:
        return None
    ours, theirs = ([{metric: each[s][metric]} for s in seeds] for each in (row, other))
    return differences_by_metric(ours, theirs, samples=len(kept().labels))[metric]


def _minus(found: Mapping[str, Mapping[int, Mapping[str, Floats]]], row: str, other: str) -> str:
    each = None if row == other else minus(found[row], found.get(other, {}), "mae")
    return "" if each is None else in_words(each)


def _mean(runs: Mapping[int, Mapping[str, Floats]], metric: str) -> str:
    return mean_in_words([float(run[metric][0]) for run in runs.values()], metric)


def in_words(error: Difference) -> str:
    """ "+.031 (+.012 to +.050): hurts", of an error."""
    value, low, high = (short(format(x, "+.3f")) for x in (error.value, error.low, error.high))
    return f"{value} ({low} to {high}): {error.word}".replace(" ", SPACE)


def mean_in_words(values: Sequence[float], metric: str) -> str:
    """ ".655 ± .012"; of a single value no deviation."""
    both = np.mean(values), np.std(values)
    texts = [f"{x:.1f}" if in_percent(metric) else short(f"{x:.3f}") for x in both]
    return f"{SPACE}±{SPACE}".join(texts if len(values) > 1 else texts[:1])


def short(number: str) -> str:
    """Without the 0 before the point of a number below 1."""
    return number.replace("0.", ".", 1) if number.lstrip("+-").startswith("0.") else number


def _named(row: str, encoder: str) -> str:
    """The row of text alone is the first of its encoder's, and names it."""
    return f"**{encoder}: {ROWS[row]}**" if row == BASE else ROWS[row]


def _printed(row: str) -> str:
    name, own = row.split("/")
    found = published_row(MODELS[name], "contrast", "mosi", own) if name in MODELS else {}
    for metric, note in (("mae", ""), ("mag_bert_mae", " without labels of 0")):
        value = found.get(metric)
        if value is not None:
            return short(f"{value:.3f}") + note
    return ""

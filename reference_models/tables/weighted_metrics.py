"""The metrics of a test split whose samples are weighted: what a bootstrap over samples asks for.

A resampled split is the split with a count for each sample. Every metric is a function of counted
sums, so that a thousand resampled splits are one matrix product.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_models.running.score_metrics import SIMS_EDGES, bins_between, classes_between

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Values = dict[str, Floats]


def weighted_metrics(
    names: Mapping[str, Any],
    predictions: Mapping[str, Floats],
    labels: Mapping[str, Floats],
    weights: Floats,
) -> Values:
    """The metrics of one run under (R, N) weights, flat names as keys, (R,) values.

    Args:
        names: the run's own metrics, flat: they tell which ones its task has.
        predictions, labels: output -> (N,), as :class:`Run` has them.
        weights: (R, N) at least 0; all of one row equal: the metric as it is.

    Returns:
        Shares in percent. NaN where a metric is not defined.
    """
    if "mae" not in names:
        return _of_classes(predictions, labels, weights)
    p, y = predictions[""], labels[""]
    if "acc3" in names:
        return _of_sims(p, y, weights)
    scored = y != 0
    some = weights * scored  # of the samples whose label is not 0
    rounded = {
        f"acc{2 * bound + 1}": _share(
            classes_between(p, bound) == classes_between(y, bound), weights
        )
        for bound in (3, 2)
    }
    nn_n, p_n = _binary(p >= 0, y >= 0, weights), _binary(p > 0, y > 0, some)
    both = _binary(p >= 0, y >= 0, some)
    own = {"mae": _mean(np.abs(p - y), some), "corr": _weighted_correlation(p, y, some), **rounded}
    for kind, at in (("acc2", 0), ("f1", 1)):
        own |= {f"{kind}_{side}": both[at] for side in ("nn_n", "p_n")}
    return {
        "mae": _mean(np.abs(p - y), weights),
        "corr": _weighted_correlation(p, y, weights),
        **rounded,
        "acc2_nn_n": nn_n[0],
        "acc2_p_n": p_n[0],
        "f1_nn_n": nn_n[1],
        "f1_p_n": p_n[1],
        **{f"mag_bert_{name}": value for name, value in own.items()},
    }


def _of_sims(p: Floats, y: Floats, weights: Floats) -> Values:
    # In float32, as the run was measured: there 0.1 is on the edge 0.1, and above it in float64.
    near, true = (np.clip(x.astype(np.float32), -1, 1) for x in (p, y))
    shares = {
        name: _share(bins_between(near, edges) == bins_between(true, edges), weights)
        for name, edges in SIMS_EDGES.items()
    }
    (edge,) = SIMS_EDGES["acc2"]
    _, f1 = _binary(near > edge, true > edge, weights)
    p, y = (x.astype(np.float64) for x in (near, true))
    mae = _mean(np.abs(p - y), weights)
    return {"mae": mae, "corr": _weighted_correlation(p, y, weights), **shares, "f1": f1}


def _of_classes(
    predictions: Mapping[str, Floats], labels: Mapping[str, Floats], weights: Floats
) -> Values:
    each = {name: _binary(predictions[name] == 1, labels[name] == 1, weights) for name in labels}
    out = {
        f"{kind}_{name}" if name else kind: values[at]
        for at, kind in enumerate(("accuracy", "f1"))
        for name, values in each.items()
    }
    if "" not in each:
        for at, kind in enumerate(("accuracy", "f1")):
            out[f"{kind}_mean"] = np.mean([values[at] for values in each.values()], axis=0)
    return out


def _mean(x: Floats | Bools, weights: Floats) -> Floats:
    """(R,) weighted mean; NaN for a row without weight."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(weights @ x / weights.sum(1))


def _share(equal: Bools, weights: Floats) -> Floats:
    return 100 * _mean(equal, weights)


def _binary(chosen: Bools, truth: Bools, weights: Floats) -> tuple[Floats, Floats]:
    """Accuracy, and F1 weighted by the true classes, in percent: (R,) each."""
    f1 = np.zeros(len(weights))
    for kind in (False, True):
        right = weights @ ((chosen == kind) & (truth == kind))
        said, true = weights @ (chosen == kind), weights @ (truth == kind)
        # 2 tp / (2 tp + fp + fn), which is 0 for a class that is neither said nor there.
        f1 += true * 2 * right / np.where(said + true > 0, said + true, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _share(chosen == truth, weights), 100 * f1 / weights.sum(1)


def _weighted_correlation(p: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson's correlation; NaN where the samples that count have one value."""
    constant = _is_constant(p, weights) | _is_constant(y, weights)
    if constant.all():
        return np.full(len(weights), np.nan)
    # Centred by the plain means first: the moments then lose no digits.
    p, y = p - p.mean(), y - y.mean()
    mean_p, mean_y = _mean(p, weights), _mean(y, weights)
    covariance = _mean(p * y, weights) - mean_p * mean_y
    spreads = [_mean(x * x, weights) - mean**2 for x, mean in ((p, mean_p), (y, mean_y))]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(constant, np.nan, covariance / np.sqrt(spreads[0] * spreads[1]))


def _is_constant(x: Floats, weights: Floats) -> Bools:
    """(R,): rounding alone would give a constant a spread."""
    counts = weights > 0
    low = np.where(counts, x, np.inf).min(1, initial=np.inf)
    return low >= np.where(counts, x, -np.inf).max(1, initial=-np.inf)

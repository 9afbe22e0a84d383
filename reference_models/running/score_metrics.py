"""Metrics of sentiment scores: of MOSI and MOSEI, by two protocols, and of CH-SIMS."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, mean_absolute_error

from reference_models.running.class_metrics import NAN, accuracy_and_f1, warn_undefined

PROTOCOLS = ("mmsa", "mag_bert")
# Upper edges of the classes of CH-SIMS; an edge belongs to the class below it.
SIMS_EDGES = {"acc2": (0.0,), "acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7)}


def regression_metrics(
    predictions: ArrayLike, labels: ArrayLike, *, protocol: str = "mmsa"
) -> dict[str, float | dict[str, float]]:
    """Metrics of sentiment scores in [-3, 3], over a whole split at once.

    * ``"mae"``: mean absolute error of the unclipped scores; ``"corr"``: Pearson's correlation.
    * ``"acc7"``, ``"acc5"``: both sides clipped to [-3, 3] or [-2, 2], rounded half to even, equal.
    * ``"acc2"``, ``"f1"`` (weighted by the true classes), each as ``"nn_n"``: negative against
      non-negative on all samples (``>= 0``), and ``"p_n"``: negative against positive on the
      samples whose label is not 0 (``> 0``).

    The protocol ``"mag_bert"`` leaves Acc-7 and Acc-5 on all samples, and takes MAE, Corr, Acc-2
    and F1 on the samples whose label is not 0, with a prediction of 0 counted as positive. It has
    one Acc-2 and one F1, given under both names.

    Args:
        predictions: (N,) scores.
        labels: (N,) true scores, finite.
        protocol: ``"mmsa"`` or ``"mag_bert"``.

    Returns:
        Plain floats, unrounded; accuracies and F1 are fractions. What is not defined is NaN, with a
        RuntimeWarning: the correlation of a constant, anything on an empty set of non-zero labels,
        and everything when a prediction is not finite.

    Raises:
        ValueError: shapes that are not (N,) twice with N >= 1, labels that are not finite, or an
            unknown protocol.

    References: MMSA's and MAG-BERT's evaluation code.
    """
    predictions = np.asarray(predictions, dtype=np.float64)
    labels = np.asarray(labels, dtype=np.float64)
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {PROTOCOLS}, got {protocol!r}")
    _check_scores(predictions, labels)
    if not np.isfinite(predictions).all():
        warn_undefined("a prediction is NaN or infinite: every metric is NaN")
        pair = {"nn_n": NAN, "p_n": NAN}
        return {"mae": NAN, "corr": NAN, "acc7": NAN, "acc5": NAN, "acc2": pair, "f1": dict(pair)}

    scored = labels != 0
    if not scored.any():
        warn_undefined("no label differs from 0: metrics on the non-zero labels are NaN")
    if protocol == "mag_bert":
        p, y = predictions[scored], labels[scored]
        both = accuracy_and_f1(p >= 0, y >= 0)
        binary = {"nn_n": both, "p_n": both}
    else:
        p, y = predictions, labels
        binary = {
            "nn_n": accuracy_and_f1(p >= 0, y >= 0),
            "p_n": accuracy_and_f1(p[scored] > 0, y[scored] > 0),
        }
    return {
        "mae": float(mean_absolute_error(y, p)) if len(y) else NAN,
        "corr": _correlation(p, y),
        "acc7": _rounded_accuracy(predictions, labels, 3),
        "acc5": _rounded_accuracy(predictions, labels, 2),
        "acc2": {name: accuracy for name, (accuracy, _) in binary.items()},
        "f1": {name: f1 for name, (_, f1) in binary.items()},
    }


def sims_metrics(predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Metrics of CH-SIMS: scores in [-1, 1], to which both sides are clipped before anything else.

    * ``"mae"`` and ``"corr"``, of the clipped scores.
    * ``"acc2"``, ``"acc3"``, ``"acc5"``: shares of equal classes. Their edges are 0, +-0.1, and
      +-0.1 and +-0.7; an edge belongs to the class below, so that a score of 0 is negative.
    * ``"f1"``: of the two classes, weighted by the true ones.

    Scores are compared with the edges in their own dtype: 0.1 in float32 is on the edge 0.1, but
    above it after a cast to float64.

    Args:
        predictions: (N,) scores.
        labels: (N,) true scores, finite.

    Returns:
        Plain floats, unrounded. The correlation of a constant is NaN, and everything where a
        prediction is not a finite number, with a RuntimeWarning.

    Raises:
        ValueError: shapes that are not (N,) twice with N >= 1, or labels that are not finite.

    References: MMSA's evaluation code for CH-SIMS.
    """
    predictions, labels = (_floating(x) for x in (predictions, labels))
    _check_scores(predictions, labels)
    if not np.isfinite(predictions).all():
        warn_undefined("a prediction is NaN or infinite: every metric is NaN")
        return dict.fromkeys(("mae", "corr", *SIMS_EDGES, "f1"), NAN)
    p, y = (np.clip(x, -1.0, 1.0) for x in (predictions, labels))
    shares = {
        name: float(accuracy_score(bins_between(y, edges), bins_between(p, edges)))
        for name, edges in SIMS_EDGES.items()
    }
    _, f1 = accuracy_and_f1(
        bins_between(p, SIMS_EDGES["acc2"]) == 1, bins_between(y, SIMS_EDGES["acc2"]) == 1
    )
    p, y = (x.astype(np.float64) for x in (p, y))
    return {"mae": float(mean_absolute_error(y, p)), "corr": _correlation(p, y), **shares, "f1": f1}


def _floating(x: ArrayLike) -> NDArray[np.floating[Any]]:
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _check_scores(predictions: NDArray[Any], labels: NDArray[Any]) -> None:
    if predictions.ndim != 1 or len(predictions) == 0:
        raise ValueError(f"predictions: expected shape (N,), N >= 1, got {predictions.shape}")
    if labels.shape != predictions.shape:
        raise ValueError(f"labels: expected shape {predictions.shape}, got {labels.shape}")
    if not np.isfinite(labels).all():
        raise ValueError("labels: expected finite scores, got NaN or infinity")


def _rounded_accuracy(
    predictions: NDArray[np.float64], labels: NDArray[np.float64], bound: int
) -> float:
    """Share of equal classes."""
    classes = [classes_between(x, bound) for x in (labels, predictions)]
    return float(accuracy_score(*classes))


def classes_between(scores: NDArray[np.float64], bound: int) -> NDArray[np.int64]:
    """Scores clipped and rounded; numpy rounds halves to even, as every paper's code does."""
    return np.round(scores.clip(-bound, bound)).astype(np.int64)


def bins_between(scores: NDArray[Any], edges: tuple[float, ...]) -> NDArray[np.int64]:
    """How many edges lie below each score."""
    # One edge at a time: numpy rounds a Python float to the dtype of the scores, while an array of
    # float64 edges (np.digitize) would promote float32 scores.
    return sum((scores > edge).astype(np.int64) for edge in edges)


def _correlation(p: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if len(y) == 0:
        return NAN  # the caller has warned of the empty set
    if np.ptp(p) == 0 or np.ptp(y) == 0:
        warn_undefined("the correlation of a constant is not defined: corr is NaN")
        return NAN
    return float(np.corrcoef(p, y)[0, 1])

"""What the papers report: regression metrics on MOSI and MOSEI, emotion metrics on IEMOCAP."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

EMOTIONS = ("neutral", "happy", "sad", "angry")
PROTOCOLS = ("mmsa", "mag_bert")
NAN = float("nan")


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
    one Acc-2 and one F1, which stand under both names.

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
    if predictions.ndim != 1 or len(predictions) == 0:
        raise ValueError(f"predictions: expected shape (N,), N >= 1, got {predictions.shape}")
    if labels.shape != predictions.shape:
        raise ValueError(f"labels: expected shape {predictions.shape}, got {labels.shape}")
    if not np.isfinite(labels).all():
        raise ValueError("labels: expected finite scores, got NaN or infinity")
    if not np.isfinite(predictions).all():
        _warn("a prediction is NaN or infinite: every metric is NaN")
        pair = {"nn_n": NAN, "p_n": NAN}
        return {"mae": NAN, "corr": NAN, "acc7": NAN, "acc5": NAN, "acc2": pair, "f1": dict(pair)}

    scored = labels != 0
    if not scored.any():
        _warn("no label differs from 0: metrics on the non-zero labels are NaN")
    if protocol == "mag_bert":
        p, y = predictions[scored], labels[scored]
        both = _binary(p >= 0, y >= 0)
        binary = {"nn_n": both, "p_n": both}
    else:
        p, y = predictions, labels
        binary = {
            "nn_n": _binary(p >= 0, y >= 0),
            "p_n": _binary(p[scored] > 0, y[scored] > 0),
        }
    return {
        "mae": float(mean_absolute_error(y, p)) if len(y) else NAN,
        "corr": _correlation(p, y),
        "acc7": _rounded_accuracy(predictions, labels, 3),
        "acc5": _rounded_accuracy(predictions, labels, 2),
        "acc2": {name: accuracy for name, (accuracy, _) in binary.items()},
        "f1": {name: f1 for name, (_, f1) in binary.items()},
    }


def iemocap_metrics(logits: ArrayLike, labels: ArrayLike) -> dict[str, dict[str, float]]:
    """Accuracy and weighted F1 of four yes-or-no emotions, and their plain means.

    Args:
        logits: (N, 4, 2) for each emotion in the order of ``EMOTIONS``: absent, there.
        labels: (N, 4) 1 where the emotion is there, 0 where it is not.

    Returns:
        ``{"accuracy": {"neutral": ..., ..., "mean": ...}, "f1": {...}}``; all NaN, with a
        RuntimeWarning, when a logit is NaN.

    Raises:
        ValueError: other shapes, N = 0, or labels other than 0 and 1.

    References: MulT's evaluation of IEMOCAP; HyCon, Table 3.
    """
    logits = np.asarray(logits, dtype=np.float64)
    labels = np.asarray(labels)
    if logits.ndim != 3 or len(logits) == 0 or logits.shape[1:] != (4, 2):
        raise ValueError(f"logits: expected shape (N, 4, 2), N >= 1, got {logits.shape}")
    if labels.shape != logits.shape[:2]:
        raise ValueError(f"labels: expected shape {logits.shape[:2]}, got {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels: expected 0 and 1, got {np.unique(labels).tolist()}")
    if np.isnan(logits).any():
        _warn("a logit is NaN: every metric is NaN")
        values = np.full((4, 2), NAN)
    else:
        chosen = logits.argmax(-1) == 1
        values = np.array([_binary(chosen[:, e], labels[:, e] == 1) for e in range(4)])
    table = np.concatenate([values, values.mean(0, keepdims=True)])
    names = (*EMOTIONS, "mean")
    return {
        metric: dict(zip(names, table[:, column].tolist(), strict=True))
        for column, metric in enumerate(("accuracy", "f1"))
    }


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _rounded_accuracy(
    predictions: NDArray[np.float64], labels: NDArray[np.float64], bound: int
) -> float:
    """Share of equal classes; numpy rounds halves to even, as every paper's code does."""
    classes = [np.round(x.clip(-bound, bound)).astype(int) for x in (labels, predictions)]
    return float(accuracy_score(*classes))


def _binary(chosen: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Accuracy and weighted F1; the truth comes first, so the weights are the true classes'."""
    if len(truth) == 0:
        return NAN, NAN
    f1 = f1_score(truth, chosen, average="weighted")
    return float(accuracy_score(truth, chosen)), float(f1)


def _correlation(p: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if len(y) == 0:
        return NAN  # the empty set has been warned of
    if np.ptp(p) == 0 or np.ptp(y) == 0:
        _warn("the correlation of a constant is not defined: corr is NaN")
        return NAN
    return float(np.corrcoef(p, y)[0, 1])

"""What the papers report on each task: scores of MOSI and MOSEI, of CH-SIMS, IEMOCAP, UR-FUNNY."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error
from transformers.utils.generic import flatten_dict

from reference_models.data.corpus import EMOTIONS, TASKS

PROTOCOLS = ("mmsa", "mag_bert")
NAN = float("nan")
# Upper edges of the classes of CH-SIMS, each of which belongs to the class below it.
SIMS_EDGES = {"acc2": (0.0,), "acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7)}


def task_metrics(task: str, predictions: ArrayLike, labels: ArrayLike) -> dict[str, Any]:
    """The metrics of a corpus's task, over a whole split at once.

    Args:
        task: ``"sentiment"``: :func:`regression_metrics`, and those of the protocol ``"mag_bert"``
            under that name; ``"sims"``, ``"iemocap"`` and ``"humor"``: :func:`sims_metrics`,
            :func:`iemocap_metrics` and :func:`humor_metrics`.
        predictions: (N,) scores, or the task's logits.
        labels: as in the corpus.

    Raises:
        ValueError: another task; shapes that are not the task's.
    """
    if task == "sentiment":
        own = regression_metrics(predictions, labels, protocol="mag_bert")
        return {**regression_metrics(predictions, labels), "mag_bert": own}
    if task == "sims":
        return sims_metrics(predictions, labels)
    if task == "iemocap":
        return iemocap_metrics(predictions, labels)
    if task == "humor":
        return humor_metrics(predictions, labels)
    raise ValueError(f"task: expected one of {TASKS}, got {task!r}")


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
    _check_scores(predictions, labels)
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


def sims_metrics(predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Metrics of CH-SIMS: scores in [-1, 1], to which both sides are clipped before anything else.

    * ``"mae"`` and ``"corr"``, of the clipped scores.
    * ``"acc2"``, ``"acc3"``, ``"acc5"``: shares of equal classes. Their edges are 0, +-0.1, and
      +-0.1 and +-0.7; an edge belongs to the class below, so that a score of 0 is negative.
    * ``"f1"``: of the two classes, weighted by the true ones.

    Scores meet an edge in their own precision: 0.1 in float32 is on it. A cast to float64 on the
    way here would move it beyond.

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
        _warn("a prediction is NaN or infinite: every metric is NaN")
        return dict.fromkeys(("mae", "corr", *SIMS_EDGES, "f1"), NAN)
    p, y = (np.clip(x, -1.0, 1.0) for x in (predictions, labels))
    shares = {
        name: float(accuracy_score(_bins(y, edges), _bins(p, edges)))
        for name, edges in SIMS_EDGES.items()
    }
    _, f1 = _binary(_bins(p, SIMS_EDGES["acc2"]) == 1, _bins(y, SIMS_EDGES["acc2"]) == 1)
    p, y = (x.astype(np.float64) for x in (p, y))
    return {"mae": float(mean_absolute_error(y, p)), "corr": _correlation(p, y), **shares, "f1": f1}


def humor_metrics(logits: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Accuracy, and F1 weighted by the true classes, of UR-FUNNY.

    Args:
        logits: (N, 2): not funny, funny.
        labels: (N,) 1 = funny, 0 = not.

    Returns:
        ``{"accuracy": ..., "f1": ...}``; NaN, with a RuntimeWarning, when a logit is NaN.

    Raises:
        ValueError: other shapes, N = 0, or labels other than 0 and 1.

    References: TeCaFN's evaluation code, which has the accuracy alone.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    _check_logits(logits, labels, (2,))
    if np.isnan(logits).any():
        _warn("a logit is NaN: every metric is NaN")
        return {"accuracy": NAN, "f1": NAN}
    accuracy, f1 = _binary(logits.argmax(-1) == 1, labels == 1)
    return {"accuracy": accuracy, "f1": f1}


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
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    _check_logits(logits, labels, (4, 2))
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


def _check_logits(logits: NDArray[Any], labels: NDArray[Any], sizes: tuple[int, ...]) -> None:
    if logits.ndim == 0 or len(logits) == 0 or logits.shape[1:] != sizes:
        expected = ", ".join(map(str, ("N", *sizes)))
        raise ValueError(f"logits: expected shape ({expected}), N >= 1, got {logits.shape}")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels: expected shape {logits.shape[:-1]}, got {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels: expected 0 and 1, got {np.unique(labels).tolist()}")


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _rounded_accuracy(
    predictions: NDArray[np.float64], labels: NDArray[np.float64], bound: int
) -> float:
    """Share of equal classes; numpy rounds halves to even, as every paper's code does."""
    classes = [np.round(x.clip(-bound, bound)).astype(int) for x in (labels, predictions)]
    return float(accuracy_score(*classes))


def _bins(scores: NDArray[Any], edges: tuple[float, ...]) -> NDArray[np.int64]:
    """How many edges lie below each score."""
    # Each edge by itself: numpy rounds a Python float to the type of the scores, but would raise
    # float32 scores to an array of float64 edges.
    return sum((scores > edge).astype(np.int64) for edge in edges)


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


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """``{"acc2": {"nn_n": x}}`` as ``{"acc2_nn_n": x}``; plain numbers stay."""
    return flatten_dict(metrics, delimiter="_")

"""Metrics of classes, yes or no: the emotions of IEMOCAP, the humor of UR-FUNNY."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, f1_score

from reference_models.data.corpus import EMOTIONS

NAN = float("nan")


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
        warn_undefined("a logit is NaN: every metric is NaN")
        return {"accuracy": NAN, "f1": NAN}
    accuracy, f1 = accuracy_and_f1(logits.argmax(-1) == 1, labels == 1)
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
        warn_undefined("a logit is NaN: every metric is NaN")
        values = np.full((4, 2), NAN)
    else:
        chosen = logits.argmax(-1) == 1
        values = np.array([accuracy_and_f1(chosen[:, e], labels[:, e] == 1) for e in range(4)])
    table = np.concatenate([values, values.mean(0, keepdims=True)])
    names = (*EMOTIONS, "mean")
    return {
        metric: dict(zip(names, table[:, column].tolist(), strict=True))
        for column, metric in enumerate(("accuracy", "f1"))
    }


def _check_logits(logits: NDArray[Any], labels: NDArray[Any], sizes: tuple[int, ...]) -> None:
    if logits.ndim == 0 or len(logits) == 0 or logits.shape[1:] != sizes:
        expected = ", ".join(map(str, ("N", *sizes)))
        raise ValueError(f"logits: expected shape ({expected}), N >= 1, got {logits.shape}")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels: expected shape {logits.shape[:-1]}, got {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels: expected 0 and 1, got {np.unique(labels).tolist()}")


def accuracy_and_f1(chosen: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Accuracy, and F1 weighted by the true classes; NaN for no samples."""
    # scikit-learn takes the weights from the first argument.
    if len(truth) == 0:
        return NAN, NAN
    f1 = f1_score(truth, chosen, average="weighted")
    return float(accuracy_score(truth, chosen)), float(f1)


def warn_undefined(message: str) -> None:
    """Warn of a metric that is NaN, where the function of the metric was called."""
    warnings.warn(message, RuntimeWarning, stacklevel=3)

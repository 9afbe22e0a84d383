"""The metrics that the papers report, by task; and metrics with flat names."""

from collections.abc import Collection, Mapping
from typing import Any

from numpy.typing import ArrayLike
from transformers.utils.generic import flatten_dict

from reference_models.data.corpus import TASKS
from reference_models.running.class_metrics import humor_metrics, iemocap_metrics
from reference_models.running.score_metrics import regression_metrics, sims_metrics


def task_metrics(
    task: str, predictions: ArrayLike, labels: ArrayLike, *, classes: Collection[int] = (7, 5)
) -> dict[str, Any]:
    """The metrics of a corpus's task, over a whole split at once.

    Args:
        task: ``"sentiment"``: :func:`regression_metrics`, and those of the protocol ``"mag_bert"``
            under that name; ``"sims"``, ``"iemocap"`` and ``"humor"``: :func:`sims_metrics`,
            :func:`iemocap_metrics` and :func:`humor_metrics`.
        predictions: (N,) scores, or the task's logits.
        labels: as in the corpus.
        classes: of sentiment scores: Acc-7 and Acc-5 are left out unless these, the corpus's
            ``classes``, hold 7 or 5. The labels of one split do not tell: few are extreme.

    Raises:
        ValueError: another task; shapes that are not the task's.
    """
    if task == "sentiment":
        out: dict[str, Any] = regression_metrics(predictions, labels)
        out["mag_bert"] = regression_metrics(predictions, labels, protocol="mag_bert")
        for n in {7, 5}.difference(classes):
            del out[f"acc{n}"], out["mag_bert"][f"acc{n}"]
        return out
    if task == "sims":
        return sims_metrics(predictions, labels)
    if task == "iemocap":
        return iemocap_metrics(predictions, labels)
    if task == "humor":
        return humor_metrics(predictions, labels)
    raise ValueError(f"task: expected one of {TASKS}, got {task!r}")


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """``{"acc2": {"nn_n": x}}`` as ``{"acc2_nn_n": x}``; plain numbers stay."""
    return flatten_dict(metrics, delimiter="_")

"""The heads: how many outputs a task needs, their shape, and the loss on them."""

from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

HEADS = {"regression": 1, "iemocap": 8, "humor": 2}
"""Outputs of the last layer: one score; two logits for each of four emotions; two logits."""


def shaped(outputs: Tensor, head: str) -> Tensor:
    """A last layer's outputs (B, n) as a prediction: (B,) scores, (B, 4, 2) or (B, 2) logits."""
    if head == "regression":
        return rearrange(outputs, "b 1 -> b")
    if head == "iemocap":
        return rearrange(outputs, "b (emotion logit) -> b emotion logit", logit=2)
    return outputs


def task_loss(prediction: Tensor, labels: Tensor, head: str, *, squared: bool = False) -> Tensor:
    """The loss of the task, 0-d: absolute or squared error of scores, cross-entropy of classes.

    Args:
        prediction: what ``shaped`` gave.
        labels: (B,) scores, (B, 4) or (B,) classes 0 and 1.
        head: one of ``HEADS``.
        squared: the mean squared error instead of the mean absolute one.

    Raises:
        ValueError: labels of another shape.
    """
    expected = tuple(prediction.shape if head == "regression" else prediction.shape[:-1])
    if tuple(labels.shape) != expected:
        raise ValueError(f"labels: expected shape {expected}, got {tuple(labels.shape)}")
    if head == "regression":
        loss = F.mse_loss if squared else F.l1_loss
        return loss(prediction.float(), labels.float())
    # The four emotions are four classifications of two classes each.
    logits = rearrange(prediction.float(), "... logit -> (...) logit")
    return F.cross_entropy(logits, labels.long().flatten())

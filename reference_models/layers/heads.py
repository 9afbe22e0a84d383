"""What a last layer's outputs mean, and the loss of the task on them."""

from torch import Tensor
from torch.nn import functional as F

HEADS = {"regression": 1, "iemocap": 8, "humor": 2}
"""Outputs of the last layer: one score; four emotions, absent or there; humorous or not."""


def shaped(outputs: Tensor, head: str) -> Tensor:
    """A last layer's outputs (B, n) as a prediction: (B,) scores, (B, 4, 2) or (B, 2) logits."""
    if head == "regression":
        return outputs.squeeze(1)
    return outputs.view(-1, 4, 2) if head == "iemocap" else outputs


def task_loss(prediction: Tensor, labels: Tensor, head: str, *, squared: bool = False) -> Tensor:
    """The loss of the task, 0-d: absolute or squared error of scores, cross-entropy of classes.

    Args:
        prediction: what ``shaped`` gave.
        labels: (B,) scores, (B, 4) or (B,) classes 0 and 1.
        head: one of ``HEADS``.
        squared: the mean squared error in the place of the mean absolute one.

    Raises:
        ValueError: labels of another shape.
    """
    expected = tuple(prediction.shape if head == "regression" else prediction.shape[:-1])
    if tuple(labels.shape) != expected:
        raise ValueError(f"labels: expected shape {expected}, got {tuple(labels.shape)}")
    if head == "regression":
        loss = F.mse_loss if squared else F.l1_loss
        return loss(prediction.float(), labels.float())
    return F.cross_entropy(prediction.float().flatten(0, -2), labels.long().flatten())

"""What to call instead, for arguments whose shape or dtype is known to mean something else."""

from torch import Tensor

NO_IDS = " (embeddings, not ids; of indices take the rows, x[indices])"

SEVERAL_PARTNERS = (
    " (where a row has several partners, as an image has captions, info_nce, symmetric_info_nce, "
    "sigmoid_contrast and retrieval take positives=same_label(ids, other_ids))"
)

_OF_EACH = (
    " (K candidates of each of B anchors, of which the first is the positive: info_nce(x, "
    "{0}[:, 0], own_negatives={0}[:, 1:], in_batch=False); miners take {0}.flatten(0, 1) and "
    "allowed=torch.eye(B).repeat_interleave(K, 1).bool())"
)

_THIRD_AXIS = {
    "candidates": _OF_EACH.format("candidates"),
    "y": _OF_EACH.format("y"),
    "negatives": (
        " (K negatives of each anchor are K triplets: anchors.repeat_interleave(K, 0), the same of "
        "the positives, and negatives.flatten(0, 1))"
    ),
    "anchors": (
        " (V views of each sample are rows: anchors.flatten(0, 1), with "
        "labels.repeat_interleave(V); the steps of a sequence are pooled: anchors.mean(1))"
    ),
}
"""What a third axis of these arguments usually is; of others, the steps of a sequence."""


def rows_instead(name: str, x: Tensor, rows: int | None, like: Tensor | None) -> str:
    """For a tensor in the place of (rows, D) rows, D as in ``like``; empty where nothing is known.

    Example:
        >>> import torch
        >>> rows_instead("anchors", torch.ones(3), None, None)
        ' (a single sample is anchors[None])'
    """
    features = None if like is None else like.shape[-1]
    if x.ndim == 1:
        return f" (a single sample is {name}[None])"
    if x.ndim == 3:
        return _THIRD_AXIS.get(name, " (the steps of a sequence are pooled: x.mean(1))")
    if x.ndim == 2 and x.shape[0] == features and rows in (None, x.shape[1]):
        return f" (transposed? {name}.T fits)"
    if x.ndim == 2 and rows is not None and x.shape[1] == features and x.shape[0] > rows > 0:
        return SEVERAL_PARTNERS
    return ""


def mask_instead(name: str, x: Tensor, like: tuple[int, ...]) -> str:
    """For a tensor in the place of a mask of shape ``like``; empty where nothing is known.

    Example:
        >>> import torch
        >>> mask_instead("keep", torch.ones(2, 3).bool(), (3, 2))
        ' (transposed? keep.T fits)'
    """
    if len(like) == 2 and tuple(x.shape) == like[::-1]:
        return f" (transposed? {name}.T fits)"
    if len(like) == 2 and x.ndim == 1 and str(x.dtype) == "torch.bool":
        return f" (of samples, the pairs: {name}[:, None] & {name})"
    if len(like) == 2 and x.ndim == 1 and not x.is_floating_point():
        ids = "of ids, same_label(ids, other_ids) makes one; " if name == "positives" else ""
        return f" ({ids}indices of partners are targets=)"
    return ""


def bool_instead(name: str, x: Tensor) -> str:
    """For a tensor of another dtype in the place of a mask.

    Weights of pairs are above 0 nearly everywhere: ``bool()`` would make all of them True.

    Example:
        >>> import torch
        >>> bool_instead("keep", torch.ones(2, 3))
        ' (keep.bool() makes a mask)'
    """
    of_scores = {"positives": "close_scores", "negatives": "far_scores"}
    if name in of_scores and x.is_floating_point():
        return f" (weights do not go here; {of_scores[name]} makes a mask of scores)"
    return f" ({name}.bool() makes a mask)"

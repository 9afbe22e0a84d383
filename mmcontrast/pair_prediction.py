"""TeCaFN's pair prediction, eq. 14: whether a sample's modality is its own or was replaced."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.masks import IGNORE
from mmcontrast.reductions import Reduction
from mmcontrast.rows import upcast
from mmcontrast.sharded import local_rows
from mmcontrast.wide import retry_in_float64


@local_rows
@retry_in_float64
def pair_prediction(
    logits: Tensor,
    paired: Tensor,
    *,
    weight: Tensor | None = None,
    keep: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""Cross-entropy of predicting whether a sample's modality is its own or a replaced one.

    .. math:: \ell_i = -\log \frac{\exp(z_{i, y_i})}{\exp(z_{i, 0}) + \exp(z_{i, 1})}
              = \log\big(1 + \exp(z_{i, 1 - y_i} - z_{i, y_i})\big)

    Args:
        logits: (B, 2): class 0 replaced, class 1 kept.
        paired: (B,) integer classes, :attr:`Gate.paired`; -100 takes no part.
        weight: (B,) sample weights; the mean is then the weighted one.
        keep: (B,) bool: the samples that take part; all by default. The logits of the others affect
            neither value nor gradient.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives (B,).

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, or a class that is neither 0 nor 1 (its value
            is read on the CPU only).

    Example:
        >>> pair_prediction(torch.zeros(3, 2), torch.tensor([1, 0, 1]))  # log 2
        tensor(0.6931)

    Note:
        Equals ``torch.nn.functional.cross_entropy`` where some sample takes part, but keeps its
        digits in float32 where one class leads by more than 16.

    References: TeCaFN, Multimedia Systems 30(4):228, eq. 14; the sum over the modalities is left to
        the caller.
    """
    arguments.table("logits", logits)
    if logits.shape[1] != 2:
        arguments.fail("logits", "shape (B, 2)", arguments.shape(logits))
    paired = arguments.targets("paired", paired, logits.shape[0], 2, ignore=IGNORE)
    arguments.reduction(reduction)
    counted = paired != IGNORE
    if keep is not None:
        arguments.mask("keep", keep, (len(logits),))
        counted = counted & keep
    logits = torch.where(counted[:, None], upcast(logits), 0)
    lead = logits[:, 1] - logits[:, 0]
    # Above 50, softplus(x) = x to the last bit of a float64; above the default threshold of 20 not.
    losses = F.softplus(torch.where(paired == 1, -lead, lead), threshold=50)
    return Reduction(reduction, weight).reduce(losses, counted)

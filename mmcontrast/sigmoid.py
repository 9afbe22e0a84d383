"""The sigmoid loss of SigLIP: every pair is classified on its own, without a softmax."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.advice import SEVERAL_PARTNERS
from mmcontrast.distributed import Group, joined, name_of
from mmcontrast.eager import takes_ways
from mmcontrast.exact.pair_rules import pair_rules
from mmcontrast.exact.pair_tile import PairTerm
from mmcontrast.exact.sigmoid_choice import sigmoid_of_pairs
from mmcontrast.held import check_settings
from mmcontrast.learned import replicated, replicated_module
from mmcontrast.loading import all_or_nothing, any_values, load_checked
from mmcontrast.masks import columns_of
from mmcontrast.reductions import Reduction
from mmcontrast.rows import RowMap, l2_normalize, upcast
from mmcontrast.sharded import local_rows
from mmcontrast.wide import retry_in_float64


@local_rows
@retry_in_float64
def sigmoid_contrast(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    bias: float | PairTerm = -10.0,
    positives: Tensor | None = None,
    keep: PairTerm | None = None,
    weight: Tensor | None = None,
    normalize: RowMap | None = l2_normalize,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group: Group | None = None,
) -> Tensor:
    r"""SigLIP: binary cross-entropy of every pair of an anchor and a candidate.

    .. math::
        \ell_i = \sum_j \log\big(1 + \exp(-z_{ij} (\cos(x_i, y_j) / \tau + b))\big), \qquad
        z_{ij} = \pm 1

    z is 1 for a positive pair and -1 for all others. An anchor without a positive still has
    negatives and counts in the mean; an anchor without a kept candidate does not.

    Args:
        x: (B, D) anchors, normalised here.
        y: (C, D) candidates: partners first, extra negatives after.
        temperature: :math:`\tau > 0`; a float, or a tensor of shape () or (1,) when it is learned.
        bias: b, a float or a tensor of shape () or (1,). At -10, SigLIP's initial value, every pair
            is predicted negative, which is right for most pairs. Or (B, C) floating, one for each
            pair, a function of a :class:`Tile` that returns such for its pairs, or a list of these,
            see :func:`info_nce`; then that is all of b.
        positives: (B, C) bool: the positive pairs. Default: row ``i`` of x and row ``i`` of y.
        keep: (B, C) bool: which pairs take part at all; or a function of a :class:`Tile`, or a
            list, see :func:`info_nce`.
        weight: (B,) sample weights; the mean is then the weighted one.
        normalize: row map before the dot product; None for raw dot products.
        reduction: ``"mean"`` and ``"sum"`` over the anchors give a scalar, ``"none"`` gives (B,).
        chunk_size: side of the square tiles of logits, which yield loss and gradient in one pass
            and O(chunk_size^2 + (B + C) D) memory; ``"none"`` takes two passes. None: fewer than
            2^18 pairs all at once, more in tiles of 2^18. The plain path is as in
            :func:`info_nce`.
        group: as in :func:`info_nce`.

    Returns:
        Scalar or (B,), float32, or float64 for float64 input.

    Raises:
        ValueError: on shapes or dtypes that disagree, fewer candidates than anchors where there
            are no positives, or a float temperature that is not positive.

    Example:
        >>> eye = torch.eye(2)
        >>> sigmoid_contrast(eye, eye, temperature=1.0, bias=0.0)  # log(1 + 1 / e) + log 2
        tensor(1.0064)

    Note:
        Equals open_clip's ``SigLipLoss`` on one rank, at ``logit_scale = 1 / temperature`` and
        ``logit_bias = bias``, on unit rows.

    References: SigLIP, arXiv:2303.15343, section 3.2 and algorithm 1.
    """
    arguments.matrix("x", x)
    arguments.matrix("y", y, like=x)
    temperature = replicated(arguments.temperature(temperature), group, x)
    normalize = replicated_module(normalize, group)
    each: Any = bias if _of_pairs(bias) else None
    one: Any = bias if each is None else 0.0
    one = replicated(arguments.number_or_scalar("bias", one), group, x)
    arguments.reduction(reduction)
    if positives is None and y.shape[0] < x.shape[0]:
        few = f"{y.shape[0]}{SEVERAL_PARTNERS}"
        arguments.fail("y", f"at least {x.shape[0]} rows, a partner each", few)
    # Without masks, whose sizes are checked here, the ranks' rows are gathered where they are used.
    later = positives is None and keep is None and each is None and takes_ways()
    known = columns_of(positives, keep, each)
    y, own = (y, slice(0, x.shape[0])) if later else joined(y, group, size=known)  # (C, D)
    size = (x.shape[0], y.shape[0])
    if positives is not None:
        arguments.mask("positives", positives, size)
    rules, pair_bias = pair_rules(keep, each, size)
    chunk_size = arguments.chunk(chunk_size)
    return sigmoid_of_pairs(
        x,
        y,
        positives,
        rules,
        pair_bias,
        own.start,
        name_of(group) if later else "",
        temperature=temperature,
        bias=one,
        normalize=normalize,
        reduction=Reduction(reduction, weight, group),
        chunk_size=chunk_size,
    )


def _of_pairs(bias: Any) -> bool:
    """Whether a bias has a number for each pair."""
    if isinstance(bias, Tensor):
        return bias.ndim == 2
    return isinstance(bias, list | tuple) or (callable(bias) and not isinstance(bias, type))


class SigmoidContrast(nn.Module):
    r""":func:`sigmoid_contrast` with a learned temperature and bias.

    The parameters are ``log_scale``, SigLIP's :math:`t' = -\log \tau`, and ``bias``. Both default
    to the paper's initial values; ``requires_grad_(False)`` keeps them fixed.

    Args:
        temperature: initial value, above 0; 0.1 is the paper's t' of log 10.
        bias: initial value.
        normalize, reduction, chunk_size, group: as in :func:`sigmoid_contrast`.

    Raises:
        ValueError: on a temperature that is not positive.

    Example:
        >>> loss = SigmoidContrast()
        >>> loss(torch.eye(2), torch.eye(2)).detach()  # log 2, and about 5e-5 for the other
        tensor(0.6932)
    """

    load_state_dict = load_checked

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        bias: float = -10.0,
        normalize: RowMap | None = l2_normalize,
        reduction: str = "mean",
        chunk_size: int | None = None,
        group: Group | None = None,
    ):
        super().__init__()
        arguments.positive("temperature", temperature)
        arguments.number("bias", bias)
        # Shape (1,): FSDP2 refuses parameters without a dimension.
        self.log_scale = nn.Parameter(torch.tensor([-math.log(temperature)]))
        self.bias = nn.Parameter(torch.tensor([float(bias)]))
        self.normalize = normalize
        self.reduction = reduction
        self.chunk_size = chunk_size
        self.group = group
        check_settings(self)
        all_or_nothing(self, any_values)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        positives: Tensor | None = None,
        keep: PairTerm | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """See :func:`sigmoid_contrast`."""
        return sigmoid_contrast(
            x,
            y,
            temperature=(-upcast(self.log_scale)).exp(),
            bias=upcast(self.bias),
            positives=positives,
            keep=keep,
            weight=weight,
            normalize=self.normalize,
            reduction=self.reduction,
            chunk_size=self.chunk_size,
            group=self.group,
        )

"""The replacement gate of cross-sample fusion, and the head that tells who was replaced."""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.masks import IGNORE, off_diagonal
from mmcontrast.mining import HardNegatives, sample_one
from mmcontrast.reductions import Reduction
from mmcontrast.rows import upcast

Rows = TypeVar("Rows", Tensor, Tensor | None)


class Gate(NamedTuple):
    """Whose modality each sample takes; shape (B,) each.

    Example:
        >>> Gate(source=torch.tensor([1, 1]), paired=torch.tensor([0, 1])).source
        tensor([1, 1])
    """

    source: Tensor
    """int64: its own index, or the negative's that replaces it."""
    paired: Tensor
    """int64: 1 kept, 0 replaced; the targets of :func:`pair_prediction`."""

    def take(self, *tensors: Rows) -> tuple[Rows, ...]:
        """The modality's tensors as the gate lets them through, all from the same sources.

        Args:
            tensors: (B, ...) each, of that modality: its features, mask and lengths. None stays
                None.

        Raises:
            ValueError: on something that is no tensor, or has fewer than B rows.

        Example:
            >>> gate = Gate(torch.tensor([1, 1]), torch.tensor([0, 1]))
            >>> gate.take(torch.tensor([[5.0], [7.0]]), torch.tensor([3, 4]), None)
            (tensor([[7.],
                    [7.]]), tensor([4, 4]), None)
        """
        size = len(self.source)
        for x in tensors:
            if x is not None and (arguments.tensor("tensors", x).ndim == 0 or len(x) < size):
                arguments.fail("tensors", f"at least {size} rows each", arguments.shape(x))
        return tuple(x if x is None else x[self.source] for x in tensors)


@overload
def replacement_gate(
    negatives: HardNegatives,
    *,
    probability: float,
    generator: torch.Generator | None = None,
    training: bool = True,
) -> Gate:
    """One modality's gate."""


@overload
def replacement_gate(
    negatives: Mapping[str, HardNegatives],
    *,
    probability: float,
    generator: torch.Generator | None = None,
    training: bool = True,
) -> dict[str, Gate]:
    """A gate for each modality."""


def replacement_gate(
    negatives: HardNegatives | Mapping[str, HardNegatives],
    *,
    probability: float,
    generator: torch.Generator | None = None,
    training: bool = True,
) -> Gate | dict[str, Gate]:
    r"""Replace a sample's modality, with some probability, by that of one of its negatives.

    Each sample of each modality is decided and drawn apart. With two modalities the four outcomes
    have the probabilities :math:`(1-p)^2`, :math:`p(1-p)`, :math:`p(1-p)` and :math:`p^2`. The
    text, and the label to predict, stay the sample's own.

    Args:
        negatives: for row i the rows that may replace it, from :func:`hard_negatives` or
            :func:`uniform_negatives` on the batch; or a mapping of them by modality. Only the valid
            ones are drawn, uniformly, and never row i itself; where none is left the sample is
            kept. Absent samples stay out by ``allowed`` of the miner.
        probability: p in [0, 1]. The paper's is 0.7 on MOSI and 0.4 on MOSEI.
        generator: where the randomness comes from, on the negatives' device; None is torch's own.
        training: False keeps everybody, and draws nothing.

    Returns:
        :class:`Gate`, or a mapping of them by modality.

    Raises:
        ValueError: on a probability outside [0, 1], or negatives of another kind, shape or dtype.

    Example:
        >>> nearest, valid = torch.tensor([[1], [0], [1]]), torch.ones(3, 1, dtype=torch.bool)
        >>> negatives = HardNegatives(nearest, torch.zeros(3, 1), valid)
        >>> replacement_gate(negatives, probability=1.0)
        Gate(source=tensor([1, 0, 1]), paired=tensor([0, 0, 0]))

    References: TeCaFN, Multimedia Systems 30(4):228, section 3.2.3 and Table 2. Its code drops the
        sample itself at this point, out of negatives among which it still is; so does this gate.
    """
    arguments.probability(probability)
    if not isinstance(negatives, Mapping):
        return _gate("negatives", negatives, probability, generator, training)
    return {
        name: _gate(f"negatives[{name!r}]", found, probability, generator, training)
        for name, found in negatives.items()
    }


def uniform_negatives(
    anchors: Tensor,
    k: int,
    *,
    allowed: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> HardNegatives:
    """k others of the batch for each sample, drawn uniformly: negatives that are not hard.

    TeCaFN's ablation of the hard negatives is ``k=B``: the gate then draws from the whole batch.

    Args:
        anchors: (B, ...) one row per sample; only their number and device matter.
        k: how many, at least 1; no more than B - 1 come back.
        allowed: (B, B) bool, who may stand in for whom; everybody by default.
        generator: where the randomness comes from, on the anchors' device; None is torch's own.

    Returns:
        :class:`HardNegatives`, K = min(k, B - 1), nobody twice, in random order, with scores of 0.

    Raises:
        ValueError: on anchors without rows' axis, a k below 1, or a mask of another shape or dtype.

    Example:
        >>> uniform_negatives(torch.zeros(2, 3), k=5).indices
        tensor([[1],
                [0]])

    References: TeCaFN, Multimedia Systems 30(4):228, "w/o Hardneg" of its ablation.
    """
    if arguments.tensor("anchors", anchors).ndim == 0:
        arguments.fail("anchors", "shape (B, ...)", arguments.shape(anchors))
    arguments.whole("k", k)
    size = len(anchors)
    valid = off_diagonal(size, anchors.device)
    if allowed is not None:
        arguments.mask("allowed", allowed, (size, size))
        valid = valid & allowed
    draws = torch.rand(size, size, generator=generator, device=anchors.device)
    draws, indices = torch.where(valid, draws, -1).sort(dim=-1, descending=True, stable=True)
    # Who is not valid comes last, oneself among them: no more than B - 1 remain.
    valid = draws[:, :-1][:, :k] >= 0
    indices = torch.where(valid, indices[:, :-1][:, :k], 0)
    return HardNegatives(indices, torch.zeros(indices.shape, device=indices.device), valid)


def pair_prediction(
    logits: Tensor,
    paired: Tensor,
    *,
    weight: Tensor | None = None,
    keep: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""Cross-entropy of telling a sample's own modality from a replaced one.

    .. math:: \ell_i = -\log \frac{\exp(z_{i, y_i})}{\exp(z_{i, 0}) + \exp(z_{i, 1})}
              = \log\big(1 + \exp(z_{i, 1 - y_i} - z_{i, y_i})\big)

    Args:
        logits: (B, 2): class 0 replaced, class 1 kept.
        paired: (B,) integer classes, :attr:`Gate.paired`; -100 takes no part.
        weight: (B,) sample weights; the mean is then the weighted one.
        keep: (B,) bool: who takes part; all do by default. The logits of the others reach nothing.
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
        Equals ``torch.nn.functional.cross_entropy``, but keeps its digits in float32 where one
        class leads by more than 16.

    References: TeCaFN, Multimedia Systems 30(4):228, eq. 14; its sum over the modalities is the
        caller's.
    """
    arguments.table("logits", logits)
    if logits.shape[1] != 2:
        arguments.fail("logits", "shape (B, 2)", arguments.shape(logits))
    arguments.targets("paired", paired, len(logits), 2, ignore=IGNORE)
    arguments.reduction(reduction)
    counted = paired != IGNORE
    if keep is not None:
        arguments.mask("keep", keep, (len(logits),))
        counted = counted & keep
    logits = torch.where(counted[:, None], upcast(logits), 0)
    lead = logits[:, 1] - logits[:, 0]
    # Beyond 50 the softplus is its argument to the last bit of a float64; the default of 20 is not.
    losses = F.softplus(torch.where(paired == 1, -lead, lead), threshold=50)
    return Reduction(reduction, weight).reduce(losses, counted)


class ReplacementGate(nn.Module):
    """:func:`replacement_gate` with its probability held, open in training mode only.

    Args:
        probability: as in :func:`replacement_gate`.

    Example:
        >>> gate = ReplacementGate(0.7).eval()
        >>> gate(uniform_negatives(torch.zeros(3, 2), k=2)).source
        tensor([0, 1, 2])
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    @overload
    def forward(
        self, negatives: HardNegatives, *, generator: torch.Generator | None = None
    ) -> Gate:
        """One modality's gate."""

    @overload
    def forward(
        self, negatives: Mapping[str, HardNegatives], *, generator: torch.Generator | None = None
    ) -> dict[str, Gate]:
        """A gate for each modality."""

    def forward(
        self,
        negatives: HardNegatives | Mapping[str, HardNegatives],
        *,
        generator: torch.Generator | None = None,
    ) -> Gate | dict[str, Gate]:
        """See :func:`replacement_gate`."""
        return replacement_gate(
            negatives,
            probability=self.probability,
            generator=generator,
            training=self.training,
        )


def _gate(
    name: str,
    negatives: HardNegatives,
    probability: float,
    generator: torch.Generator | None,
    training: bool,
) -> Gate:
    if not isinstance(negatives, HardNegatives):
        arguments.fail(name, "HardNegatives, or a mapping of them", type(negatives).__name__)
    indices, valid = arguments.tensor(f"{name}.indices", negatives.indices), negatives.valid
    if indices.ndim != 2 or indices.dtype != torch.int64:
        arguments.fail(
            f"{name}.indices", "int64 (B, K)", f"{indices.dtype} {arguments.shape(indices)}"
        )
    arguments.mask(f"{name}.valid", valid, tuple(indices.shape))
    own = torch.arange(len(indices), device=indices.device)
    if not training or probability == 0:
        return Gate(own, torch.ones_like(own))
    place, found = sample_one(valid & (indices != own[:, None]), generator=generator)
    # A sum over one entry, or over none where there are no candidates at all.
    columns = torch.arange(indices.shape[1], device=indices.device)
    drawn = torch.where(columns == place[:, None], indices, 0).sum(-1)
    replaced = found & (torch.rand(len(own), generator=generator, device=own.device) < probability)
    return Gate(torch.where(replaced, drawn, own), (~replaced).long())

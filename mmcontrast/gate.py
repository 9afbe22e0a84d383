"""TeCaFN's replacement gate: a modality of a sample replaced, at random, by a hard negative's."""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar, overload

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.masks import off_diagonal
from mmcontrast.mining import HardNegatives
from mmcontrast.picking import sample_one, uniform_draws
from mmcontrast.sharded import local_rows

Rows = TypeVar("Rows", Tensor, Tensor | None)


class Gate(NamedTuple):
    """The sample that each sample takes its modality from; shape (B,) each.

    Fields:
        source: int64: its own index, or that of the negative that replaces it.
        paired: int64: 1 kept, 0 replaced; the targets of :func:`pair_prediction`.

    Example:
        >>> Gate(source=torch.tensor([1, 1]), paired=torch.tensor([0, 1])).source
        tensor([1, 1])
    """

    source: Tensor
    paired: Tensor

    @local_rows
    def take(self, *tensors: Rows) -> tuple[Rows, ...]:
        """The modality's tensors, each row taken from its source.

        Args:
            tensors: (B, ...) each, of that modality: its features, mask and lengths. None stays
                None.

        Raises:
            ValueError: on anything but tensors with at least B rows, or a source beyond them, as
                from negatives that were mined with a ``group``; read on the CPU only.

        Example:
            >>> gate = Gate(torch.tensor([1, 1]), torch.tensor([0, 1]))
            >>> gate.take(torch.tensor([[5.0], [7.0]]), torch.tensor([3, 4]), None)
            (tensor([[7.],
                    [7.]]), tensor([4, 4]), None)
        """
        size = len(self.source)
        source = self.source.long()  # as an index, uint8 would be a mask
        for x in tensors:
            if x is None:
                continue
            if arguments.tensor("tensors", x).ndim == 0 or len(x) < size:
                arguments.fail("tensors", f"at least {size} rows each", arguments.shape(x))
            arguments.row_indices("source", source, len(x), "these rows, not of a group's")
        return tuple(x if x is None else x[source] for x in tensors)


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


@local_rows
def replacement_gate(
    negatives: HardNegatives | Mapping[str, HardNegatives],
    *,
    probability: float,
    generator: torch.Generator | None = None,
    training: bool = True,
) -> Gate | dict[str, Gate]:
    r"""Replace a sample's modality, with some probability, by that of one of its negatives.

    Each sample of each modality is drawn independently. With two modalities the four outcomes have
    the probabilities :math:`(1-p)^2`, :math:`p(1-p)`, :math:`p(1-p)` and :math:`p^2`. The text and
    the label to predict remain the sample's own.

    Args:
        negatives: for row i the rows that may replace it, from :func:`hard_negatives` or
            :func:`uniform_negatives` on the batch; or a mapping of them by modality. Not from a
            miner with a ``group``, which counts all ranks' rows. Only the valid ones are drawn,
            uniformly, and never row i itself; a sample without any is kept. Exclude absent samples
            with the miner's ``allowed``.
        probability: p in [0, 1]. The paper's is 0.7 on MOSI and 0.4 on MOSEI.
        generator: of the random numbers, on the negatives' device; None is torch's own.
        training: False keeps all samples, and draws nothing.

    Returns:
        :class:`Gate`, or a mapping of them by modality.

    Raises:
        ValueError: on a probability outside [0, 1], or negatives of another kind, shape or dtype.

    Example:
        >>> nearest, valid = torch.tensor([[1], [0], [1]]), torch.ones(3, 1, dtype=torch.bool)
        >>> negatives = HardNegatives(nearest, torch.zeros(3, 1), valid)
        >>> replacement_gate(negatives, probability=1.0)
        Gate(source=tensor([1, 0, 1]), paired=tensor([0, 0, 0]))

    References: TeCaFN, Multimedia Systems 30(4):228, section 3.2.3 and Table 2. Its code excludes
        the sample itself at this point, because its negatives may contain it; so does this gate.
    """
    arguments.probability(probability)
    arguments.flag("training", training)
    arguments.generator(generator)
    if not isinstance(negatives, Mapping):
        return _modality_gate("negatives", negatives, probability, generator, training)
    return {
        name: _modality_gate(f"negatives[{name!r}]", found, probability, generator, training)
        for name, found in negatives.items()
    }


@local_rows
def uniform_negatives(
    anchors: Tensor,
    k: int,
    *,
    allowed: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> HardNegatives:
    """k other samples of the batch for each sample, drawn uniformly: negatives that are not hard.

    TeCaFN's ablation of the hard negatives is ``k=B``: the gate then draws from the whole batch.

    Args:
        anchors: (B, ...) one row per sample; only their number and device matter.
        k: how many, at least 1; at most B - 1 are returned.
        allowed: (B, B) bool, row i: the samples that may replace sample i; all by default.
        generator: of the random numbers, on the anchors' device; None is torch's own.

    Returns:
        :class:`HardNegatives`, K = min(k, B - 1), in random order, all scores 0.

    Raises:
        ValueError: on anchors without a first axis, a k below 1, or a mask of another shape or
            dtype.

    Example:
        >>> uniform_negatives(torch.zeros(2, 3), k=5).indices
        tensor([[1],
                [0]])

    References: TeCaFN, Multimedia Systems 30(4):228, "w/o Hardneg" of its ablation.
    """
    if arguments.tensor("anchors", anchors).ndim == 0:
        arguments.fail("anchors", "shape (B, ...)", arguments.shape(anchors))
    k = arguments.whole("k", k)
    arguments.generator(generator)
    size = len(anchors)
    valid = off_diagonal(size, anchors.device)
    if allowed is not None:
        arguments.mask("allowed", allowed, (size, size))
        valid = valid & allowed
    draws = uniform_draws((size, size), anchors.device, generator)
    draws, indices = torch.where(valid, draws, -1).sort(dim=-1, descending=True, stable=True)
    # Invalid samples are sorted last, the anchor's own among them: at most B - 1 remain.
    valid = draws[:, :-1][:, :k] >= 0
    indices = torch.where(valid, indices[:, :-1][:, :k], 0)
    return HardNegatives(indices, draws.new_zeros(indices.shape), valid)


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
        arguments.probability(probability)
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


def _modality_gate(
    name: str,
    negatives: HardNegatives,
    probability: float,
    generator: torch.Generator | None,
    training: bool,
) -> Gate:
    if not isinstance(negatives, HardNegatives):
        arguments.fail(name, "HardNegatives, or a mapping of them", type(negatives).__name__)
    indices, valid = arguments.tensor(f"{name}.indices", negatives.indices), negatives.valid
    whole = not indices.is_floating_point() and indices.dtype != torch.bool
    if indices.ndim != 2 or not whole:
        arguments.fail(
            f"{name}.indices", "integer (B, K)", f"{indices.dtype} {arguments.shape(indices)}"
        )
    indices = indices.long()
    arguments.mask(f"{name}.valid", valid, tuple(indices.shape))
    own = torch.arange(len(indices), device=indices.device)
    if not training or probability == 0:
        return Gate(own, torch.ones_like(own))
    place, found = sample_one(valid & (indices != own[:, None]), generator=generator)
    # The entry at ``place`` as a sum, which exists where there are no candidates at all, K = 0.
    columns = torch.arange(indices.shape[1], device=indices.device)
    drawn = torch.where(columns == place[:, None], indices, 0).sum(-1)
    replaced = found & (uniform_draws(own.shape, own.device, generator) < probability)
    return Gate(torch.where(replaced, drawn, own), (~replaced).long())

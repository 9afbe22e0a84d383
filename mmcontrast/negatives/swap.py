"""Swapped negatives, strategy A of CorMulT: a modality taken from another sample."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.masks import off_diagonal
from mmcontrast.negatives.batches import Negatives, read_batch
from mmcontrast.picking import sample_one
from mmcontrast.sharded import local_rows


@local_rows
def swap(
    features: Mapping[str, Tensor],
    *,
    modalities: Collection[str] | None = None,
    allowed: Tensor | None = None,
    present: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    lengths: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Negatives:
    """Strategy A: one modality of each sample is replaced by that of another sample.

    The modality is drawn uniformly among those that the sample and some other sample have, the
    other sample uniformly among those that have it; its mask and length are taken along. A sample
    without a possible partner is unchanged.

    Args:
        features: by modality: (B, T, D) or (B, D) floating, or (B, T) integer token ids.
        modalities: those that may be altered; all by default.
        allowed: (B, B) bool, row i: the samples that may replace sample i; all others by default.
        present: (B,) bool by modality, which samples have it; all where it is left out. A sample
            that lacks it, or has no real frame of it, is neither altered in it nor drawn.
        masks: (B, T) bool by modality, True for real frames. A modality without a mask takes its
            lengths; without either, all frames are real.
        lengths: (B,) integer by modality, the number of real frames, which are the first ones.
        generator: of the random numbers, on the features' device; None is torch's own.

    Returns:
        :class:`Negatives`. A swapped sample counts as altered even if the values are equal.

    Raises:
        ValueError: on shapes or dtypes that disagree, or a modality that is not in the features.

    Example:
        >>> features = {"text": torch.tensor([[1.0], [2.0]]), "audio": torch.tensor([[3.0], [4.0]])}
        >>> swap(features, modalities=["audio"]).features["audio"]
        tensor([[4.],
                [3.]])

    References: CorMulT, arXiv:2407.07046, section 4.2, strategy A. Its code draws the other sample
        from the whole split: append such samples to the batch, and keep the first B rows.
    """
    arguments.generator(generator)
    batch, names = read_batch(features, modalities, present, masks, lengths)
    rows = len(batch.has[names[0]])
    device = batch.has[names[0]].device
    others = off_diagonal(rows, device)
    if allowed is not None:
        arguments.mask("allowed", allowed, (rows, rows))
        others = others & allowed
    has = torch.stack([batch.has[name] for name in names])
    able = torch.stack([batch.has[n] & (others & batch.has[n]).any(-1) for n in names], dim=1)
    which, found = sample_one(able, generator=generator)
    partner, _ = sample_one(others & has[which], generator=generator)
    own = torch.arange(rows, device=device)
    negatives = batch.unaltered()
    for k, name in enumerate(names):
        altered = found & (which == k)
        source = torch.where(altered, partner, own)
        negatives.altered[name] = altered
        for tensors in (negatives.features, negatives.masks, negatives.lengths):
            if name in tensors:
                tensors[name] = tensors[name][source]
    return negatives

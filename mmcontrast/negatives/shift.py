"""Shifted negatives, strategy B of CorMulT: a modality that runs ahead of the others."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.negatives.batches import Negatives, feature_shapes, is_sequence, read_batch
from mmcontrast.picking import sample_one
from mmcontrast.sharded import local_rows


@local_rows
def shift(
    features: Mapping[str, Tensor],
    *,
    steps: int | Mapping[str, int] = 1,
    text: str = "text",
    shift_all: bool = False,
    padding_id: int = 0,
    modalities: Collection[str] | None = None,
    present: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    lengths: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Negatives:
    """Strategy B: one modality of each sample is shifted in time, and the text by one token.

    A sequence moves towards its start within its real frames. The freed frames at its end become
    padding: zero, or ``padding_id``, and False in its mask; its length shrinks. At least one real
    frame remains: a short sequence moves less far, and one of a single frame not at all.

    Args:
        features: as in :func:`swap`; (B, D) modalities have no time and stay as they are.
        steps: by how many frames; or a mapping by modality, 1 for those left out. A second of audio
            has another number of frames than a second of vision.
        text: the modality that always moves, by one token; it need not be in the features. One of
            the others is drawn for each sample, uniformly among those that can move.
        shift_all: move every sequence by its steps, the text too, and draw nothing, as the paper's
            code does. Equal steps leave the modalities aligned with each other.
        padding_id: token id at the end of shifted token ids.
        modalities, present, masks, lengths, generator: as in :func:`swap`.

    Returns:
        :class:`Negatives`.

    Raises:
        ValueError: on shapes or dtypes that disagree, a modality that is not in the features, steps
            below 1, a padding_id that the ids' dtype does not hold, or no sequence at all.

    Example:
        >>> features = {"audio": torch.tensor([[[1.0], [2.0], [3.0]]])}
        >>> moved = shift(features, lengths={"audio": torch.tensor([2])})
        >>> moved.features["audio"][0, :, 0], moved.lengths["audio"]
        (tensor([2., 0., 3.]), tensor([1]))

    References: CorMulT, arXiv:2407.07046, section 4.2, strategy B.
    """
    arguments.word("text", text)
    arguments.flag("shift_all", shift_all)
    arguments.generator(generator)
    batch, names = read_batch(features, modalities, present, masks, lengths)
    names = [name for name in names if is_sequence(features[name])]
    if not names:
        arguments.fail(
            "features", "a sequence to shift, (B, T, D) or (B, T)", feature_shapes(features)
        )
    for name in names:
        if not features[name].is_floating_point():
            arguments.fits("padding_id", padding_id, features[name].dtype)
    if isinstance(steps, Mapping):
        for name in steps:
            arguments.one_of("steps", name, names)
        distance = {name: steps.get(name, 1) for name in names}
    else:
        distance = {name: steps if shift_all or name != text else 1 for name in names}
    for name, value in distance.items():
        label = f"steps[{name!r}]" if isinstance(steps, Mapping) else "steps"
        distance[name] = arguments.whole(label, value)
    able = {name: batch.real[name].sum(-1) > 1 for name in names}
    negatives = batch.unaltered()
    drawn = [name for name in names if name != text and not shift_all]
    if drawn:
        which, found = sample_one(torch.stack([able[n] for n in drawn], 1), generator=generator)
        able.update({name: found & (which == k) for k, name in enumerate(drawn)})
    for name in names:
        real = batch.real[name]
        ahead = torch.where(able[name], (real.sum(-1) - 1).clamp_max(distance[name]), 0)
        moved, kept = _move(features[name], real, ahead, padding_id)
        negatives.features[name] = moved
        negatives.altered[name] = able[name]
        if name in negatives.masks:
            mask = negatives.masks[name]
            negatives.masks[name] = torch.where(able[name][:, None], kept, mask)
        if name in negatives.lengths:
            length = negatives.lengths[name]
            negatives.lengths[name] = (length.long() - ahead).to(length.dtype)
    return negatives


def _move(x: Tensor, real: Tensor, ahead: Tensor, padding_id: int) -> tuple[Tensor, Tensor]:
    """Shift real frames towards the start by ``ahead`` (B,) real frames.

    Frames that are not real stay where they are. The real ones are numbered, in order; frame number
    p takes the content of number p + ahead, or padding where there is none.

    Returns:
        The sequences, and (B, T) bool: the frames that are still real.
    """
    place = real.cumsum(-1) - 1 + ahead[:, None]
    kept = real & (place < real.sum(-1, keepdim=True))
    in_order = real.long().argsort(dim=-1, descending=True, stable=True)
    source = in_order.gather(1, place.clamp(0, max(x.shape[1] - 1, 0)))
    moved = x[torch.arange(len(x), device=x.device)[:, None], source]
    end = 0 if x.is_floating_point() else padding_id
    axes = (..., None) if x.ndim == 3 else ...
    moved = torch.where(kept[axes], moved, end)
    return torch.where(real[axes], moved, x), kept

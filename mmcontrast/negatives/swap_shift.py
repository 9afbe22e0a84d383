"""Negative batches: samples whose modalities no longer belong together.

Four strategies of CorMulT. Each takes a batch and gives it back with some modalities of each sample
altered, and says which. Shapes are those of the batch, whatever was drawn.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.masks import off_diagonal
from mmcontrast.mining import sample_one
from mmcontrast.negatives.altered import Negatives, is_sequence, read, shapes
from mmcontrast.negatives.noise import add_noise, replace_tokens


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
    other sample uniformly among those that have it; it brings its mask and length along. A sample
    that has nobody to swap with stays as it is.

    Args:
        features: by modality: (B, T, D) or (B, D) floating, or (B, T) integer token ids.
        modalities: those that may be altered; all by default.
        allowed: (B, B) bool, who may stand in for whom; every other sample by default.
        present: (B,) bool by modality, who has it; all do where nothing is said. Who lacks it, or
            has no real frame of it, is neither altered in it nor drawn.
        masks: (B, T) bool by modality, True for real frames; where nothing is said the lengths
            tell, or all frames are real.
        lengths: (B,) integer by modality, the number of real frames, which are the first ones.
        generator: where the randomness comes from, on the features' device; None is torch's own.

    Returns:
        :class:`Negatives`. A swapped sample counts as altered whatever the values are.

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
    batch, names = read(features, modalities, present, masks, lengths)
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
    """Strategy B: one modality of each sample runs ahead of the others, and the text by one token.

    A sequence moves towards its start within its real frames. The frames that are free at its end
    become padding: zero, or ``padding_id``, and False in its mask; its length falls. One real frame
    stays at least: a shorter sequence moves less far, and one of a single frame not at all.

    Args:
        features: as in :func:`swap`; (B, D) modalities have no time and stay as they are.
        steps: by how many frames; or a mapping by modality, 1 for those left out, because a second
            of audio has other frames than a second of vision.
        text: the modality that always moves, by one token; a name that is absent is no error. Of
            the others one is drawn for each sample, uniformly among those that can move.
        shift_all: move every sequence by its steps, the text too, and draw nothing, as the paper's
            code does. Equal steps leave the modalities aligned with each other.
        padding_id: token id at the end of shifted token ids.
        modalities, present, masks, lengths, generator: as in :func:`swap`.

    Returns:
        :class:`Negatives`.

    Raises:
        ValueError: on shapes or dtypes that disagree, a modality that is not in the features, steps
            below 1, or no sequence at all.

    Example:
        >>> features = {"audio": torch.tensor([[[1.0], [2.0], [3.0]]])}
        >>> moved = shift(features, lengths={"audio": torch.tensor([2])})
        >>> moved.features["audio"][0, :, 0], moved.lengths["audio"]
        (tensor([2., 0., 3.]), tensor([1]))

    References: CorMulT, arXiv:2407.07046, section 4.2, strategy B.
    """
    batch, names = read(features, modalities, present, masks, lengths)
    names = [name for name in names if is_sequence(features[name])]
    if not names:
        arguments.fail("features", "a sequence to shift, (B, T, D) or (B, T)", shapes(features))
    if isinstance(steps, Mapping):
        for name in steps:
            arguments.one_of("steps", name, names)
        distance = {name: steps.get(name, 1) for name in names}
    else:
        distance = {name: steps if shift_all or name != text else 1 for name in names}
    for name, value in distance.items():
        arguments.whole(f"steps[{name!r}]" if isinstance(steps, Mapping) else "steps", value)
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
            negatives.lengths[name] = length - ahead.to(length.dtype)
    return negatives


def mixed_negatives(
    features: Mapping[str, Tensor],
    *,
    allowed: Tensor | None = None,
    steps: int | Mapping[str, int] = 1,
    text: str = "text",
    shift_all: bool = False,
    padding_id: int = 0,
    std: float = 0.1,
    relative: bool = True,
    vocabulary_size: int | None = None,
    probability: float = 0.15,
    special: Iterable[int] = (),
    modalities: Collection[str] | None = None,
    present: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    lengths: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Negatives:
    """Strategy D: each sample is swapped, shifted or made noisy, at random.

    The strategy is drawn uniformly among those that alter the sample at all: all three, as a rule;
    a lone sample cannot be swapped, and one of single frames not shifted.

    Args:
        features: as in :func:`swap`. Noise means :func:`add_noise` on the floating modalities and
            :func:`replace_tokens` on token ids.
        allowed: as in :func:`swap`.
        steps, text, shift_all, padding_id: as in :func:`shift`.
        std, relative: as in :func:`add_noise`.
        vocabulary_size, probability, special: as in :func:`replace_tokens`; the first is needed
            where there are token ids.
        modalities, present, masks, lengths, generator: as in :func:`swap`.

    Returns:
        :class:`Negatives`.

    Raises:
        ValueError: as the three strategies do, or without a vocabulary_size for token ids.

    Example:
        >>> features = {"audio": torch.rand(4, 9, 5), "vision": torch.rand(4, 7, 3)}
        >>> altered = mixed_negatives(features).altered
        >>> altered["audio"] | altered["vision"]
        tensor([True, True, True, True])

    References: CorMulT, arXiv:2407.07046, section 4.2, strategy D.
    """
    batch, names = read(features, modalities, present, masks, lengths)
    shared: dict[str, Any] = {
        "present": present,
        "masks": masks,
        "lengths": lengths,
        "generator": generator,
    }
    floating = [name for name in names if features[name].is_floating_point()]
    tokens = [name for name in names if name not in floating]
    sequences = [name for name in names if is_sequence(features[name])]

    parts = [swap(features, allowed=allowed, modalities=names, **shared)]
    if sequences:
        parts.append(
            shift(
                features,
                steps=steps,
                text=text,
                shift_all=shift_all,
                padding_id=padding_id,
                modalities=sequences,
                **shared,
            )
        )
    noisy = batch.unaltered()
    if floating:
        noisy = add_noise(features, std=std, relative=relative, modalities=floating, **shared)
    if tokens:
        if vocabulary_size is None:
            arguments.fail("vocabulary_size", f"an int, for the token ids of {tokens}", None)
        words = replace_tokens(
            noisy.features,
            vocabulary_size=vocabulary_size,
            probability=probability,
            special=special,
            modalities=tokens,
            **shared,
        )
        both = {name: noisy.altered[name] | x for name, x in words.altered.items()}
        noisy = words._replace(altered=both)
    parts.append(noisy)

    # Who cannot be altered at all is the same in every part, so that any of them will do.
    able = torch.stack([torch.stack(list(part.altered.values())).any(0) for part in parts], dim=1)
    which, _ = sample_one(able, generator=generator)
    own = torch.arange(len(which), device=which.device)

    def chosen(mappings: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([m[name] for m in mappings])[which, own] for name in mappings[0]}

    return Negatives(*(chosen(list(mappings)) for mappings in zip(*parts, strict=True)))


def _move(x: Tensor, real: Tensor, ahead: Tensor, padding_id: int) -> tuple[Tensor, Tensor]:
    """Every real frame taken from ``ahead`` (B,) real frames later, and which frames still are."""
    place = real.cumsum(-1) - 1 + ahead[:, None]
    kept = real & (place < real.sum(-1, keepdim=True))
    in_order = real.long().argsort(dim=-1, descending=True, stable=True)
    source = in_order.gather(1, place.clamp(0, max(x.shape[1] - 1, 0)))
    moved = x[torch.arange(len(x), device=x.device)[:, None], source]
    end = 0 if x.is_floating_point() else padding_id
    axes = (..., None) if x.ndim == 3 else ...
    moved = torch.where(kept[axes], moved, end)
    return torch.where(real[axes], moved, x), kept

"""Mixed negatives, strategy D of CorMulT: each sample swapped, shifted or made noisy."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.negatives.batches import Negatives, is_sequence, read_batch
from mmcontrast.negatives.noise import add_noise, replace_tokens
from mmcontrast.negatives.shift import shift
from mmcontrast.negatives.swap import swap
from mmcontrast.picking import sample_one
from mmcontrast.sharded import local_rows


@local_rows
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

    The strategy is drawn uniformly among those that alter the sample: usually all three, but a
    batch of one sample cannot be swapped, and a sequence of one frame cannot be shifted.

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
    batch, names = read_batch(features, modalities, present, masks, lengths)
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

    # A sample that no strategy alters is the same in every part, so any part will do for it.
    able = torch.stack([torch.stack(list(part.altered.values())).any(0) for part in parts], dim=1)
    which, _ = sample_one(able, generator=generator)
    own = torch.arange(len(which), device=which.device)

    def chosen(mappings: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([m[name] for m in mappings])[which, own] for name in mappings[0]}

    return Negatives(*(chosen(list(mappings)) for mappings in zip(*parts, strict=True)))

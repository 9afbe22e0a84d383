"""Noisy negatives: strategy C of CorMulT, on features and on token ids."""

import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.negatives.batches import Negatives, feature_shapes, read_batch
from mmcontrast.picking import extreme, uniform_draws
from mmcontrast.rows import upcast
from mmcontrast.sharded import local_rows


@local_rows
def add_noise(
    features: Mapping[str, Tensor],
    *,
    std: float = 0.1,
    relative: bool = True,
    modalities: Collection[str] | None = None,
    present: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    lengths: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Negatives:
    """Strategy C: Gaussian noise on every real frame of every floating modality.

    Args:
        features: as in :func:`swap`; token ids are unchanged, see :func:`replace_tokens`.
        std: standard deviation of the noise, above 0.
        relative: in units of each feature's own standard deviation over the real frames of the
            batch, so that a constant feature is unchanged; False: in the features' unit, as in the
            paper's code.
        modalities, present, masks, lengths, generator: as in :func:`swap`.

    Returns:
        :class:`Negatives`. The gradient with respect to the features is the identity.

    Raises:
        ValueError: on shapes or dtypes that disagree, a modality that is not in the features, a std
            that is not positive, or no floating modality.

    Example:
        >>> features = {"audio": torch.tensor([[1.0, 5.0], [3.0, 5.0]])}
        >>> noisy = add_noise(features).features["audio"]
        >>> noisy == features["audio"]
        tensor([[False,  True],
                [False,  True]])

    References: CorMulT, arXiv:2407.07046, section 4.2, strategy C, for audio and video.
    """
    arguments.positive("std", std)
    arguments.flag("relative", relative)
    arguments.generator(generator)
    batch, names = read_batch(features, modalities, present, masks, lengths)
    names = [name for name in names if features[name].is_floating_point()]
    if not names:
        arguments.fail("features", "a floating modality", feature_shapes(features))
    negatives = batch.unaltered()
    for name in names:
        x, frames = features[name], batch.real[name][..., None]
        exact = upcast(x)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=exact.dtype)
        if relative:
            noise = noise * _deviation(exact.detach(), frames)
        noisy = torch.where(frames, (exact + std * noise).to(x.dtype), x)
        negatives.features[name] = noisy
        negatives.altered[name] = (frames & (noisy != x)).flatten(1).any(-1)
    return negatives


@local_rows
def replace_tokens(
    features: Mapping[str, Tensor],
    *,
    vocabulary_size: int,
    probability: float = 0.15,
    special: Iterable[int] = (),
    modalities: Collection[str] | None = None,
    present: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    lengths: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> Negatives:
    """Strategy C for token ids: some tokens of every sample are replaced by random ones.

    Args:
        features: as in :func:`swap`; floating modalities are unchanged, see :func:`add_noise`.
        vocabulary_size: V; the new id is drawn uniformly from 0 to V - 1, excluding the special ids
            and the token's own.
        probability: of each real token that is not special, in [0, 1]. The paper gives none; this
            is the share that BERT masks. At least one token of each sample is replaced, if it has
            any, so that 0 means exactly one.
        special: ids that are neither replaced nor drawn; without a mask, include the padding id.
        modalities, present, masks, lengths, generator: as in :func:`swap`.

    Returns:
        :class:`Negatives`.

    Raises:
        ValueError: on shapes or dtypes that disagree, a modality that is not in the features, a
            probability outside [0, 1], special ids outside the vocabulary, fewer than two others,
            a vocabulary larger than the ids' dtype holds, or no token ids.

    Example:
        >>> features = {"text": torch.tensor([[0, 2, 1]])}
        >>> replace_tokens(features, vocabulary_size=4, special=[0, 1]).features["text"]
        tensor([[0, 3, 1]])

    References: CorMulT, arXiv:2407.07046, section 4.2, strategy C, for text; the share of BERT,
        arXiv:1810.04805.
    """
    arguments.probability(probability)
    arguments.generator(generator)
    vocabulary_size = arguments.whole("vocabulary_size", vocabulary_size)
    if not isinstance(special, Iterable) or isinstance(special, str | Tensor | np.ndarray):
        arguments.fail("special", "a list of ids", arguments.shown(special))
    kept = sorted({arguments.whole("special", token, least=0) for token in special})
    if kept and not 0 <= kept[0] <= kept[-1] < vocabulary_size:
        arguments.fail("special", f"ids from 0 to {vocabulary_size - 1}", arguments.shown(kept))
    choices = vocabulary_size - len(kept)
    if choices < 2:
        arguments.fail("vocabulary_size", "two ids that are not special", choices)
    batch, names = read_batch(features, modalities, present, masks, lengths)
    names = [name for name in names if not features[name].is_floating_point()]
    if not names:
        arguments.fail(
            "features", "a modality of token ids, (B, T) integer", feature_shapes(features)
        )
    for name in names:
        arguments.fits("vocabulary_size", vocabulary_size - 1, features[name].dtype)
    negatives = batch.unaltered()
    for name in names:
        x, free = features[name], batch.real[name]
        for token in kept:
            free = free & (x != token)
        draws = uniform_draws(x.shape, x.device, generator)
        # The smallest draw is always replaced, so that there is one where no draw is below.
        least, _ = extreme(draws, free, largest=False)
        columns = torch.arange(x.shape[1], device=x.device)
        chosen = free & ((draws < probability) | (columns == least[:, None]))
        others = _other_tokens(x.long(), choices, kept, generator)
        negatives.features[name] = torch.where(chosen, others.to(x.dtype), x)
        negatives.altered[name] = chosen.any(-1)
    return negatives


def _other_tokens(
    x: Tensor, choices: int, special: list[int], generator: torch.Generator | None
) -> Tensor:
    """For each token another one, drawn uniformly from the ``choices`` that are not special."""
    place = x
    for token in special:
        place = place - (x > token).long()
    # Drawn from ids that are numbered without the token's own and without the special ones; each
    # excluded number is then put back, in ascending order, by moving all from it on up by one.
    drawn = torch.randint(choices - 1, x.shape, generator=generator, device=x.device)
    drawn = drawn + (drawn >= place).long()
    for token in special:
        drawn = drawn + (drawn >= token).long()
    return drawn


def _deviation(x: Tensor, frames: Tensor) -> Tensor:
    """(D,) standard deviation of each feature over the frames (..., 1)."""
    if not x.numel():
        return x.new_zeros(x.shape[-1])
    axes = tuple(range(x.ndim - 1))
    count = frames.sum()  # 0 makes the result NaN, but then it is added to no frame
    mean = torch.where(frames, x, 0).sum(axes) / count
    gaps: Tensor = torch.where(frames, x - mean, 0)
    # The mean of equal numbers may be rounded beside them: compared, they have no spread at all.
    high, low = torch.where(frames, x, -math.inf), torch.where(frames, x, math.inf)
    varies = high.amax(axes) > low.amin(axes)
    return torch.where(varies, (gaps.square().sum(axes) / count).sqrt(), 0)

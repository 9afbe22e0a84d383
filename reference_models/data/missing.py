"""What is missing of a sample: whole modalities, or frames and tokens; every mode with its source.

Each mode but the first has draws, uniform numbers in [0, 1), and a rate: a thing is missing where
its number is below the rate. So masks are nested: what is missing at the rate .3 is missing at .4,
and the curve of a metric over the rate varies less than one of masks drawn anew at each rate.

Draws depend on the data, the split, the mode, the seed and the modality, and on nothing else: not
on the model, nor on the order of the batches. Those of different modalities are independent. (In
MMSA each modality has a seed, all of them 1111 by default: there the masks of modalities of one
length coincide. In the code of TFR-Net and EMT-DLFR the seeds differ.)
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from reference_models.data.batch import ModalDataset
from reference_models.data.corpus import Split

FIXED = "fixed-modalities"
MODES = {
    FIXED: "only some modalities are there, the same for all samples: every subset, one by one"
    " (MMIN, ACL 2021; the fixed protocol of IMDer, NeurIPS 2023)",
    "random-modalities": "modalities are missing at random, never all of a sample"
    " (CPM-Net, NeurIPS 2019; GCNet, arXiv:2203.02177; the random protocol of IMDer)",
    "frames": "frames and tokens are missing at random, independently in each modality"
    " (TFR-Net, ACM MM 2021; EMT-DLFR, arXiv:2208.07589)",
    "shared-frames": "frames and tokens are missing at random, in all modalities at the same times"
    " (one mask in time: static_frame_drop in the code of NIAT, Columbine21/NIAT)",
    "blocks": "one contiguous block of frames and tokens is missing, independently in each modality"
    " (feat_structural_drop in the code of OpenVNA, Columbine21/Robust_Framework)",
}
RATED_MODES = tuple(mode for mode in MODES if mode != FIXED)  # there is a rate of what is missing
WHOLE = (FIXED, "random-modalities")  # modes of whole modalities, which are then absent
STEPS = 512  # draws along the time of a text, and along the time that modalities share

Floats = NDArray[np.float32] | np.float32
Bools = NDArray[np.bool_]


def check_mode(mode: str, modalities: Collection[str]) -> None:
    """Refuse what is not a mode, or not one for a file with these modalities.

    Raises:
        ValueError: names the modes, or the modalities.
    """
    if mode not in MODES:
        raise ValueError(f"--missing: expected one of {', '.join(MODES)}, got {mode!r}")
    if mode in WHOLE and len(modalities) < 2:
        raise ValueError(
            f"--missing: expected a file with two modalities or more for {mode}, in which each"
            f" sample keeps one, got {', '.join(modalities)}"
        )


def highest_rate(mode: str, modalities: Collection[str]) -> float:
    """1; with random modalities (M - 1) / M: each sample of the literature keeps one of its M."""
    return 1 - 1 / len(modalities) if mode == "random-modalities" else 1.0


def rates(mode: str, modalities: Collection[str]) -> list[float]:
    """The rates of a curve: 0 to 1 by .1, or to the mode's highest one, which is the last."""
    top = highest_rate(mode, modalities)
    return [tenth / 10 for tenth in range(10) if tenth / 10 < top] + [top]


def subsets(modalities: Collection[str]) -> list[tuple[str, ...]]:
    """All subsets but the empty one, single modalities first: seven of three, three of two."""
    names = list(modalities)
    return [part for n in range(1, len(names) + 1) for part in combinations(names, n)]


def draw(mode: str, split: Split, *, data: str, seed: int) -> dict[str, Floats]:
    """The draws of a mode for all N samples of a split.

    Args:
        mode: one with a rate.
        split: its modalities, their lengths, and who lacks what.
        data: the SHA-256 of the file.
        seed: of the masks.

    Returns:
        "frames": modality -> (N, T), T at least ``STEPS`` for text; "shared-frames": "time" ->
        (N, STEPS); "blocks": modality -> (N,); "random-modalities": modality -> (N,), 2 for the
        one that the sample keeps, so that no rate reaches it.
    """

    def uniform(part: str, *shape: int) -> Floats:
        key = "|".join((data, split.name, mode, str(seed), part))
        source = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()))
        return source.random(shape, dtype=np.float32)

    n, names = len(split), split.modalities
    if mode == "frames":
        return {m: uniform(m, n, _width(split, m)) for m in names}
    if mode == "shared-frames":
        return {"time": uniform("time", n, STEPS)}
    numbers = {m: uniform(m, n) for m in names}
    if mode == "random-modalities":
        here = np.stack([split.present[m] for m in names])
        keep = np.stack([uniform(f"{m} is kept", n) for m in names])
        kept = np.where(here, keep, -1).argmax(0)
        for at, values in enumerate(numbers.values()):
            values[kept == at] = 2
    return numbers


def draw_one(
    mode: str, lengths: Mapping[str, int], source: np.random.Generator
) -> dict[str, Floats]:
    """Fresh draws for one sample, whose modalities have ``lengths`` steps; 0: it lacks it."""
    if mode == "frames":
        return {m: source.random(max(length, 1), np.float32) for m, length in lengths.items()}
    if mode == "shared-frames":
        return {"time": source.random(STEPS, np.float32)}
    numbers = {m: source.random((), np.float32) for m in lengths}
    here = [m for m, length in lengths.items() if length]
    if mode == "random-modalities" and here:
        numbers[here[source.integers(len(here))]] = np.float32(2)
    return numbers


def _width(split: Split, modality: str) -> int:
    steps = split.features[modality].shape[1] if modality in split.features else 1
    return max(steps, STEPS) if modality == "text" else steps


def missing_steps(
    mode: str, rate: float, draws: Mapping[str, Floats], lengths: Mapping[str, int]
) -> dict[str, Bools]:
    """Where something is missing in one sample, modality -> (length,) bool.

    Args:
        mode, rate: what is missing, and how much of it.
        draws: of :func:`draw`, the sample's row of each.
        lengths: modality -> its real frames, or its tokens without the special ones.

    A modality of one step, such as a vector for the whole utterance, has no time: it is missing
    with the probability ``rate``, in "blocks" too.
    """
    return {m: _missing(mode, rate, draws, m, length) for m, length in lengths.items()}


def _missing(
    mode: str, rate: float, draws: Mapping[str, Floats], modality: str, length: int
) -> Bools:
    steps = np.arange(length)
    if mode == "frames":
        return draws[modality][steps % len(draws[modality])] < rate
    if mode == "shared-frames":
        # The same share of the time: of 10 frames the sixth, of 50 the 28th, read the same draws.
        slots = ((steps + 0.5) / max(length, 1) * STEPS).astype(np.int64)
        return draws["time"][slots] < rate
    number = float(draws[modality])
    if mode == "random-modalities":
        # One is kept; for the share of missing ones to be the rate, more of the others go.
        one_of = len(draws)
        return np.full(length, number < rate * one_of / max(one_of - 1, 1))
    if length == 1:
        return np.full(1, number < rate)
    # The block grows from a point at the share ``number`` of the time: nested, and within it.
    count = int(np.floor(rate * length + 0.5))
    start = int(number * (length - count + 1))
    return (steps >= start) & (steps < start + count)


@dataclass(frozen=True)
class BlankTokens:
    """What stands in the place of a missing token, and the special tokens, which never go."""

    unknown: int
    special: frozenset[int]


# Of every vocabulary of BERT, in which the stored ids of the column text_bert are.
BERT_BLANKS = BlankTokens(100, frozenset((0, 101, 102)))


def blank_tokens(tokenizer: PreTrainedTokenizerBase | None) -> BlankTokens:
    """The unknown token of a tokenizer, or else its mask token; None: that of BERT.

    Without a tokenizer, a network reads the stored ids of the column text_bert, or no tokens.

    Raises:
        ValueError: a tokenizer that has neither.
    """
    if tokenizer is None:
        return BERT_BLANKS
    blank = tokenizer.unk_token_id
    ends = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    ends |= {tokenizer.bos_token_id, tokenizer.eos_token_id}
    if blank is None or blank in ends:
        blank = tokenizer.mask_token_id
    if blank is None:
        raise ValueError(
            "--text-encoder: expected a tokenizer with an unknown or a mask token, which stands in"
            " the place of missing ones, got one without"
        )
    return BlankTokens(blank, frozenset(tokenizer.all_special_ids) - {blank})


def lacking(
    sample: dict[str, Any],
    mode: str,
    rate: float,
    draws: Mapping[str, Floats],
    blanks: BlankTokens,
) -> dict[str, Any]:
    """A sample of a :class:`ModalDataset` without what is missing; the given one stays as it is.

    A missing modality has no steps, which makes it absent in the batch. Missing frames are zero,
    which of standardized features is the mean, and missing tokens are ``blanks.unknown``; they keep
    their place, and the network is not told, as in the code of TFR-Net.
    """
    steps = sample["features"]
    if mode in WHOLE:
        gone = missing_steps(mode, rate, draws, {m: len(x) for m, x in steps.items()})
        return {**sample, "features": {m: x[:0] if gone[m].any() else x for m, x in steps.items()}}
    content = {m: _content(x, blanks) for m, x in steps.items()}
    gone = missing_steps(mode, rate, draws, {m: len(at) for m, at in content.items()})
    features = {}
    for name, x in steps.items():
        at = content[name][torch.from_numpy(gone[name]).to(x.device)]
        features[name] = x.index_fill(0, at, 0 if x.is_floating_point() else blanks.unknown)
    return {**sample, "features": features}


def only(sample: dict[str, Any], modalities: Collection[str]) -> dict[str, Any]:
    """A sample of which only some modalities are there."""
    kept = {m: x if m in modalities else x[:0] for m, x in sample["features"].items()}
    return {**sample, "features": kept}


def _content(steps: Tensor, blanks: BlankTokens) -> Tensor:
    """The places of a sequence that can be missing: all frames, tokens that are not special."""
    places = torch.arange(len(steps), device=steps.device)
    if steps.is_floating_point():
        return places
    special = torch.tensor(sorted(blanks.special), dtype=steps.dtype, device=steps.device)
    return places[~torch.isin(steps, special)]


class MissingDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """A split of which something is missing: ``without`` maps each sample to what is left of it."""

    def __init__(
        self, full: ModalDataset, without: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        self.full, self.without = full, without

    def __len__(self) -> int:
        return len(self.full)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.without(self.full[index])

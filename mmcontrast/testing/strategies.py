"""Hypothesis strategies for the inputs of contrastive losses.

Rows have one of several shapes: small round numbers on a grid, which failures shrink to, or random
rows that are generic, aligned, repeated, opposite, tiny, huge or all in one direction. No row is
zero.
"""

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.testing.batch import MODALITIES, NAMES, Batch
from mmcontrast.testing.traits import ALL_KINDS, Traits

SHAPES = ("grid", "gauss", "aligned", "duplicate", "poles", "tiny", "huge", "one_direction")
"""The shapes of a matrix of rows."""

GENERIC = ("gauss",)
RAW = ("grid", "gauss", "aligned", "duplicate", "poles", "one_direction")
TEMPERATURES = (1.0, 0.5, 0.1, 0.07, 0.05, 0.02, 0.01)

seeds = st.integers(0, 2**31 - 1)


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers in float64, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def unit_rows(x: Tensor) -> Tensor:
    """Rows of length one; rows of zeros stay zero."""
    length = x.norm(dim=1, keepdim=True)
    return x / torch.where(length > 0, length, 1)


@st.composite
def rows(draw: DrawFn, n: int, d: int, shapes: Sequence[str] = SHAPES, which: int = 0) -> Tensor:
    """(n, d) float64 rows of one of the shapes, none of them zero.

    Matrices of one batch differ in ``which``, so that they differ for equal draws too.
    """
    shape = draw(st.sampled_from(list(shapes)))
    # One draw of bytes takes a tenth of the time of n d integers, and shrinks to 0 as well. All
    # shapes draw the same bytes, so that any example can shrink to one on the grid.
    code = draw(st.binary(min_size=n * d, max_size=n * d))
    if shape == "grid":
        # Steps of 0, 1, 2, 3, 4 ... are 0, 0.5, -0.5, 1, -1 ...
        steps = torch.tensor(list(code)).reshape(n, d).double() % 13
        x = ((steps + 1) / 2).floor() * torch.where(steps % 2 == 1, 0.5, -0.5) + 0.0
        x[:, 0] = torch.where((x == 0).all(1), 1, x[:, 0])
        return x
    seed = (int.from_bytes(code[:4], "big") + 7919 * which) % 2**31
    x = normal(seed, n, d)
    if shape == "aligned":
        return normal(seed + 1, 1, d) + 1e-3 * x
    if shape == "duplicate":
        return x[torch.arange(n) // 2]
    if shape == "poles":  # equal and opposite rows
        return x[:1] * (1 - 2 * (torch.arange(n) % 2))[:, None]
    if shape == "tiny":
        return 1e-4 * x
    if shape == "huge":
        return 1e4 * x
    if shape == "one_direction":
        return x[:1] * (1 + x[:, 1 % d :][:, :1].abs())
    arguments.one_of("shapes", shape, GENERIC)
    return x


@st.composite
def paired_embeddings(
    draw: DrawFn,
    *,
    min_size: int = 1,
    max_size: int = 6,
    min_features: int = 1,
    max_features: int = 4,
    shapes: Sequence[str] = SHAPES,
) -> tuple[Tensor, Tensor]:
    """(a, b), both (N, D) float64; some draws have partners that are near, equal or opposite.

    Example:
        >>> from hypothesis import given
        >>> @given(paired_embeddings(max_size=3))
        ... def test(pair):
        ...     assert pair[0].shape == pair[1].shape
        >>> test()
    """
    n = draw(st.integers(min_size, max_size))
    d = draw(st.integers(min_features, max_features))
    a, b = draw(rows(n, d, shapes)), draw(rows(n, d, shapes, 1))
    partners = draw(st.sampled_from(["free", "near", "equal", "opposite"]))
    if partners == "near":
        return a, a + 0.1 * (a.abs().max() / b.abs().max()) * b
    if partners != "free" and "grid" in shapes:
        return a, a.clone() if partners == "equal" else -a
    return a, b


@st.composite
def labelled_embeddings(
    draw: DrawFn,
    *,
    min_size: int = 1,
    max_size: int = 6,
    min_features: int = 1,
    max_features: int = 4,
    classes: int = 3,
    shapes: Sequence[str] = SHAPES,
) -> tuple[Tensor, Tensor]:
    """(z, labels): (N, D) float64 and (N,) int64 from 0 to classes - 1.

    Example:
        >>> from hypothesis import given
        >>> @given(labelled_embeddings(classes=2))
        ... def test(batch):
        ...     assert len(batch[0]) == len(batch[1])
        >>> test()
    """
    n = draw(st.integers(min_size, max_size))
    z = draw(rows(n, draw(st.integers(min_features, max_features)), shapes))
    return z, draw(_label_lists(n, classes))


@st.composite
def modal_batches(
    draw: DrawFn,
    *,
    names: Sequence[str] = MODALITIES,
    min_size: int = 1,
    max_size: int = 5,
    min_features: int = 1,
    max_features: int = 4,
    shapes: Sequence[str] = SHAPES,
) -> dict[str, Tensor]:
    """(N, D) float64 by modality.

    Example:
        >>> from hypothesis import given
        >>> @given(modal_batches(names=("text", "audio")))
        ... def test(features):
        ...     assert list(features) == ["text", "audio"]
        >>> test()
    """
    n = draw(st.integers(min_size, max_size))
    d = draw(st.integers(min_features, max_features))
    return {name: draw(rows(n, d, shapes, k)) for k, name in enumerate(names)}


def temperatures(among: Sequence[float] = TEMPERATURES) -> SearchStrategy[float]:
    """Usual temperatures, from 1 down to CLIP's limit of 0.01.

    Example:
        >>> from hypothesis import given
        >>> @given(temperatures())
        ... def test(temperature):
        ...     assert 0.01 <= temperature <= 1
        >>> test()
    """
    return st.sampled_from(list(among))


@st.composite
def masks(draw: DrawFn, *shape: int) -> Tensor:
    """Bool tensors of a shape, which shrink to all False.

    Example:
        >>> from hypothesis import given
        >>> @given(masks(2, 3))
        ... def test(mask):
        ...     assert mask.shape == (2, 3)
        >>> test()
    """
    size = torch.Size(shape).numel()
    bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return torch.tensor(bits, dtype=torch.bool).reshape(shape)


@st.composite
def _label_lists(draw: DrawFn, n: int, classes: int = 3) -> Tensor:
    """(n,) int64 labels from 0 to classes - 1."""
    found = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    return torch.tensor(found, dtype=torch.int64)


@st.composite
def batches(
    draw: DrawFn, traits: Traits, *, min_size: int = 2, max_size: int = 6, generic: bool = False
) -> Batch:
    """A batch for a loss of these traits; ``generic``: without ties, and two or more features."""
    shapes: Sequence[str] = GENERIC if generic else SHAPES if traits.normalized else RAW
    min_size = max(min_size, traits.smallest)
    size: dict[str, Any] = {
        "min_size": min_size,
        "max_size": max(min_size, max_size),
        "min_features": traits.features or (2 if generic else 1),
        "max_features": traits.features or 4,
        "shapes": shapes,
    }
    batch = draw(_of_kind(traits, size))
    return batch.map(unit_rows) if traits.unit else batch


@st.composite
def _of_kind(draw: DrawFn, traits: Traits, size: dict[str, Any]) -> Batch:
    arguments.one_of("kind", traits.kind, ALL_KINDS)
    if traits.kind in ("paired", "miner", "distance"):
        pair = draw(paired_embeddings(**size))
        return Batch(traits.kind, dict(zip(NAMES[traits.kind], pair, strict=True)))
    if traits.labelled and traits.kind != "multimodal":
        classes = min(3, traits.classes or 3)
        z, labels = draw(labelled_embeddings(classes=classes, **size))
        return Batch(traits.kind, {"z": z}, labels)
    features = draw(modal_batches(names=NAMES[traits.kind], **size))
    n = len(next(iter(features.values())))
    classes = min(2, traits.classes or 2)
    return Batch(traits.kind, features, draw(_label_lists(n, classes)) if traits.labels else None)

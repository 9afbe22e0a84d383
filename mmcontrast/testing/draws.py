"""Hypothesis strategies for what a law needs beside a batch; each is a function of the batch."""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from mmcontrast.testing.batch import Batch
from mmcontrast.testing.strategies import normal, rows, seeds, temperatures

Draw = Callable[[Batch], SearchStrategy[Any]]


def orders(batch: Batch) -> SearchStrategy[list[int]]:
    """Permutations of the samples."""
    return st.permutations(range(len(batch)))


def rotations(batch: Batch) -> SearchStrategy[Tensor]:
    """Orthogonal (D, D) matrices: signed permutations, and generic ones."""
    d = batch.features
    flips = st.permutations(range(d)).map(lambda p: -torch.eye(d, dtype=torch.float64)[list(p)])
    return flips | seeds.map(lambda seed: torch.linalg.qr(normal(seed, d, d))[0])


def row_scales(batch: Batch) -> SearchStrategy[list[float]]:
    """A positive number for each sample."""
    scale = st.sampled_from([1.0, 2.0, 0.5, 3.0, 10.0, 0.01, 100.0])
    return st.lists(scale, min_size=len(batch), max_size=len(batch))


def chosen_name(batch: Batch) -> SearchStrategy[str]:
    """One of the inputs."""
    return st.sampled_from(sorted(batch.rows))


def sample(batch: Batch) -> SearchStrategy[int]:
    """One of the samples."""
    return st.integers(0, len(batch) - 1)


def vectors(batch: Batch) -> SearchStrategy[list[float]]:
    """A vector of D multiples of 0.5."""
    half = st.integers(-6, 6).map(lambda k: k / 2)
    return st.lists(half, min_size=batch.features, max_size=batch.features)


def numbers(batch: Batch) -> SearchStrategy[list[float]]:
    """A number for each sample: multiples of 0.5 of either sign."""
    half = st.integers(-6, 6).map(lambda k: k / 2)
    return st.lists(half, min_size=len(batch), max_size=len(batch))


def more_rows(batch: Batch) -> SearchStrategy[Tensor]:
    """One to three further rows."""
    return st.integers(1, 3).flatmap(lambda n: rows(n, batch.features, ("grid", "gauss"), 9))


def soft_targets(batch: Batch) -> SearchStrategy[list[list[float]]]:
    """(N, N) nonnegative weights, no row all zero."""
    n = len(batch)
    row = st.lists(st.integers(0, 4), min_size=n, max_size=n).map(
        lambda r: [x / 4 for x in (r if any(r) else [1] * n)]
    )
    return st.lists(row, min_size=n, max_size=n)


def presences(batch: Batch) -> SearchStrategy[dict[str, list[bool]]]:
    """A mask of the present samples for each modality."""
    flags = st.lists(st.booleans(), min_size=len(batch), max_size=len(batch))
    return st.fixed_dictionaries(dict.fromkeys(batch.rows, flags))


def any_temperature(batch: Batch) -> SearchStrategy[float]:
    """A temperature, the same for any batch."""
    return temperatures()


def margins(batch: Batch) -> SearchStrategy[tuple[float, float]]:
    """Two margins, the smaller one first."""
    steps = st.integers(0, 8).map(lambda k: k / 4)
    return st.tuples(steps, steps).map(lambda pair: (min(pair), max(pair)))

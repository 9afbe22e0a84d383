"""Sums over samples, of rows and of their products, accumulated in float64.

A sum over thousands of rows in float32 loses digits that the losses need, because positives and
negatives nearly cancel in the gradient. A float64 copy of all rows would cost their memory twice
over. So runs of some rows are added up in the rows' own precision, and the runs in float64.
"""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from mmcontrast.eager import apply_to_several
from mmcontrast.exact import sizes
from mmcontrast.rows import dot


def sum_rows(x: Tensor) -> Tensor:
    """Sums over the samples, (k, M, D) -> (M, D) float64."""
    run = sizes.MOMENTS_RUN
    ends = len(x) // run * run
    runs = x[:ends].view(-1, run, *x.shape[1:]).sum(1)
    return x[ends:].sum(0) + runs.sum(0, dtype=torch.float64)


def sum_weighted_rows(weights: Tensor, x: Tensor) -> Tensor:
    """Weighted sums over samples and modalities, (k, M, P), (k, M, D) -> (P, D) float64.

    The weights of one modality are nearly equal. Their mean is taken off and multiplied by the
    plain sum of the modality's rows, in float64; only the small remainders are left for float32.
    """
    common = weights.detach().sum(0) / max(len(x), 1)  # (M, P)
    sums = dot(common.mT.double(), sum_rows(x).mT)
    run = sizes.MOMENTS_RUN
    ends = len(x) // run * run
    both = weights - common, x
    runs, rows = (rearrange(y[:ends], "(n run) m d -> n (run m) d", run=run) for y in both)
    last, last_rows = (y[ends:].flatten(0, 1) for y in both)
    sums = sums + dot(runs.mT, rows.mT).sum(0, dtype=torch.float64)
    return sums + dot(last.mT, last_rows.mT)


def row_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of rows x and of their outer products x' x, (k, M, D) -> (M, D), (M, D, D) float64."""
    rows, products = apply_to_several(_RowMoments, x)
    return rows, products


class _RowMoments(torch.autograd.Function):
    """One matrix product in the backward pass, where autograd's own rule takes two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        columns = rearrange(x, "k m d -> m d k")
        return sum_rows(x), dot(columns, columns).double()

    @staticmethod
    def backward(ctx: Any, to_sum: Tensor, to_products: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # d/dx of sum(A * x' x) is x (A + A').
        form = (to_products + to_products.mT).to(x.dtype)
        by_modality = dot(rearrange(x, "k m d -> m k d"), form) + to_sum[:, None].to(x.dtype)
        return rearrange(by_modality, "m k d -> k m d")

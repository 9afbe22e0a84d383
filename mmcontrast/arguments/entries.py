"""Checks that read the entries of tensors, where that waits for no device."""

import torch
from torch import Tensor

from mmcontrast.arguments.messages import fail, shape
from mmcontrast.arguments.scalars import below_one
from mmcontrast.arguments.tensors import columns, mask, vector


def labels(name: str, x: Tensor, size: int, *, like: Tensor | None = None) -> Tensor:
    """One class for each sample, (size,), or several, (size, L): see :func:`classes`.

    ``like``: labels with the L to match; (size,) is an L of 1.
    """
    columns(name, x, size, "L")
    if like is not None and like.shape[1:] != x.shape[1:]:
        expected, got = (v.shape[1] if v.ndim == 2 else 1 for v in (like, x))
        if expected != got:
            fail(name, f"{expected} labels a sample, like labels", got)
    return classes(name, x)


def classes(name: str, x: Tensor) -> Tensor:
    """Class labels in a dtype that holds -100 and compares exactly: int64, or whole floats.

    Fractions are scores, each of which would be a class of its own. NaN means unlabelled.
    """
    if x.is_complex():
        fail(name, "classes, whole numbers", x.dtype)
    if not x.is_floating_point():
        return x.long()  # bool and uint8 have no -100, and of uint16 few operations exist
    x = x.float() if x.element_size() == 1 else x  # as of float8
    fractions = x.isfinite() & (x != x.round())
    if _some(fractions):
        first = x[fractions].flatten()[0].item()
        fail(
            name,
            "classes, whole numbers (of scores, sentiment_classes makes classes, close_scores and "
            "score_kernel make positives, and rank_n_contrast is a loss)",
            f"{first:.6g}",
        )
    return x


def weights(name: str, x: Tensor, like: tuple[int, ...], keep: Tensor | None = None) -> None:
    """A bool mask of shape ``like``, or floating weights of at least 0 where ``keep`` is True."""
    mask(name, x, like, weights=True)
    # The smallest of all first: a mask of the negative ones takes ten times as long.
    if x.is_floating_point() and x.numel() > 0 and _some(~(x.amin() >= 0)):
        negative = x < 0 if keep is None else (x < 0) & keep
        if _some(negative):
            fail(name, "weights of at least 0", f"{x[negative].min().item():.6g}")


def chances(name: str, value: float | Tensor, rows: Tensor) -> Tensor | None:
    """(B,) constants in [0, 1) for B rows, from one number or one for each; None for the number 0.

    Values of a tensor are read on the CPU only.
    """
    size = rows.shape[0]
    if not isinstance(value, Tensor):
        below_one(name, value)
        dtype = torch.promote_types(rows.dtype, torch.float32)
        return None if value == 0 else rows.new_full((size,), value, dtype=dtype)
    if value.requires_grad:
        fail(name, "numbers, as no gradient by them is made", "a tensor that requires one")
    if value.ndim:
        vector(name, value, size)
    if not value.is_floating_point():
        fail(name, "a floating dtype", value.dtype)
    outside = ~((value >= 0) & (value < 1))
    if _some(outside):
        fail(name, "numbers in [0, 1)", f"{value[outside].flatten()[0].item():.6g}")
    return value.expand(size)


def targets(name: str, x: Tensor, rows: int, size: int, *, ignore: int) -> Tensor:
    """Integer (rows,) indices below ``size``, or ``ignore``, as int64; values read on the CPU only.

    int64, because in a small dtype ``size`` and what is added to an index can overflow.
    """
    if isinstance(x, Tensor) and x.ndim == 2:
        fail(name, f"shape ({rows},)", f"{shape(x)} (several partners, or shares, are positives=)")
    vector(name, x, rows)
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        fail(name, "integer indices", x.dtype)
    x = x.long()
    outside = ((x < 0) | (x >= size)) & (x != ignore)
    if _some(outside):
        fail(name, f"indices from 0 to {size - 1}, or {ignore} for none", int(x[outside][0]))
    return x


def row_indices(name: str, x: Tensor, size: int, of: str) -> None:
    """int64 indices of ``size`` rows, which ``of`` names in the message. Checked on the CPU."""
    outside = (x < 0) | (x >= size)
    if _some(outside):
        fail(name, f"indices from 0 to {size - 1}, of {of}", int(x[outside][0]))


def _some(condition: Tensor) -> bool:
    """Whether any entry is True, where that can be read: on the CPU, and not under a compiler.

    On other devices, reading would wait for the device.
    """
    if not condition.is_cpu or torch.compiler.is_compiling():
        return False
    try:
        return bool(condition.any())
    except RuntimeError:  # under vmap or a fake tensor mode there are no values to read
        return False

"""Masks of positives and negatives, bool (B, C), from labels."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.advice import SEVERAL_PARTNERS
from mmcontrast.eager import is_eager, known

IGNORE = -100
"""The label that takes no part, as in ``torch.nn.functional.cross_entropy``."""


def labelled(labels: Tensor) -> Tensor:
    """(B,) bool: samples with a label, neither ``-100`` nor NaN in any column.

    Args:
        labels: (B,) or (B, L), any dtype.

    Raises:
        ValueError: on another shape.

    Example:
        >>> labelled(torch.tensor([3, -100, 0]))
        tensor([ True, False,  True])
    """
    labels = _comparable("labels", labels)
    there = labels != IGNORE
    if labels.is_floating_point():
        there = there & (labels == labels)
    return there if labels.ndim == 1 else there.all(-1)


def columns_of(*masks: object) -> int | None:
    """The number of columns of (B, C) masks, by the first that is one; None where none is."""
    each = (m for mask in masks for m in (mask if isinstance(mask, list | tuple) else [mask]))
    return next((m.shape[1] for m in each if isinstance(m, Tensor) and m.ndim == 2), None)


def both(x: Tensor, y: Tensor) -> Tensor:
    """(B, C) bool: pairs of which both are marked, from (B,) and (C,)."""
    return x[:, None] & y[None, :]


def ignoring(labels: Tensor, rows: Tensor) -> Tensor:
    """Labels (B,) or (B, L), -100 outside a (B,) mask of rows."""
    return torch.where(rows if labels.ndim == 1 else rows[:, None], labels, IGNORE)


def same_label(labels: Tensor, others: Tensor | None = None) -> Tensor:
    """(B, C) bool: pairs with equal labels. A label of ``-100`` equals nothing, not even itself.

    The diagonal of ``same_label(labels)`` is True; ``& off_diagonal(B)`` excludes each sample from
    its own positives. For negatives take :func:`different_label`: ``~same_label(labels)`` has the
    unlabelled samples as well.

    Args:
        labels: (B,) class ids of any size and sign, or (B, L) for L labels each: equal in every
            column. Whole numbers in any dtype; NaN means unlabelled, as -100 does.
        others: (C,) or (C, L) labels of the candidates; by default ``labels``.

    Raises:
        ValueError: on other shapes, or labels with fractions (read on the CPU only): those are
            scores, for :func:`close_scores` or :func:`sentiment_classes`.

    Example:
        >>> same_label(torch.tensor([7, 7, -100]))
        tensor([[ True,  True, False],
                [ True,  True, False],
                [False, False, False]])
    """
    return _among_labelled(_equal(labels, others), labels, others)


def different_label(labels: Tensor, others: Tensor | None = None) -> Tensor:
    """(B, C) bool: pairs of labelled samples with different labels; ``-100`` differs from nothing.

    Args:
        labels: (B,) or (B, L), as in :func:`same_label`.
        others: (C,) or (C, L); by default ``labels``.

    Raises:
        ValueError: on other shapes, or labels with fractions.

    Example:
        >>> different_label(torch.tensor([0, 1, -100]))
        tensor([[False,  True, False],
                [ True, False, False],
                [False, False, False]])
    """
    return _among_labelled(~_equal(labels, others), labels, others)


def off_diagonal(n: int, device: torch.device | str | None = None) -> Tensor:
    """(n, n) bool: True except on the diagonal.

    Args:
        n: number of samples.
        device: of the mask.

    Example:
        >>> off_diagonal(2)
        tensor([[False,  True],
                [ True, False]])
    """
    if not isinstance(n, torch.SymInt):  # an int that a compiler traces
        n = arguments.whole("n", n, least=0)
    if device is not None and not isinstance(device, torch.device):
        device = arguments.device(device)
    return ~torch.eye(n, dtype=torch.bool, device=device)


def partner_indices(anchors: Tensor, candidates: Tensor, targets: Tensor | None) -> Tensor:
    """(B,) int64: index of each anchor's positive among the candidates; i for anchor i by default.

    Raises:
        ValueError: on targets of another shape or dtype or beyond the candidates, or fewer
            candidates than anchors where there are no targets.

    Example:
        >>> partner_indices(torch.ones(2, 1), torch.ones(3, 1), None)
        tensor([0, 1])
    """
    return checked_partners(anchors, check_partners(anchors, candidates, targets))


def checked_partners(anchors: Tensor, targets: Tensor | None) -> Tensor:
    """:func:`partner_indices` after :func:`check_partners`, without a second check."""
    return torch.arange(anchors.shape[0], device=anchors.device) if targets is None else targets


def check_partners(
    anchors: Tensor, candidates: Tensor | np.ndarray[Any, Any], targets: Tensor | None
) -> Tensor | None:
    """The targets as int64, after the checks of :func:`partner_indices`; None without any."""
    if targets is not None:
        return arguments.targets(
            "targets", targets, anchors.shape[0], candidates.shape[0], ignore=IGNORE
        )
    if candidates.shape[0] < anchors.shape[0]:
        few = f"{candidates.shape[0]}{SEVERAL_PARTNERS}"
        arguments.fail("candidates", f"at least {anchors.shape[0]} rows, a partner each", few)
    return None


def _among_labelled(pairs: Tensor, labels: Tensor, others: Tensor | None) -> Tensor:
    """(B, C) pairs of labelled samples only; unchanged where all are known to be labelled."""
    x = labelled(labels)
    y = x if others is None else labelled(others)
    if is_eager() and known(x.all()) and (y is x or known(y.all())):
        return pairs
    return pairs & both(x, y)


def _equal(labels: Tensor, others: Tensor | None) -> Tensor:
    """(B, C) bool: equal in every column."""
    x, y = _like_labels(labels, others)
    equal = x[:, None] == y
    return equal if equal.ndim == 2 else equal.all(-1)


def _like_labels(labels: Tensor, others: Tensor | None) -> tuple[Tensor, Tensor]:
    """Labels and others in a form that can be compared; an error if their numbers differ."""
    x = _classes("labels", labels)
    y = x if others is None else _classes("others", others)
    if x.shape[1:] != y.shape[1:]:
        expected, got = (1 if v.ndim == 1 else v.shape[1] for v in (x, y))
        arguments.fail("others", f"{expected} labels a sample, like labels", got)
    return x, y


def _classes(name: str, labels: Tensor) -> Tensor:
    """Labels that are classes, and not scores, in a form that can be compared."""
    return _comparable(name, arguments.classes(name, arguments.tensor(name, labels)))


def _comparable(name: str, labels: Tensor) -> Tensor:
    """(B,) for one label each, (B, L) for more, in a dtype that can hold -100."""
    if arguments.tensor(name, labels).is_complex():
        arguments.fail(name, "classes", labels.dtype)
    if labels.ndim not in (1, 2):
        arguments.fail(name, "shape (B,) or (B, L)", arguments.shape(labels))
    # int64, because bool and uint8 have no -100.
    labels = labels if labels.is_floating_point() else labels.long()
    # One column without its axis: reducing over it would take longer than the comparison.
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels

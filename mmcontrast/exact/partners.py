"""Who is whose positive, and who takes part: one record of masks, weights, classes, functions."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mmcontrast.exact.pair_rules import EVERY_PAIR, PairRules, as_tensors
from mmcontrast.exact.tiles import as_bytes, piece, slices
from mmcontrast.rows import dot
from mmcontrast.softmax import with_finite_bias


class Partners(NamedTuple):
    """Which candidates are an anchor's positives, and which take part at all."""

    positives: Tensor  # (B, C) bool, or floating weights; or (B,) numbers, the anchors' classes
    classes: Tensor | None = None  # (C,) the candidates' classes; None where positives are (B, C)
    keep: Tensor | None = None  # (B, C) bool; None for all
    columns: Tensor | None = None  # (C,) bool, candidates that take part at all; None for all
    own: int | None = None  # the first anchor's index among the candidates; None if they are others
    rules: PairRules = EVERY_PAIR  # functions for the mask, and the bias; their keep is the above

    def positive(self, i: slice) -> Tensor:
        """(R, C) bool: the positives of some rows that take part, as far as tensors say it."""
        positives, others = self.masks(i)
        return positives > 0 if others is None else (positives > 0) & others

    def masks(self, i: slice) -> tuple[Tensor, Tensor | None]:
        """Some rows of the positives or their weights, and of who takes part: (R, C), or None."""
        positives = self.positives[i]
        if self.classes is not None:
            positives = positives[:, None] == self.classes
            positives = positives if positives.ndim == 2 else positives.all(-1)
        others = []  # (R, C) or (C,) masks, all of which a candidate is in
        if self.own is not None:
            columns = torch.arange(positives.shape[1], device=positives.device)
            own = columns[self.own : self.own + self.positives.shape[0]]
            others.append(columns != own[i, None])
        others += [] if self.columns is None else [self.columns.expand_as(positives)]
        others += [] if self.keep is None else [self.keep[i]]
        return positives, functools.reduce(torch.logical_and, others) if others else None

    def weights(
        self, i: slice, room: Tensor, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The positives' weights, 1 unless given and 0 elsewhere, in memory; and ``outside``."""
        found, given = room[: i.stop - i.start], piece(self.positives, i)
        if self.classes is not None:
            torch.eq(given[:, None], self.classes, out=found)
        else:
            found.copy_(as_bytes(given))
        outside = self.outside(i, found, out)
        if outside is None:
            return found, None
        if self.classes is None and given.is_floating_point():
            return found.masked_fill_(outside, 0), outside  # not times 0: they may be NaN there
        return found.mul_(as_bytes(~outside)), outside

    def outside(self, i: slice, like: Tensor, out: Tensor | None) -> Tensor | None:
        """(R, C) bool in new memory, laid out like a tensor: pairs that take no part, if any.

        ``out``: (R, C) bool, those that functions or the bias leave out.
        """
        if all(x is None for x in (self.keep, self.columns, self.own, out)):
            return None
        found = torch.zeros_like(like, dtype=torch.bool)
        if self.keep is not None:
            torch.logical_not(piece(self.keep, i), out=found)
        if self.columns is not None:
            found.logical_or_(~self.columns)
        if self.own is not None:
            found.diagonal(self.own + i.start).fill_(True)
        return found if out is None else found.logical_or_(out)

    def left_out(
        self, i: slice, columns: int, products: Callable[[], Tensor], bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """(R, C) bool, what functions or a bias of minus infinity leave out, and the bias itself.

        Args:
            i: rows.
            columns: number of all columns.
            products: makes (R, C) products in new memory.
            bias: (B, C).
        """
        rules, every = self.rules._replace(keep=None), slice(0, columns)
        tile = rules.tile(i, every, products, functools.partial(self.positive, i))
        kept, added = rules.kept(i, every, tile), rules.bias(bias, i, every, tile, None)
        if added is None:
            return (None if kept is None else ~kept), None
        out = added == -math.inf
        return (out if kept is None else out.logical_or_(~kept)), added

    def resolved(
        self, rows: Tensor, columns: Tensor, bias: Tensor | None
    ) -> tuple["Partners", Tensor | None]:
        """The same with (B, C) tensors instead of functions, for plain paths."""
        rules = self.rules._replace(keep=self.keep)
        every = functools.partial(self.positive, slice(0, rows.shape[0]))
        keep, bias = as_tensors(rules, bias, rows, columns, every)
        return self._replace(keep=keep, rules=EVERY_PAIR), bias

    def room(self, dtype: torch.dtype, columns: int, step: int) -> Tensor:
        """Memory for the (R, C) numbers of a block, laid out like the masks."""
        size = min(step, len(self.positives)), columns
        mask = self.positives if self.classes is None else self.keep
        if mask is not None and mask.stride(0) < mask.stride(1):  # a view of the other direction's
            return self.positives.new_empty(size[::-1], dtype=dtype).mT
        return self.positives.new_empty(size, dtype=dtype)

    def counted(self, dtype: torch.dtype, columns: int, step: int | None) -> Tensor:
        """(B,) bool: anchors with a positive that takes part, its weight being one of a dtype.

        ``step``: anchors at a time; None for all, in operations that compilers trace.
        """
        size = self.positives.shape[0]
        if step is None or 0 in (size, columns):
            positives, keep = self.masks(slice(0, size))
            positives = positives.to(dtype) > 0
            return (positives if keep is None else positives & keep).any(1)
        room = self.room(dtype, columns, step)
        each = [self.weights(i, room)[0].amax(1) for i in slices(size, step)]
        return torch.cat(each) > 0

    def still_counted(
        self, rows: Tensor, columns: Tensor, bias: Tensor | None, step: int | None
    ) -> Tensor | bool:
        """(B,) bool: :meth:`counted` by functions and the bias, of mapped rows and columns."""
        if bias is None and not self.rules.has_functions():
            return True
        if step is None or 0 in (rows.shape[0], columns.shape[0]):
            keep = with_finite_bias(self.keep, bias)
            return self._replace(keep=keep).counted(rows.dtype, columns.shape[0], None)
        room, found = self.room(rows.dtype, columns.shape[0], step), []
        for i in slices(rows.shape[0], step):
            products = functools.partial(dot, rows[i].detach(), columns.detach())
            out, _ = self.left_out(i, columns.shape[0], products, bias)
            found.append(self.weights(i, room, out)[0].amax(1))
        return torch.cat(found) > 0

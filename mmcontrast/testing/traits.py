"""What a loss claims to be: its kind, its invariances, and what it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from mmcontrast import arguments

Loss = Callable[..., Any]
"""Anything that is called with a batch and returns a 0-d tensor, or something with ``.total``."""

KINDS = ("paired", "labelled", "triplet", "multimodal")
FORMS = ("info_nce", "nt_xent", "sup_con")
EMPTY = ("zero", "raise", "either", None)

DTYPES: Mapping[torch.dtype, float | None] = {
    torch.float32: None,
    torch.bfloat16: None,
}


@dataclass(frozen=True)
class Traits:
    """What is declared about a loss: a law is checked where its trait is claimed, never guessed.

    Args:
        kind: ``"paired"``, called with (a, b), both (N, D), whose rows belong together;
            ``"labelled"``, with (z, labels); ``"triplet"``, with (anchors, positives, negatives);
            ``"multimodal"``, with a mapping of name to (N, D).
        symmetric: paired: (b, a) is worth the same; multimodal: so are the modalities in any order.
        normalized: a row times a positive number changes nothing.
        rotation_invariant: the loss depends on dot products of rows only.
        permutation_invariant: the order of the samples changes nothing.
        translation_invariant: one vector added to all rows changes nothing.
        row_shift_invariant: one number added to all features of a row changes nothing.
        relabelling_invariant: only which labels are equal matters.
        nonnegative: never below 0.
        bounds: the smallest and the largest value there can be.
        discriminative: rows beside their partners are worth less than rows beside strangers.
        needs_positive: labelled: a batch in which no two labels are equal is worth 0.
        form: a softmax whose positive stands in the denominator: ``"info_nce"`` (rows against
            columns; both ways where it is symmetric), ``"nt_xent"`` (2 N views, each against the
            2 N - 1 others), or ``"sup_con"`` (each against the N - 1 others, by label).
        temperature: of the loss as it is given, for laws that need the number.
        collapse_value: the loss of N equal rows by N, where no form says it.
        differentiable: the names of the inputs that get a gradient (paired: a, b; labelled: z;
            triplet: a, p, n; multimodal: text, audio, vision); all where None.
        features: the D that it needs, where it does not take any: learned weights, a queue.
        rectangular: paired: b may have more rows than a, further negatives.
        keep: takes ``keep=``, a bool mask: paired (N, C), who is compared with whom.
        positives: paired: takes ``positives=``, (N, C) soft targets.
        labels: multimodal: called with (features, labels).
        present: multimodal: takes ``present=``, a mapping of name to (N,) bool.
        ignore_index: the label that takes no part.
        empty: an empty batch is worth ``"zero"``, or is refused with a ValueError, ``"raise"``, or
            ``"either"``; None where nothing is claimed.
        deterministic: the same batch twice in a row is worth the same.
        smooth: differentiable twice, except on a set of measure zero.
        traceable: ``torch.compile(fullgraph=True)`` takes it.
        functional: ``torch.func.grad`` and ``torch.vmap`` take it.
        stateful: what is given as the loss makes it: a callable without arguments.
        factory: temperature -> loss (triplet: margin -> loss).
        reductions: ``"mean"``, ``"sum"`` or ``"none"`` -> loss.
        chunked: size of a chunk -> loss.
        reference: a slow loss that is right, called with the same batch.
        dtypes: how far from float64 a value may be in each, relative to 1 + value; None: what
            rounding explains at its temperature. float32 and bfloat16 where nothing is said.
        tol: how far apart equal float64 values may be, relative to 1 + value.

    Raises:
        ValueError: on another kind, form or policy, or a trait that its kind does not have.

    Example:
        >>> Traits(kind="paired", symmetric=True).claimed()
        {'symmetric': True}
    """

    kind: str = "paired"
    symmetric: bool = False
    normalized: bool = True
    rotation_invariant: bool = True
    permutation_invariant: bool = True
    translation_invariant: bool = False
    row_shift_invariant: bool = False
    relabelling_invariant: bool = True
    nonnegative: bool = True
    bounds: tuple[float, float] | None = None
    discriminative: bool = True
    needs_positive: bool = True
    form: str | None = None
    temperature: float | None = None
    collapse_value: Callable[[int], float] | None = None
    differentiable: tuple[str, ...] | None = None
    features: int | None = None
    rectangular: bool = False
    keep: bool = False
    positives: bool = False
    labels: bool = False
    present: bool = False
    ignore_index: int | None = None
    empty: str | None = None
    deterministic: bool = True
    smooth: bool = True
    traceable: bool = False
    functional: bool = False
    stateful: bool = False
    factory: Callable[[float], Loss] | None = None
    reductions: Callable[[str], Loss] | None = None
    chunked: Callable[[int], Loss] | None = None
    reference: Loss | None = None
    dtypes: Mapping[torch.dtype, float | None] = field(default_factory=lambda: dict(DTYPES))
    tol: float = 1e-8

    def __post_init__(self) -> None:
        arguments.one_of("kind", self.kind, KINDS)
        arguments.one_of("form", self.form, (*FORMS, None))
        arguments.one_of("empty", self.empty, EMPTY)
        if self.form is not None and (self.form == "sup_con") != (self.kind == "labelled"):
            arguments.fail("form", f"one that a {self.kind} loss can have", repr(self.form))
        if self.form is not None and self.kind not in ("paired", "labelled"):
            arguments.fail("form", f"None for a {self.kind} loss", repr(self.form))
        for name in ("rectangular", "keep", "positives"):
            if getattr(self, name) and self.kind != "paired":
                arguments.fail(name, "False unless the kind is 'paired'", True)
        for name in ("labels", "present"):
            if getattr(self, name) and self.kind != "multimodal":
                arguments.fail(name, "False unless the kind is 'multimodal'", True)
        if self.temperature is not None:
            arguments.positive("temperature", self.temperature)
        if self.features is not None:
            arguments.whole("features", self.features)
        if self.bounds is not None and not self.bounds[0] <= self.bounds[1]:
            arguments.fail("bounds", "the smaller one first", self.bounds)

    def claimed(self) -> dict[str, Any]:
        """The traits that differ from what is assumed where nothing is said."""
        usual = Traits()
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != getattr(usual, f.name)
        }

    @property
    def labelled(self) -> bool:
        """Whether a batch has labels."""
        return self.kind == "labelled" or self.labels

    def tolerance(self, dtype: torch.dtype) -> float:
        """How far apart two values computed in a dtype may be, relative to 1 + value."""
        if dtype == torch.float64:
            return self.tol
        chosen = self.dtypes.get(dtype)
        return rounding(dtype, self.temperature) if chosen is None else chosen


def rounding(dtype: torch.dtype, temperature: float | None) -> float:
    """What a dtype's rounding explains: a logit is off by 1 / temperature times a cosine's.

    Where the temperature is not known, the usual 0.07 is taken.
    """
    return 8 * torch.finfo(dtype).eps * (1 + 1 / (0.07 if temperature is None else temperature))

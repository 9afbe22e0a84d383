"""The declared properties of what is checked: its kind, its invariances, and its arguments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from mmcontrast import arguments

Loss = Callable[..., Any]
"""Anything that is called with a batch and returns a 0-d tensor, or something with ``.total``."""

KINDS = ("paired", "labelled", "triplet", "multimodal")
"""Of losses."""

MINERS = ("miner", "labelled_miner")
DISTANCE = "distance"
NOUNS = {**dict.fromkeys(MINERS, "miner"), DISTANCE: "distance"}
"""What is checked, by its kind; a loss where the kind is another one."""

ALL_KINDS = (*KINDS, *NOUNS)
MINED = ("positives", "negatives")
FORMS = ("info_nce", "nt_xent", "sup_con")
EMPTY = ("zero", "raise", "either", None)

DTYPES: Mapping[torch.dtype, float | None] = {
    torch.float32: None,
    torch.bfloat16: None,
}


@dataclass(frozen=True)
class Traits:
    """The declared properties of a loss, a miner or a distance: a law is checked if they claim it.

    Args:
        kind: ``"paired"``, called with (a, b), both (N, D), whose rows belong together;
            ``"labelled"``, with (z, labels); ``"triplet"``, with (anchors, positives, negatives);
            ``"multimodal"``, with a mapping of name to (N, D). Not of losses: ``"miner"`` and
            ``"labelled_miner"``, see :func:`check_miner`; ``"distance"``, see
            :func:`check_distance`, whose defaults are others.
        symmetric: exchanging a and b (paired) or reordering the modalities changes nothing.
        normalized: a row times a positive number changes nothing.
        rotation_invariant: the loss depends on dot products of rows only.
        permutation_invariant: the order of the samples changes nothing.
        translation_invariant: one vector added to all rows changes nothing.
        row_shift_invariant: one number added to all features of a row changes nothing.
        relabelling_invariant: only which labels are equal matters.
        nonnegative: never below 0.
        bounds: the smallest and the largest possible value.
        discriminative: the loss is lower where rows face their partners than other rows.
        needs_positive: labelled: the loss is 0 where no two labels are equal.
        form: a softmax with the positive in the denominator: ``"info_nce"`` (rows against
            columns; both ways where it is symmetric), ``"nt_xent"`` (2 N views, each against the
            2 N - 1 others), or ``"sup_con"`` (each against the N - 1 others, by label).
        temperature: the temperature of the loss, for laws that need the number.
        decoupled: paired: the positive is not in the denominator (DCL, arXiv:2110.06848), so that
            the loss is linear in its logit; then ``nonnegative`` and ``form`` do not hold.
        collapse_value: the loss of N equal rows as a function of N, where ``form`` is None.
        differentiable: the names of the inputs that get a gradient (paired: a, b; labelled: z;
            triplet: a, p, n; multimodal: text, audio, vision); all where None.
        features: the only D that it takes (learned weights, a queue); None for any.
        unit: takes rows of length one only; the examples have no others.
        smallest: the smallest number of samples that it takes, 1 or 2 (a variance over the batch,
            or a denominator of negatives alone, needs two).
        classes: labelled: the number of classes that it has parameters for, as proxies or the
            weights of a classifier; labels are then indices from 0 to classes - 1, in int64.
        rectangular: paired: b may have more rows than a, further negatives.
        keep: paired: takes ``keep=``, a bool (N, C) mask of the pairs that take part.
        positives: paired: takes ``positives=``, (N, C) soft targets.
        labels: multimodal: called with (features, labels).
        present: multimodal: takes ``present=``, a mapping of name to (N,) bool.
        ignore_index: the label of samples that are ignored.
        empty: for an empty batch, ``"zero"``: the loss is 0; ``"raise"``: it raises ValueError;
            ``"either"`` of the two; None claims nothing.
        deterministic: two calls with the same batch give the same loss.
        smooth: differentiable twice, except on a set of measure zero.
        traceable: works under ``torch.compile(fullgraph=True)``.
        functional: works under ``torch.func.grad`` and ``torch.vmap``.
        stateful: the loss is given as a callable without arguments that makes it.
        factory: temperature -> loss (triplet: margin -> loss; miners: k, how many negatives, ->
            miner).
        reductions: ``"mean"``, ``"sum"`` or ``"none"`` -> loss.
        chunked: chunk size -> loss.
        pairwise: multimodal: the loss of (a, b) that it is where there are two modalities.
        reference: a trusted, slow implementation, called with the same batch.
        hardest: miners: of what it takes the hardest there are: the farthest ``"positives"``, the
            closest ``"negatives"``, both, or neither, as a random or a semi-hard miner.
        distance: miners: a distance (..., D), (..., D) -> (...) that says what is hard; the cosine
            distance where None.
        count: miners: how many negatives an anchor gets that has M of them: M -> number.
        metric: distance: it obeys the triangle inequality, and is 0 for equal rows only.
        degree: distance: both rows times c multiply it by abs(c) to this power.
        matrix: distance: called with (N, D), (M, D), it returns all (N, M) distances.
        dtypes: by dtype, how far the value may be from that in float64, relative to 1 + value;
            None: the rounding error expected at its temperature. Default: float32 and bfloat16.
        tol: how far apart equal float64 values may be, relative to 1 + value.

    Raises:
        ValueError: on an unknown kind, form or ``empty``, or a trait that its kind does not have.

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
    decoupled: bool = False
    collapse_value: Callable[[int], float] | None = None
    differentiable: tuple[str, ...] | None = None
    features: int | None = None
    unit: bool = False
    smallest: int = 1
    classes: int | None = None
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
    pairwise: Loss | None = None
    reference: Loss | None = None
    hardest: tuple[str, ...] = MINED
    distance: Loss | None = None
    count: Callable[[int], int] | None = None
    metric: bool = False
    degree: float | None = None
    matrix: bool = False
    dtypes: Mapping[torch.dtype, float | None] = field(default_factory=lambda: dict(DTYPES))
    tol: float = 1e-8

    def __post_init__(self) -> None:
        arguments.one_of("kind", self.kind, ALL_KINDS)
        arguments.one_of("form", self.form, (*FORMS, None))
        arguments.one_of("empty", self.empty, EMPTY)
        if self.form is not None and (self.form == "sup_con") != (self.kind == "labelled"):
            arguments.fail("form", f"one that a {self.kind} loss can have", repr(self.form))
        if self.form is not None and self.decoupled:
            arguments.fail("form", "None for a decoupled loss", repr(self.form))
        if self.form is not None and self.kind not in ("paired", "labelled"):
            arguments.fail("form", f"None for a {self.kind} loss", repr(self.form))
        for name in ("decoupled", "rectangular", "keep", "positives"):
            if getattr(self, name) and self.kind != "paired":
                arguments.fail(name, "False unless the kind is 'paired'", True)
        for name in ("labels", "present"):
            if getattr(self, name) and self.kind != "multimodal":
                arguments.fail(name, "False unless the kind is 'multimodal'", True)
        if self.pairwise is not None and (self.kind != "multimodal" or self.labels):
            expected = "None unless the kind is 'multimodal', without labels"
            arguments.fail("pairwise", expected, arguments.shown(self.pairwise))
        for name in ("reference", "bounds", "degree"):
            if getattr(self, name) is not None and self.kind in MINERS:
                arguments.fail(name, "None for a miner", arguments.shown(getattr(self, name)))
        for name in self.hardest:
            arguments.one_of("hardest", name, MINED)
        for name in ("metric", "matrix"):
            if getattr(self, name) and self.kind != DISTANCE:
                arguments.fail(name, "False unless the kind is 'distance'", True)
        if self.temperature is not None:
            arguments.positive("temperature", self.temperature)
        if self.features is not None:
            arguments.whole("features", self.features)
        arguments.one_of("smallest", self.smallest, (1, 2))
        if self.classes is not None:
            arguments.whole("classes", self.classes)
            if not self.labelled or self.form is not None:
                arguments.fail("classes", "None without labels, or with a form", self.classes)
        if self.bounds is not None and not self.bounds[0] <= self.bounds[1]:
            arguments.fail("bounds", "the smaller one first", self.bounds)

    def claimed(self) -> dict[str, Any]:
        """The traits that differ from their defaults."""
        usual = Traits()
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != getattr(usual, f.name)
        }

    @property
    def labelled(self) -> bool:
        """Whether a batch has labels."""
        return self.kind in ("labelled", "labelled_miner") or self.labels

    @property
    def noun(self) -> str:
        """What is checked: a loss, a miner or a distance."""
        return NOUNS.get(self.kind, "loss")

    def tolerance(self, dtype: torch.dtype) -> float:
        """How far apart two values computed in a dtype may be, relative to 1 + value."""
        if dtype == torch.float64:
            return self.tol
        chosen = self.dtypes.get(dtype)
        # A distance is not divided by a temperature.
        temperature = 1.0 if self.kind == DISTANCE else self.temperature
        return rounding(dtype, temperature) if chosen is None else chosen


def rounding(dtype: torch.dtype, temperature: float | None) -> float:
    """The expected rounding error of a loss: that of a cosine, divided by the temperature.

    An unknown temperature is assumed to be 0.07.
    """
    return 8 * torch.finfo(dtype).eps * (1 + 1 / (0.07 if temperature is None else temperature))


USUAL: Mapping[str, Mapping[str, Any]] = {
    DISTANCE: {"symmetric": True, "normalized": False, "rotation_invariant": False, "metric": True}
}
"""By kind, the defaults that are others than those of losses."""


def as_traits(traits: Traits | Mapping[str, Any] | None) -> Traits:
    """Traits, made from a mapping of their names where one is given, with what its kind claims.

    Example:
        >>> as_traits({"kind": "distance"}).metric
        True
    """
    if isinstance(traits, Traits):
        return traits
    stated = dict(traits or {})
    for name in stated:
        arguments.one_of("traits", name, [f.name for f in fields(Traits)])
    kind = stated.get("kind")
    usual = USUAL.get(kind, {}) if isinstance(kind, str) else {}
    return Traits(**{**usual, **stated})

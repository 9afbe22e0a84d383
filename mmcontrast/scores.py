"""Masks, weights and classes from real-valued scores: a regression's positives and negatives."""

import math

import torch
from torch import Tensor

from mmcontrast import arguments
from mmcontrast.masks import IGNORE, both, labelled
from mmcontrast.rows import upcast

SHAPES = ("gaussian", "laplacian", "triangular")
ROUNDINGS = 8
"""How many roundings at full precision a score may have gone through before it came here."""


def close_scores(scores: Tensor, others: Tensor | None = None, *, tolerance: float) -> Tensor:
    """(B, C) bool: pairs with scores at most ``tolerance`` apart: positives for a regression.

    The edge is included to the precision of the scores: 1.2 and 1.0 are close at a tolerance of
    0.2, although their difference in float32 is a little more. A tolerance of 0 means equal.

    Args:
        scores: (B,) real-valued labels; NaN and ``-100`` are close to nothing.
        others: (C,); by default ``scores``.
        tolerance: the largest difference, in the unit of the scores, at least 0.

    Raises:
        ValueError: on other shapes, or a negative tolerance.

    Example:
        >>> close_scores(torch.tensor([-1.0, 0.0, 0.2]), tolerance=0.5)
        tensor([[ True, False, False],
                [False,  True,  True],
                [False,  True,  True]])
    """
    x, y, scored = _scores(scores, others)
    return _at_most(x, y, _tolerance(tolerance)) & scored


def far_scores(scores: Tensor, others: Tensor | None = None, *, tolerance: float) -> Tensor:
    """(B, C) bool: pairs with scores more than ``tolerance`` apart: negatives for a regression.

    They stand beside :func:`close_scores` as positives, but are not its negation: that would make a
    sample whose score is NaN or ``-100`` a negative of every sample.

    Args:
        scores: (B,) real-valued labels; NaN and ``-100`` are far from nothing.
        others: (C,); by default ``scores``.
        tolerance: the largest difference of close scores, at least 0.

    Raises:
        ValueError: on other shapes, or a negative tolerance.

    Example:
        >>> far_scores(torch.tensor([-1.0, 0.0, float("nan")]), tolerance=0.5)
        tensor([[False,  True, False],
                [ True, False, False],
                [False, False, False]])
    """
    x, y, scored = _scores(scores, others)
    return ~_at_most(x, y, _tolerance(tolerance)) & scored


def same_sign(scores: Tensor, others: Tensor | None = None) -> Tensor:
    """(B, C) bool: pairs with scores of the same sign; zero is a sign of its own.

    The negatives beside it are ``different_label(sentiment_classes(scores, neutral="own"))``; its
    negation would count NaN and ``-100`` among them.

    Args:
        scores: (B,) real-valued labels; NaN and ``-100`` share a sign with nothing.
        others: (C,); by default ``scores``.

    Raises:
        ValueError: on other shapes.

    Example:
        >>> same_sign(torch.tensor([-1.5, -0.2, 0.0]))
        tensor([[ True,  True, False],
                [ True,  True, False],
                [False, False,  True]])
    """
    x, y, scored = _scores(scores, others)
    return (x.sign()[:, None] == y.sign()) & scored


def score_kernel(
    scores: Tensor, others: Tensor | None = None, *, bandwidth: float, shape: str = "gaussian"
) -> Tensor:
    r"""(B, C) weights in [0, 1] by how close two scores are: soft positives for a regression.

    .. math:: \exp\Big(-\frac{(y_i - y_j)^2}{2 h^2}\Big), \qquad
              \exp\Big(-\frac{|y_i - y_j|}{h}\Big), \qquad
              \max\Big(0,\; 1 - \frac{|y_i - y_j|}{h}\Big)

    Usable wherever ``positives`` may be floating: :func:`info_nce`, :func:`sup_con` and, with
    :func:`score_distance` as negatives, HyCon's losses.

    Args:
        scores: (B,) real-valued labels; NaN and ``-100`` have weight 0 with all.
        others: (C,); by default ``scores``, each with weight 1 to itself.
        bandwidth: h > 0, in the unit of the scores.
        shape: ``"gaussian"``, ``"laplacian"`` or ``"triangular"``, in the order above.

    Returns:
        (B, C) float32, or float64 for float64 scores.

    Raises:
        ValueError: on other shapes, another word for shape, or a bandwidth that is not positive.

    Example:
        >>> score_kernel(torch.tensor([0.0, 1.0]), bandwidth=2.0, shape="triangular")
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """
    decay, scored = _decay(scores, others, bandwidth, shape)
    return torch.where(scored, 1 - decay if shape == "triangular" else (-decay).exp(), 0)


def score_distance(
    scores: Tensor, others: Tensor | None = None, *, bandwidth: float, shape: str = "gaussian"
) -> Tensor:
    """(B, C) weights in [0, 1] by how far apart two scores are: 1 minus :func:`score_kernel`.

    The soft negatives beside it. ``1 - score_kernel(...)`` would make a sample whose score is NaN
    or ``-100`` a full negative of every sample; here it has weight 0 with all, as in the kernel.

    Args:
        scores: (B,) real-valued labels; NaN and ``-100`` have weight 0 with all.
        others: (C,); by default ``scores``, each with weight 0 to itself.
        bandwidth, shape: as in :func:`score_kernel`.

    Returns:
        (B, C) float32, or float64 for float64 scores.

    Raises:
        ValueError: as :func:`score_kernel`.

    Example:
        >>> score_distance(torch.tensor([0.0, 1.0, torch.nan]), bandwidth=2.0, shape="triangular")
        tensor([[0.0000, 0.5000, 0.0000],
                [0.5000, 0.0000, 0.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    decay, scored = _decay(scores, others, bandwidth, shape)
    return torch.where(scored, decay if shape == "triangular" else -(-decay).expm1(), 0)


def sentiment_classes(scores: Tensor, *, neutral: str = "positive") -> Tensor:
    """Sentiment scores as class ids, 0 negative and 1 positive; a score of 0 is ``neutral``.

    HyCon contrasts positive with negative samples and leaves the class of a score of 0 open; the
    data code that it builds on counts 0 as positive.

    Args:
        scores: (B,) real-valued sentiment, negative below 0; NaN and ``-100`` become
            ``-100``.
        neutral: class of a score of exactly 0: ``"positive"``, ``"negative"``, ``"own"`` (a third
            class, 2) or ``"ignore"`` (``-100``, takes no part).

    Returns:
        (B,) int64.

    Raises:
        ValueError: on another shape or another word for ``neutral``.

    Example:
        >>> sentiment_classes(torch.tensor([-1.2, 0.0, 2.0]), neutral="own")
        tensor([0, 2, 1])

    References: HyCon, IEEE TAFFC 14(3), section 4.4.
    """
    classes = {"positive": 1, "negative": 0, "own": 2, "ignore": IGNORE}
    arguments.one_of("neutral", neutral, classes)
    scores = _vector("scores", scores)
    signed = torch.where(scores == 0, classes[neutral], (scores > 0).long())
    return torch.where(labelled(scores), signed, IGNORE)


def _tolerance(value: float) -> float:
    """A number of at least 0; infinity too, at which all are close."""
    if isinstance(value, float) and value == math.inf:
        return value
    if not arguments.is_number(value) or not value >= 0:
        arguments.fail("tolerance", "a number of at least 0", arguments.shown(value))
    return value


def _scores(scores: Tensor, others: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The scores and the others, checked, and the (B, C) pairs in which both have one."""
    x = _vector("scores", scores)
    y = x if others is None else _vector("others", others)
    there, others_there = labelled(x), labelled(y)
    # Without a score it is 0, so that NaN does not reach the others' gradients.
    x, y = torch.where(there, x, 0), torch.where(others_there, y, 0)
    return x, y, both(there, others_there)


def _vector(name: str, x: Tensor) -> Tensor:
    """(B,) floating or int64, because differences of small integers overflow."""
    arguments.vector(name, x, arguments.tensor(name, x).numel())
    return x if x.is_floating_point() else x.long()


def _gap(x: Tensor, y: Tensor) -> Tensor:
    """(B, C) absolute differences, at full precision; of integers exact, of equal infinities 0."""
    if x.is_floating_point() or y.is_floating_point():
        x, y = upcast(x), upcast(y)
    return upcast(torch.where(x[:, None] == y, 0, (x[:, None] - y).abs()))


def _at_most(x: Tensor, y: Tensor, tolerance: float) -> Tensor:
    """(B, C) bool: scores up to ``tolerance`` apart."""
    gap = _gap(x, y)
    return gap <= tolerance + _slack(x, y, gap, tolerance)


def _slack(x: Tensor, y: Tensor, gap: Tensor, edge: float) -> Tensor:
    """By how much a (B, C) gap may be off an edge that it is meant to be at, in its precision.

    Scores were rounded to their dtype, and at full precision in each step that made them. Never
    more than half the edge: so a coarse dtype does not let in what is clearly farther, and at an
    edge of 0 only what is equal.
    """
    full = ROUNDINGS * torch.finfo(gap.dtype).eps
    slack = gap.new_full((1, 1), full * edge)
    if x.is_floating_point() or y.is_floating_point():
        a, b = (upcast(z).abs() * (_rounding(z) + full) for z in (x, y))
        slack = slack + a[:, None] + b
    return slack.clamp_max(edge / 2)


def _rounding(x: Tensor) -> float:
    """The largest relative error of rounding to a tensor's dtype; 0 for integers."""
    return torch.finfo(x.dtype).eps / 2 if x.is_floating_point() else 0.0


def _decay(
    scores: Tensor, others: Tensor | None, bandwidth: float, shape: str
) -> tuple[Tensor, Tensor]:
    """Of :func:`score_kernel`: minus its exponent, or 1 minus it where it is triangular.

    And the (B, C) pairs in which both have a score.
    """
    arguments.positive("bandwidth", bandwidth)
    arguments.one_of("shape", shape, SHAPES)
    x, y, scored = _scores(scores, others)
    gap = _gap(x, y)
    decay = gap / bandwidth
    if shape == "gaussian":
        return decay.square() / 2, scored
    if shape == "laplacian":
        return decay, scored
    # From the bandwidth on the weight is 0, and the pair no positive. Rounding at this edge would
    # leave a weight of 1e-7, and a positive.
    beyond = gap >= bandwidth - _slack(x, y, gap, bandwidth)
    return torch.where(beyond, 1, decay.clamp_max(1)), scored

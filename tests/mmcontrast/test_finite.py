"""Finite inputs give finite values and gradients in float32, in every public function.

A sweep over numbers of all sizes, against the same call in float64: what that gives is found as
far as a float32 holds it, and never NaN. Where a float32 does not hold it:

* a value beyond the largest float32 is that number (a total of several such terms is infinite);
* a gradient beyond it is that number or infinite, but for rows with no entry above 2^-110, whose
  direction's gradient grows no further (:func:`l2_normalize`);
* the mean of values of which some are beyond it is the mean of what these became.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import mmcontrast as mm
from tests.examples import as_many
from tests.mmcontrast import public_cases
from tests.mmcontrast.public_cases import CASES, Make, mapped, results, value_and_gradients
from tests.mmcontrast.strategies import gradients

MOST = torch.finfo(torch.float32).max

SCALES = (1e-45, 1e-40, 1e-30, 1e-20, 1e-6, 1.0, 1e4, 1e15, 1e19, 1e20, 1e30, 3e38)


def with_one(x, value):
    return x.flatten().index_fill(0, torch.tensor(1), value).view(x.shape)


def alternating(x):
    """The first row and its opposite in turn."""
    signs = 1.0 - 2 * (torch.arange(len(x)) % 2)
    return x[:1] * signs.view(-1, *[1] * (x.ndim - 1))


KINDS = {
    **{f"times {scale:g}": lambda x, scale=scale: x * scale for scale in SCALES},
    "zero": lambda x: x * 0,
    "largest": lambda x: torch.where(x < 0, -MOST, MOST),
    "all the largest": lambda x: torch.full_like(x, MOST),
    "equal": lambda x: x[:1].expand_as(x),
    "equal and large": lambda x: 1e20 * x[:1].expand_as(x),
    "opposite": alternating,
    "opposite and large": lambda x: 1e38 * alternating(x).sign(),
    "one huge entry": lambda x: with_one(x, 3e38),
    "one large entry": lambda x: with_one(x, 1e5),
    "all sizes": lambda x: x.sign() * 10 ** (x.abs() * 997 % 1 * 83 - 45),
    "rows of all sizes": lambda x: (
        x * 10 ** torch.linspace(-40, 37, len(x)).view(-1, *[1] * (x.ndim - 1))
    ),
    "one-hot": lambda x: 200 * F.one_hot(x.abs().argmax(-1), x.shape[-1]).double(),
    "far below zero": lambda x: -100 - 4 * x.abs(),
}
WORST = ("times 1e-45", "times 1e+20", "largest", "all sizes", "rows of all sizes", "one-hot")

OF_SCORES = ("close_scores", "far_scores", "score_kernel", "score_distance", "same_sign")
AT_LEAST_ZERO = ("ratio_contrast", "select_pairs", "hardness_weights", "extreme", "info_nce:soft")


def drawn(name, kind, seed):
    """Float32 inputs of a case; sample weights stay ordinary, but scores do not."""

    def moved(x):
        if not x.is_floating_point() or (x.ndim == 1 and not name.startswith(OF_SCORES)):
            return x.float() if x.is_floating_point() else x
        x = KINDS[kind](x).clamp(-MOST, MOST).float()
        return x.abs() if name.startswith(AT_LEAST_ZERO) else x

    return mapped(moved, CASES[name].inputs(Make(seed=seed)))


def values_and_slopes(name, inputs):
    if not CASES[name].differentiable:
        return results(name, inputs), []
    with torch.no_grad():
        values = results(name, inputs)
    return values, value_and_gradients(name, inputs)[1]


def is_held(found, exact):
    """Finite where a float32 holds the exact number, and nowhere NaN."""
    for x, y in zip(found, exact, strict=True):
        if x.is_floating_point():
            assert not x.isnan().any()
            assert x.isfinite()[y.abs() <= MOST].all()


def check(name, kind, seed=0):
    inputs = drawn(name, kind, seed)
    wide = mapped(lambda x: x.double() if x.is_floating_point() else x, inputs)
    values, slopes = values_and_slopes(name, inputs)
    exact_values, exact_slopes = values_and_slopes(name, wide)
    is_held(values, exact_values)
    is_held(slopes, exact_slopes)
    return values, slopes, exact_values, exact_slopes


@pytest.mark.parametrize("name", CASES)
def test_the_worst_inputs(name):
    for kind in WORST:
        check(name, kind)


@settings(max_examples=as_many(100))
@given(
    name=st.sampled_from(list(CASES)), kind=st.sampled_from(list(KINDS)), seed=st.integers(0, 99)
)
def test_inputs_of_all_sizes(name, kind, seed):
    check(name, kind, seed)


# Discrete choices: pairs, neighbours and classes tie in float32 and do not in float64.
CHOICES = ("HybridContrast", ":selection", "hybrid_contrast:present", "hard_", "select_", "extreme")


@pytest.mark.parametrize("name", [name for name in CASES if not any(c in name for c in CHOICES)])
def test_values_are_those_of_float64(name):
    for scale in (1e-30, 1e-20, 1e4, 1e15):
        values, slopes, exact_values, exact_slopes = check(name, f"times {scale:g}")
        for x, y in zip(values, exact_values, strict=True):
            torch.testing.assert_close(x, y.to(x.dtype), rtol=1e-4, atol=1e-5)
        for x, y in zip(slopes, exact_slopes, strict=True):
            allowed = 1e-3 * y.abs().amax() + 1e-5 / scale
            assert ((x.double() - y).abs() <= allowed).all(), scale


LOSSES = {
    "info_nce": mm.info_nce,
    "info_nce in blocks": lambda x, y, **options: mm.info_nce(x, y, chunk_size=2, **options),
    "symmetric_info_nce": mm.symmetric_info_nce,
    "matched_pair_nce": mm.matched_pair_nce,
    "sigmoid_contrast": mm.sigmoid_contrast,
    "sup_con": lambda x, y, **options: mm.sup_con(
        torch.cat([x, y]), torch.arange(12) % 6, **options
    ),
    "kl_distill": lambda x, y, **options: mm.kl_distill(x, y.detach(), **options),
    "kl_distill of the student": lambda x, y, **options: mm.kl_distill(
        x, y.detach(), direction="student_teacher", **options
    ),
    "rank_n_contrast": lambda x, y, **options: mm.rank_n_contrast(
        x, y[:, 0].detach().tanh(), **options
    ),
}


NOT_NORMALISED = ("kl_distill", "kl_distill of the student", "rank_n_contrast")


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize(
    ("name", "raw"),
    [(x, raw) for x in LOSSES for raw in (False, True) if not raw or x not in NOT_NORMALISED],
)
def test_low_and_high_temperatures(name, temperature, raw):
    options = {"temperature": temperature, **({"normalize": None} if raw else {})}
    make = Make()
    for kind in KINDS:
        x, y = (KINDS[kind](make.rows(k)).clamp(-MOST, MOST).float() for k in (1, 2))
        value, slopes = gradients(lambda x, y: LOSSES[name](x, y, **options), x, y)
        wide, exact = gradients(lambda x, y: LOSSES[name](x, y, **options), x.double(), y.double())
        is_held([value, *slopes], [wide, *exact])


LIMITS = [
    (dtype, size)
    for dtype in (torch.float16, torch.bfloat16)
    for size in (torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal)
]


@pytest.mark.parametrize(
    "name", [name for name in public_cases.HALVES if CASES[name].differentiable]
)
def test_the_largest_and_smallest_numbers_in_low_precision(name):
    for dtype, size in LIMITS:

        def moved(x, dtype=dtype, size=size):
            if not x.is_floating_point():
                return x
            x = x if x.ndim == 1 and not name.startswith(OF_SCORES) else x.sign() * size
            return (x.abs() if name.startswith(AT_LEAST_ZERO) else x).to(dtype)

        for x in values_and_slopes(name, mapped(moved, CASES[name].inputs(Make())))[0]:
            assert not x.isnan().any()

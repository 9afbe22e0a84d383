"""Symmetric InfoNCE against float64 loops, and its laws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.infonce_inputs import (
    of_logits,
    options_for,
    reductions,
    same_in_chunks,
    symmetric_of_logits,
)
from tests.mmcontrast.strategies import close, gradients, normal, numpy, pairs, seeds, temperatures


@given(
    pair=pairs(square=True),
    seed=seeds,
    reduction=reductions,
    temperature=temperatures,
    target=st.sampled_from(["none", "bool positives", "soft positives"]),
    others=st.sets(st.sampled_from(["keep", "weight"])),
)
def test_symmetric_info_nce_agrees_with_the_oracle(
    pair, seed, reduction, temperature, target, others
):
    options = options_for({target, *others}, seed, len(pair[0]), len(pair[0]))
    expected = oracles.symmetric_info_nce(
        *map(numpy, pair), temperature=temperature, reduction=reduction, **numpy(options)
    )
    actual = mm.symmetric_info_nce(*pair, temperature=temperature, reduction=reduction, **options)
    close(actual, expected, rtol=1e-9)


@given(
    pair=pairs(),
    seed=seeds,
    reduction=st.sampled_from(["mean", "sum"]),
    temperature=temperatures,
    target=st.sampled_from(["bool positives", "soft positives"]),
    kept=st.booleans(),
    chunk_size=st.sampled_from([None, 1, 3]),
)
def test_sides_of_different_size(pair, seed, reduction, temperature, target, kept, chunk_size):
    """Any number of partners: by the oracle, and the mean of both directions of InfoNCE."""
    x, y = pair
    settings = {"temperature": temperature, "reduction": reduction}
    options = options_for({target, "keep"} if kept else {target}, seed, len(x), len(y))
    found = mm.symmetric_info_nce(x, y, chunk_size=chunk_size, **options, **settings)
    close(found, oracles.symmetric_info_nce(numpy(x), numpy(y), **settings, **numpy(options)))
    back = {name: mask.mT for name, mask in options.items()}
    there, again = mm.info_nce(x, y, **options, **settings), mm.info_nce(y, x, **back, **settings)
    close(found, (there + again) / 2)
    close(found, mm.symmetric_info_nce(y, x, **back, **settings))


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("variant", [{"decoupled": True}, {"prior": 0.1}, {"bias": None}])
def test_sides_of_different_size_in_the_variants(variant, chunk_size):
    x, y, p = normal(1, 3, 4), normal(2, 5, 4), normal(3, 3, 5) > -0.3
    if "bias" in variant:
        variant = {"bias": normal(4, 3, 5)}
    back = {name: z.mT if name == "bias" else z for name, z in variant.items()}
    found = mm.symmetric_info_nce(x, y, positives=p, chunk_size=chunk_size, **variant)
    there, again = (
        mm.info_nce(x, y, positives=p, **variant),
        mm.info_nce(y, x, positives=p.T, **back),
    )
    close(found, (there + again) / 2)


@pytest.mark.parametrize(
    ("masks", "chunk_size"), [(["bool positives"], 2), (["soft positives", "keep"], None)]
)
def test_sides_of_different_size_pass_gradcheck(masks, chunk_size):
    x, y, t = normal(1, 3, 2), normal(2, 5, 2), torch.tensor(0.4, dtype=torch.float64)
    options = options_for(masks, 3, 3, 5)

    def call(x, y, t):
        return mm.symmetric_info_nce(x, y, temperature=t, chunk_size=chunk_size, **options)

    leaves = [z.requires_grad_() for z in (x, y, t)]
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


@given(pair=pairs(square=True), seed=seeds, temperature=temperatures)
def test_captions_that_are_copies_are_one_caption_where_they_are_negatives(pair, seed, temperature):
    """K captions of each image, all alike: as one caption each, with log K more negatives."""
    x, y = pair
    k, n = 3, len(x)
    ids = torch.arange(n)
    positives = mm.same_label(ids, ids.repeat(k))
    found = mm.symmetric_info_nce(x, y.repeat(k, 1), positives=positives, temperature=temperature)
    one = mm.info_nce(x, y, temperature=temperature), mm.info_nce(y, x, temperature=temperature)
    close(found, (one[0] + math.log(k) + one[1]) / 2)


def test_a_row_without_partner_is_a_negative_alone():
    x, y = normal(1, 3, 4), normal(2, 5, 4)
    positives = torch.eye(3, 5).bool()
    there = mm.info_nce(x, y)
    back = mm.info_nce(y[:3], x)
    close(mm.symmetric_info_nce(x, y, positives=positives), (there + back) / 2)


def test_folk_law_refuted_a_row_shift_moves_the_symmetric_loss():
    logits = normal(3, 4, 4)
    shift = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert abs(symmetric_of_logits(logits) - symmetric_of_logits(logits + shift)) > 1e-3


@given(pair=pairs(square=True), temperature=temperatures)
def test_law_10_symmetry(pair, temperature):
    x, y = pair
    close(
        mm.symmetric_info_nce(x, y, temperature=temperature),
        mm.symmetric_info_nce(y, x, temperature=temperature),
    )
    logits = normal(len(x), len(x), len(x))
    halves = (of_logits(logits) + of_logits(logits.T)) / 2
    close(symmetric_of_logits(logits), halves)


@given(pair=pairs(square=True), seed=seeds, size=st.integers(1, 7), reduction=reductions)
def test_law_19_chunks_of_the_symmetric_loss(pair, seed, size, reduction):
    n = len(pair[0])
    options = options_for(["bool positives", "keep", "weight"], seed, n, n)

    def of(chunk_size):
        return gradients(
            lambda x, y: mm.symmetric_info_nce(
                x, y, chunk_size=chunk_size, reduction=reduction, temperature=0.5, **options
            ).sum(),
            *pair,
        )

    same_in_chunks(of(size), of(None))


# --- wrong calls ---------------------------------------------------------------------------------

X, Y = torch.ones(3, 2), torch.ones(4, 2)
P = torch.ones(3, 4).bool()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.symmetric_info_nce(X, Y), r"y: expected .*3.*got .*\(4, 2\)"),
        (
            lambda: mm.symmetric_info_nce(X, Y),
            r"y: expected .* got \(4, 2\) .*several partners.*symmetric_info_nce",
        ),
        (
            lambda: mm.symmetric_info_nce(X, Y, positives=torch.ones(4, 3).bool()),
            r"positives: expected shape \(3, 4\), got \(4, 3\) \(transposed",
        ),
        (
            lambda: mm.symmetric_info_nce(X, Y, positives=P, keep=torch.ones(3, 3).bool()),
            r"keep: expected shape \(3, 4\), got \(3, 3\)",
        ),
        (
            lambda: mm.symmetric_info_nce(X, Y, positives=P, bias=mm.hardness_bias(1.0)),
            "bias: expected a tensor where positives are given .*, got a function of a tile",
        ),
        (
            lambda: mm.symmetric_info_nce(X, Y, positives=P, weight=torch.ones(3)),
            "weight: expected None where the sides differ in size, got 3 rows of x and 4 of y .*in",
        ),
        (
            lambda: mm.symmetric_info_nce(X, Y, positives=P, prior=torch.full((3,), 0.1)),
            "prior: expected one number where the sides differ in size, got 3 rows of x and 4 of y",
        ),
        (
            lambda: mm.symmetric_info_nce(X, Y, positives=P, reduction="none"),
            'reduction: expected "mean" or "sum" where the sides differ in size, got 3 rows',
        ),
        (lambda: mm.symmetric_info_nce(X.int(), X), "x: expected .*float.*got .*int32"),
        (lambda: mm.symmetric_info_nce(X, X, temperature=0), "temperature: expected .*got 0"),
        (lambda: mm.symmetric_info_nce(X, X, reduction=None), "reduction: expected .*got None"),
        (
            lambda: mm.symmetric_info_nce(X, X, keep=torch.ones(3).bool()),
            r"keep: expected .*\(3, 3\).*got .*\(3,\)",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


N = 5


class Recorder:
    """A row map that remembers how many rows it was given."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x):
        self.sizes.append(len(x))
        return 3 * mm.l2_normalize(x)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_symmetric_info_nce_hands_on_its_chunks_and_its_row_map(chunk_size):
    x, y, normalize = normal(1, N, 3), normal(2, N, 3), Recorder()
    value = mm.symmetric_info_nce(x, y, normalize=normalize, chunk_size=chunk_size)
    close(value, mm.symmetric_info_nce(x, y, temperature=0.07 / 9))
    assert (max(s for s in normalize.sizes if s != N) == 2) if chunk_size else normalize.sizes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: mm.symmetric_info_nce(*x.values(), positives=torch.ones(2, 2) > 0),
            r"positives: expected shape \(5, 5\), got \(2, 2\)",
        ),
    ],
)
def test_wrong_calls_with_features(call, message):
    with pytest.raises(ValueError, match=message):
        call({"a": normal(1, N, 3), "b": normal(2, N, 3)})

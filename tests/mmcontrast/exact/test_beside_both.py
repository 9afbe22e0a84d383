"""Both directions of InfoNCE with the variants: the mean of one direction and the other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.infonce_inputs import reductions
from tests.mmcontrast.strategies import close, gradients, mask, modalities, normal, numpy, seeds
from tests.mmcontrast.strategies import presence as drawn_presence

T = 0.5
variants = {
    "decoupled": st.booleans(),
    "prior": st.sampled_from([0.0, 0.1, "each"]),
    "smoothing": st.sampled_from([0.0, 0.2]),
}


def options_of(seed, n, place, decoupled, prior, smoothing):
    made = {"decoupled": decoupled, "weight": normal(seed + 5, n).abs(), "temperature": T}
    made["prior"] = 0.3 * normal(seed + 8, n).sigmoid() if prior == "each" else prior
    if place != "positives":
        made["smoothing"] = smoothing
    if place in ("keep", "positives"):
        made[place] = mask(seed + 2, n, n, share=0.6)
    return made


@given(
    seed=seeds,
    n=st.integers(1, 6),
    place=st.sampled_from(["batch", "keep", "positives"]),
    chunk_size=st.sampled_from([None, 2, 9]),
    reduction=reductions,
    **variants,
)
def test_both_directions_are_the_oracles(seed, n, place, chunk_size, reduction, **kind):
    """And the gradients those of one direction and the other."""
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    options = {**options_of(seed, n, place, **kind), "reduction": reduction}
    back = {k: v.T if k in ("keep", "positives") else v for k, v in options.items()}

    def at_once(x, y):
        return mm.symmetric_info_nce(x, y, chunk_size=chunk_size, **options).sum()

    def apart(x, y):
        return ((mm.info_nce(x, y, **options) + mm.info_nce(y, x, **back)) / 2).sum()

    found = mm.symmetric_info_nce(x, y, chunk_size=chunk_size, **options)
    close(found, oracles.symmetric_info_nce(*map(numpy, (x, y)), **numpy(options)))
    value, each = gradients(at_once, x, y)
    expected, others = gradients(apart, x, y)
    close(value, expected)
    for a, b in zip(each, others, strict=True):
        close(a, b)


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("place", ["batch", "keep"])
def test_derivatives_of_both_orders(place, chunk_size):
    x, y = normal(1, 4, 3).requires_grad_(), normal(2, 4, 3).requires_grad_()
    t = torch.tensor(T, dtype=torch.float64, requires_grad=True)
    for decoupled in (False, True):
        options = options_of(3, 4, place, decoupled, 0.1, 0.2)
        del options["temperature"]

        def loss(x, y, t, options=options):
            settings = {"temperature": t, "chunk_size": chunk_size}
            return mm.symmetric_info_nce(x, y, **settings, **options)

        assert torch.autograd.gradcheck(loss, (x, y, t))
        assert torch.autograd.gradgradcheck(loss, (x, y, t))


@given(seed=seeds, direction=st.sampled_from(["from_anchor", "to_anchor", "both"]), **variants)
def test_modalities_around_an_anchor_are_the_oracles(seed, direction, decoupled, prior, smoothing):
    options = options_of(seed, 4, "batch", decoupled, prior, smoothing)
    x, there = modalities(seed, 4, 3), drawn_presence(seed, 4)
    settings = {"present": there, "direction": direction, **options}
    found = mm.anchored_info_nce(x, **settings)
    expected = oracles.anchored_info_nce(numpy(x), **numpy(settings))
    assert list(found) == list(expected)
    for name, value in expected.items():
        close(found[name], value)


def test_one_pair_without_negatives_is_zero():
    for settings in ({}, {"chunk_size": 1}):
        value, found = gradients(
            lambda x, y, s=settings: mm.symmetric_info_nce(x, y, decoupled=True, prior=0.1, **s),
            normal(1, 1, 3),
            normal(2, 1, 3),
        )
        assert value == 0
        assert all((gradient == 0).all() for gradient in found)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("decoupled: expected True or False", {"decoupled": "yes"}),
        (r"prior: expected a number in \[0, 1\)", {"prior": 2}),
        (r"smoothing: expected a number in \[0, 1\)", {"smoothing": -0.5}),
        ("smoothing: expected 0 where positives", {"smoothing": 0.1, "positives": torch.eye(3)}),
        (r"keep: expected shape \(3, 3\)", {"prior": 0.1, "keep": torch.ones(2, 3).bool()}),
    ],
)
def test_wrong_arguments(message, options):
    with pytest.raises(ValueError, match=message):
        mm.symmetric_info_nce(normal(1, 3, 2), normal(2, 3, 2), **options)

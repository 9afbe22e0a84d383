"""SupCon of a small batch, all at once: the oracle's values, the plain form's gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact.supcon_whole import sup_con_at_once
from mmcontrast.reductions import Reduction
from tests import oracles
from tests.mmcontrast.exact.supcon_inputs import KINDS, LABELS, classes, plain, slopes
from tests.mmcontrast.exact.ways import Allocations
from tests.mmcontrast.strategies import close, embeddings, leaf, normal, numpy, seeds


def at_once(x, ids, *, temperature=0.07, weight=None, reduction="none"):
    return sup_con_at_once(
        x,
        ids,
        slice(0, len(x)),
        temperature=temperature,
        normalize=mm.l2_normalize,
        reduction=Reduction(reduction, weight),
    )


@given(
    seed=seeds,
    n=st.integers(1, 7),
    labelling=st.sampled_from(["classes", "pairs", "alone", "columns", "one", "nobody"]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    weighted=st.booleans(),
)
def test_it_agrees_with_the_oracle(seed, n, labelling, reduction, weighted):
    x, ids = normal(seed, n, 3), classes(labelling, seed, n)
    options = {"temperature": 0.3, "reduction": reduction}
    if weighted:
        options["weight"] = normal(seed + 1, n).abs()
    expected = oracles.sup_con(numpy(x), numpy(ids), **numpy(options))
    close(at_once(x, ids, **options), expected)


@given(
    seed=seeds,
    n=st.integers(1, 13),
    kind=st.sampled_from(KINDS),
    labelling=st.sampled_from(LABELS),
    temperature=st.sampled_from([0.01, 0.07, 1.0]),
)
def test_its_gradients_are_the_plain_forms(seed, n, kind, labelling, temperature):
    x, ids = embeddings(seed, n, 4, kind), classes(labelling, seed, n)
    found = slopes(lambda x, t: at_once(x, ids, temperature=t), x, temperature)
    expected = slopes(plain(ids), x, temperature)
    close(found[0], expected[0], atol=1e-11, rtol=1e-12)
    for gradient, reference in zip(found[1:], expected[1:], strict=True):
        scale = 1 / temperature / (x.norm(dim=1).min() if gradient.ndim else temperature)
        close(gradient / scale, reference / scale, atol=1e-12, rtol=1e-11)


def test_two_products_and_one_without_gradients():
    x, ids = normal(1, 6, 3), torch.tensor([0, 1, 0, 1, 1, 2])
    with Allocations() as made:
        at_once(leaf(x), ids, reduction="mean").backward()
    assert made.products == 2
    with Allocations() as made:
        at_once(x, ids, reduction="mean")
    assert made.products == 1


def test_both_derivatives():
    ids = torch.tensor([0, 0, 1, 1, 1, -100, 2])
    inputs = leaf(normal(1, 7, 3)), leaf(torch.tensor(0.4).double()), leaf(normal(2, 7).abs())
    for reduction in ("mean", "none"):

        def loss(x, t, w, reduction=reduction):
            return at_once(x, ids, temperature=t, weight=w, reduction=reduction)

        assert torch.autograd.gradcheck(loss, inputs)
        assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("own", [slice(0, 0), slice(2, 5), slice(0, 7)])
def test_a_ranks_part_of_the_batch(own):
    """Values of its own rows among all of them; the sum of the parts is the whole."""
    x, ids = normal(1, 7, 3), torch.tensor([0, 1, 0, 1, 1, 2, 0])
    settings = {"temperature": 0.2, "normalize": mm.l2_normalize}
    whole = at_once(x, ids, temperature=0.2)
    close(sup_con_at_once(x, ids, own, reduction=Reduction("none"), **settings), whole[own])
    close(sup_con_at_once(x, ids, own, reduction=Reduction("sum"), **settings), whole[own].sum())

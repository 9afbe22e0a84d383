"""The plain form of each loss against loops in float64, and its derivatives, of both orders."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact import plain
from mmcontrast.exact.plain import plain_one_way, plain_sigmoid, plain_sup_con, plain_symmetric
from mmcontrast.masks import off_diagonal
from tests import oracles
from tests.mmcontrast.strategies import close, leaf, mask, normal, numpy, rng, seeds

temperatures = st.sampled_from([0.05, 0.3, 1.0, 3.0])
SETTINGS = {"normalize": None, "reduction": "none"}
T, BIAS = torch.tensor(0.4, dtype=torch.float64), torch.tensor(-1.5, dtype=torch.float64)


def agrees(found, expected):
    """Logits of a temperature of 0.05 go up to some hundreds."""
    close(found, expected, atol=1e-10, rtol=1e-10)


# --- against loops -------------------------------------------------------------------------------


@given(
    seed=seeds,
    b=st.integers(1, 6),
    extra=st.integers(0, 4),
    d=st.integers(1, 4),
    temperature=temperatures,
    told=st.booleans(),
)
def test_one_way_is_the_loop(seed, b, extra, d, temperature, told):
    x, y = normal(seed, b, d), normal(seed + 1, b + extra, d)
    targets = torch.randint(0, b + extra, (b,), generator=rng(seed)) if told else None
    expected = oracles.info_nce(
        numpy(x), numpy(y), numpy(targets), temperature=temperature, **SETTINGS
    )
    agrees(plain_one_way(x, y, targets, temperature), expected)
    agrees(plain_one_way(x, y, targets, torch.tensor(temperature, dtype=torch.float64)), expected)


@given(seed=seeds, b=st.integers(1, 6), c=st.integers(1, 6), temperature=temperatures)
def test_a_negative_target_is_finite_and_leaves_the_others_alone(seed, b, c, temperature):
    x, y = leaf(normal(seed, b, 3)), leaf(normal(seed + 1, c, 3))
    targets = torch.randint(0, c, (b,), generator=rng(seed))
    out = mask(seed, b)
    ignored = torch.where(out, -100, targets)
    found = plain_one_way(x, y, ignored, temperature)
    assert found.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(found.sum(), (x, y)))
    expected = oracles.info_nce(
        numpy(x), numpy(y), numpy(targets), temperature=temperature, **SETTINGS
    )
    agrees(found[~out], expected[~out.numpy()])


@given(seed=seeds, b=st.integers(1, 6), d=st.integers(1, 4), temperature=temperatures)
def test_symmetric_is_the_loop(seed, b, d, temperature):
    x, y = normal(seed, b, d), normal(seed + 1, b, d)
    expected = oracles.symmetric_info_nce(numpy(x), numpy(y), temperature=temperature, **SETTINGS)
    agrees(plain_symmetric(x, y, temperature, slice(0, b), None), expected)


@given(seed=seeds, before=st.integers(0, 3), b=st.integers(1, 3), after=st.integers(0, 3))
def test_symmetric_of_a_rank_is_its_part_of_the_loop(seed, before, b, after):
    """Candidates of all ranks in both directions; the other ranks' x come by `joined`."""
    n, own = before + b + after, slice(before, before + b)
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "joined", lambda rows, group: (x, own))
        found = plain_symmetric(x[own], y, 0.5, own, "a group")
    expected = oracles.symmetric_info_nce(numpy(x), numpy(y), temperature=0.5, **SETTINGS)
    agrees(found, expected[own])


@given(
    seed=seeds,
    n=st.integers(1, 7),
    d=st.integers(1, 4),
    temperature=temperatures,
    share=st.sampled_from([0.2, 0.6, 1.0]),
)
def test_sup_con_is_the_loop(seed, n, d, temperature, share):
    """Anchors without a positive, and without anybody, are 0."""
    x, positives = normal(seed, n, d), mask(seed, n, n)
    keep = mask(seed + 1, n, n, share=share) & off_diagonal(n)
    expected = oracles.sup_con(
        numpy(x),
        None,
        positives=numpy(positives),
        keep=numpy(keep),
        temperature=temperature,
        **SETTINGS,
    )
    found = plain_sup_con(x, temperature, positives, keep)
    agrees(found, expected)
    assert (found[~(positives & keep).any(1)] == 0).all()


@given(
    seed=seeds,
    b=st.integers(1, 5),
    start=st.integers(0, 3),
    after=st.integers(0, 3),
    temperature=temperatures,
    bias=st.sampled_from([-10.0, 0.0, 2.5]),
    told=st.booleans(),
    kept=st.booleans(),
)
def test_sigmoid_is_the_loop(seed, b, start, after, temperature, bias, told, kept):
    c = start + b + after
    x, y = normal(seed, b, 3), normal(seed + 1, c, 3)
    positives = mask(seed, b, c) if told else None
    keep = mask(seed + 1, b, c) if kept else None
    own = [[j == start + i for j in range(c)] for i in range(b)]
    expected = oracles.sigmoid_contrast(
        numpy(x),
        numpy(y),
        temperature=temperature,
        bias=bias,
        positives=numpy(positives) if told else own,
        keep=numpy(keep),
        **SETTINGS,
    )
    agrees(plain_sigmoid(x, y, temperature, bias, positives, keep, start), expected)


# --- derivatives, transforms and compilers -------------------------------------------------------

X, Y, MORE = normal(1, 4, 3), normal(2, 4, 3), normal(3, 6, 3)
TARGETS = torch.tensor([5, 0, -100, 2])
TOGETHER, KEPT = mask(4, 4, 4), mask(5, 4, 4, share=0.8)
PAIRS, ALLOWED = mask(6, 4, 6), mask(7, 4, 6, share=0.7)
FORMS = {
    "one way": (lambda x, y, t: plain_one_way(x, y, None, t), (X, MORE, T)),
    "targets": (lambda x, y, t: plain_one_way(x, y, TARGETS, t)[TARGETS >= 0], (X, MORE, T)),
    "symmetric": (lambda x, y, t: plain_symmetric(x, y, t, slice(0, 4), None), (X, Y, T)),
    "sup con": (lambda x, t: plain_sup_con(x, t, TOGETHER, KEPT & off_diagonal(4)), (X, T)),
    "sigmoid": (lambda x, y, t, b: plain_sigmoid(x, y, t, b, None, None, 1), (X, MORE, T, BIAS)),
    "masks": (
        lambda x, y, t, b: plain_sigmoid(x, y, t, b, PAIRS, ALLOWED, 0),
        (X, MORE, T, BIAS),
    ),
}
every_form = pytest.mark.parametrize("form", FORMS)


@every_form
def test_first_and_second_derivatives(form):
    loss, inputs = FORMS[form]
    leaves = [leaf(x) for x in inputs]
    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


@every_form
def test_a_compiler_and_a_transform_trace_it(form):
    loss, (first, *others) = FORMS[form]
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    close(compiled(first, *others), loss(first, *others), atol=0, rtol=0)
    moved = first + normal(8, *first.shape)
    together = torch.func.vmap(lambda x: loss(x, *others))(torch.stack([first, moved]))
    close(together, torch.stack([loss(first, *others), loss(moved, *others)]))

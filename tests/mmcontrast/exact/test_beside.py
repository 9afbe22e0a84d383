"""InfoNCE with own negatives, decoupled, with a prior and smoothed: loops, and what they equal."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.infonce_inputs import options_for, random_targets, reductions
from tests.mmcontrast.strategies import close, gradients, mask, normal, numpy, seeds, tol

PLACES = ["targets", "keep", "bool positives", "soft positives", "own alone"]
T = 0.5


def variant_of(seed, n, decoupled, prior, smoothing, own):
    made = {"decoupled": decoupled, "smoothing": smoothing}
    if prior is not None:
        made["prior"] = 0.3 * normal(seed + 8, n).sigmoid() if prior == "each" else prior
    if own:
        made["own_negatives"] = normal(seed + 6, n, own, 3)
        made["own_keep"] = mask(seed + 7, n, own, share=0.7)
    return made


def drawn(seed, place, n, extra, decoupled, prior, smoothing, own):
    """Anchors, candidates, and options that go together."""
    x, y = normal(seed, n, 3), normal(seed + 1, n + extra, 3)
    smoothing = 0.0 if "positives" in place else smoothing
    own = max(own, 1) if place == "own alone" else own
    made = options_for([place, "weight"], seed, n, n + extra)
    if place in ("keep", "own alone"):
        made["targets"] = random_targets(seed, n, n + extra)
    made |= variant_of(seed, n, decoupled, prior, smoothing, own)
    return x, y, {**made, **({"in_batch": False} if place == "own alone" else {})}


variants = {
    "decoupled": st.booleans(),
    "prior": st.sampled_from([None, 0.1, "each"]),
    "smoothing": st.sampled_from([0.0, 0.2]),
    "own": st.integers(0, 3),
}


@given(
    seed=seeds,
    place=st.sampled_from(PLACES),
    n=st.integers(1, 6),
    extra=st.integers(0, 4),
    reduction=reductions,
    chunk_size=st.sampled_from([None, 2]),
    **variants,
)
def test_every_variant_agrees_with_the_oracle(seed, place, n, extra, reduction, chunk_size, **kind):
    x, y, options = drawn(seed, place, n, extra, **kind)
    expected = oracles.info_nce(
        *map(numpy, (x, y)), temperature=T, reduction=reduction, **numpy(options)
    )
    options |= {"temperature": T, "reduction": reduction, "chunk_size": chunk_size}
    close(mm.info_nce(x, y, **options), expected)
    x = torch.stack([x, x])
    under_vmap = torch.vmap(lambda x: mm.info_nce(x, y, **options))(x)
    close(under_vmap[0], expected)


@given(seed=seeds, place=st.sampled_from(PLACES), **variants)
def test_gradients_are_those_of_the_plain_path(seed, place, **kind):
    """Of every input, under an upstream gradient that is not one."""
    x, y, options = drawn(seed, place, 5, 3, **kind)
    own = options.pop("own_negatives", normal(seed, 5, 0, 3))
    given_own = {"own_negatives"} if kind["own"] or place == "own alone" else set()
    upstream, t = normal(seed + 9, 5), torch.tensor(T, dtype=torch.float64)

    def loss(x, y, t, own, **settings):
        if given_own:
            settings["own_negatives"] = own
        found = mm.info_nce(x, y, temperature=t, **options, **settings)
        return (found * upstream).sum() if found.ndim else found

    for settings in ({"chunk_size": 2}, {"chunk_size": 2, "reduction": "none"}):
        value, found = gradients(lambda *g, s=settings: loss(*g, **s), x, y, t, own)
        expected = torch.func.grad(lambda *g, s=settings: loss(*g, **s), argnums=(0, 1, 2, 3))(
            x, y, t, own
        )
        assert value.isfinite()
        for a, b in zip(found, expected, strict=True):
            close(a, b, atol=1e-9)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("decoupled", [False, True])
def test_derivatives_of_both_orders(place, decoupled):
    """A prior and smoothing with them where they may be; entry by entry the first is above."""
    x, y, options = drawn(3, place, 4, 2, decoupled, 0.1, 0.2, 2)
    own, t = options.pop("own_negatives"), torch.tensor(T, dtype=torch.float64)
    inputs = [z.requires_grad_() for z in (x, y, own, t)]

    def loss(x, y, own, t):
        return mm.info_nce(x, y, own_negatives=own, temperature=t, chunk_size=2, **options)

    assert gradcheck(loss, inputs, fast_mode=True)
    assert gradgradcheck(loss, inputs, fast_mode=True)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_frozen_does_not_matter_to_the_others_gradients(place):
    x, y, options = drawn(3, place, 4, 2, False, 0.1, 0.2, 2)
    inputs = x, y, options.pop("own_negatives"), torch.tensor(T, dtype=torch.float64)

    def loss(x, y, own, t):
        return mm.info_nce(x, y, own_negatives=own, temperature=t, chunk_size=2, **options)

    _, every = gradients(loss, *inputs)
    for at in range(4):
        leaf = inputs[at].detach().clone().requires_grad_()
        value = loss(*(leaf if i == at else z.detach() for i, z in enumerate(inputs)))
        close(torch.autograd.grad(value, leaf)[0], every[at])


# --- what they equal -----------------------------------------------------------------------------


@given(seed=seeds, decoupled=st.booleans(), prior=st.sampled_from([0.0, 0.1]))
def test_own_negatives_are_columns_of_a_mask(seed, decoupled, prior):
    """(B, B + B K) candidates, of which each anchor keeps the batch and its own K."""
    b, k = 5, 3
    x, y, own, kept = normal(seed, b, 4), normal(seed + 1, b, 4), normal(seed + 2, b, k, 4), None
    kept = mask(seed, b, k)
    options = {"temperature": T, "decoupled": decoupled, "prior": prior, "smoothing": 0.1}
    blocks = torch.block_diag(*kept[:, None].unbind())  # (B, B K)
    whole = torch.cat([torch.ones(b, b), blocks], 1).bool()

    def beside(x, y, own):
        return mm.info_nce(x, y, own_negatives=own, own_keep=kept, **options)

    def masked(x, y, own):
        return mm.info_nce(x, torch.cat([y, own.flatten(0, 1)]), keep=whole, **options)

    value, found = gradients(beside, x, y, own)
    expected, others = gradients(masked, x, y, own)
    close(value, expected)
    for a, c in zip(found, others, strict=True):
        close(a, c)
    alone = torch.cat([torch.eye(b), blocks], 1).bool()
    close(
        mm.info_nce(x, y, own_negatives=own, own_keep=kept, in_batch=False, **options),
        mm.info_nce(x, torch.cat([y, own.flatten(0, 1)]), keep=alone, **options),
    )


@given(seed=seeds)
def test_own_negatives_that_are_the_batchs_are_the_batchs(seed):
    """Every other partner as an own negative, in place of the batch."""
    b = 5
    x, y = normal(seed, b, 3), normal(seed + 1, b, 3)
    others = torch.stack([y[torch.arange(b) != i] for i in range(b)])  # (B, B - 1, D)
    close(mm.info_nce(x, y, own_negatives=others, in_batch=False), mm.info_nce(x, y))
    # Beside the batch's, each negative is there twice.
    twice = mm.info_nce(x, y, own_negatives=others, decoupled=True, reduction="none")
    once = mm.info_nce(x, y, decoupled=True, reduction="none")
    close(twice - once, [math.log(2)] * b)


@given(seed=seeds, keep=st.booleans())
def test_nothing_asked_for_is_the_plain_loss_bit_for_bit(seed, keep):
    x, y = normal(seed, 6, 4, dtype=torch.float32), normal(seed + 1, 6, 4, dtype=torch.float32)
    options = {"keep": mask(seed, 6, 6)} if keep else {}
    nothing = {"decoupled": False, "prior": 0.0, "smoothing": 0.0}
    for loss in (mm.info_nce, mm.symmetric_info_nce):
        plain, expected = gradients(lambda x, y, f=loss: f(x, y, **options), x, y)
        value, found = gradients(lambda x, y, f=loss: f(x, y, **options, **nothing), x, y)
        assert torch.equal(value, plain)
        assert all(map(torch.equal, found, expected))


@given(seed=seeds, smoothing=st.sampled_from([0.1, 0.5, 0.9]), own=st.booleans())
def test_smoothing_is_torchs(seed, smoothing, own):
    x, y, negatives = normal(seed, 5, 3), normal(seed + 1, 8, 3), normal(seed + 2, 5, 2, 3)
    x, y, negatives = (F.normalize(z, dim=-1) for z in (x, y, negatives))
    targets = random_targets(seed, 5, 8)
    logits = x @ y.T / T
    options = {"own_negatives": negatives} if own else {}
    if own:
        logits = torch.cat([logits, torch.einsum("bd,bkd->bk", x, negatives) / T], 1)
    settings = {"reduction": "none", "ignore_index": -100, "label_smoothing": smoothing}
    expected = F.cross_entropy(logits, targets, **settings)
    settings = {"temperature": T, "reduction": "none", "smoothing": smoothing}
    close(mm.info_nce(x, y, targets, **settings, **options), expected)


@given(seed=seeds)
def test_soft_positives_say_what_smoothing_says(seed):
    x, y = normal(seed, 5, 3), normal(seed + 1, 8, 3)
    shares = 0.8 * torch.eye(5, 8, dtype=torch.float64) + 0.2 / 8
    close(mm.info_nce(x, y, smoothing=0.2), mm.info_nce(x, y, positives=shares))


@given(seed=seeds)
def test_decoupled_is_the_negatives_alone(seed):
    """e^loss of both is (P + N) / P and N / P."""
    x, y = normal(seed, 5, 3), normal(seed + 1, 7, 3)
    settings = {"temperature": T, "reduction": "none"}
    coupled, apart = (mm.info_nce(x, y, decoupled=k, **settings) for k in (False, True))
    close(coupled.exp(), apart.exp() + 1)
    assert (apart < coupled).all()


@given(seed=seeds)
def test_a_prior_takes_the_positive_out_of_the_negatives(seed):
    """A small one adds 1 - n e^p / N times itself; a large one stops at the floor."""
    x, y = normal(seed, 4, 3), normal(seed + 1, 7, 3)
    settings = {"temperature": T, "decoupled": True, "reduction": "none"}
    plain = mm.info_nce(x, y, **settings)
    step = 1e-6
    slope = (mm.info_nce(x, y, prior=step, **settings) - plain) / step
    close(slope, 1 - 6 / plain.exp(), atol=1e-3, rtol=1e-3)
    heavy = mm.info_nce(x, y, prior=0.999, **settings)
    cosines = (mm.l2_normalize(x) * mm.l2_normalize(y[:4])).sum(1)
    assert (heavy >= math.log(6) - 1 / T - cosines / T - 1e-12).all()


# --- nothing, and digits -------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["one sample", "keep", "own alone", "no positive"])
def test_without_negatives_a_decoupled_loss_is_zero_and_so_is_its_gradient(place):
    x, y, own = normal(1, 3, 2), normal(2, 3, 2), normal(3, 3, 2, 2)
    options = {"decoupled": True, "prior": 0.1}
    if place == "one sample":
        x, y, own = x[:1], y[:1], own[:1, :0]
    if place == "keep":
        options["keep"], own = torch.eye(3).bool(), own[:, :0]
    if place == "own alone":
        options |= {"in_batch": False, "own_keep": torch.zeros(3, 2).bool()}
    if place == "no positive":
        options["targets"] = torch.full((3,), -100)
    for settings in ({}, {"chunk_size": 1}, {"reduction": "none"}):

        def loss(x, y, own, settings=settings):
            return mm.info_nce(x, y, own_negatives=own, **options, **settings).sum()

        value, found = gradients(loss, x, y, own)
        assert value == 0
        assert all((gradient == 0).all() for gradient in found)


def test_several_positives_without_negatives_are_not_pulled():
    x, y, every = normal(1, 3, 2), normal(2, 3, 2), torch.ones(3, 3).bool()
    for settings in ({}, {"chunk_size": 1}, {"reduction": "none"}):
        options = {"positives": every, "decoupled": True, **settings}
        value, found = gradients(lambda x, y, k=options: mm.info_nce(x, y, **k).sum(), x, y)
        assert value == 0
        assert all((gradient == 0).all() for gradient in found)


@pytest.mark.parametrize("filler", [math.nan, math.inf])
def test_what_takes_no_part_affects_nothing(filler):
    """Own negatives outside their mask, and those of anchors without a positive."""
    x, y, own = normal(1, 4, 3), normal(2, 4, 3), normal(3, 4, 2, 3)
    kept = torch.tensor([[True, False], [True, True], [False, False], [True, True]])
    targets = torch.tensor([0, -100, 2, 3])
    out = ~kept | (targets < 0)[:, None]

    def loss(x, y, own, **settings):
        options = {"own_negatives": own, "own_keep": kept, "smoothing": 0.1, "prior": 0.1}
        return mm.info_nce(x, y, targets, **options, **settings)

    for settings in ({}, {"in_batch": False}, {"keep": torch.ones(4, 4).bool()}):
        filled = own.masked_fill(out[:, :, None], filler)
        value, found = gradients(lambda *g, s=settings: loss(*g, **s), x, y, filled)
        plain, expected = gradients(lambda *g, s=settings: loss(*g, **s), x, y, own)
        close(value, plain, atol=0, rtol=0)
        assert all(map(torch.equal, found, expected))
        assert (found[2][out] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("in_batch", [True, False])
def test_lower_precision_is_that_of_the_inputs(dtype, in_batch):
    x, y, own = normal(1, 6, 8), normal(2, 6, 8), normal(3, 6, 4, 8)
    x, y, own = (z.to(dtype) for z in (x, y, own))
    options = {"decoupled": True, "prior": 0.05, "smoothing": 0.1, "in_batch": in_batch}
    found = mm.info_nce(x, y, own_negatives=own, **options)
    assert found.dtype == torch.float32
    expected = mm.info_nce(x.double(), y.double(), own_negatives=own.double(), **options)
    close(found, expected, atol=tol(torch.float32, 0.07, 10), rtol=0)


def test_raw_rows_beyond_the_squares_of_a_float32():
    """Computed once more in float64, as without own negatives."""
    x, y, own = 1e25 * normal(1, 4, 3), 1e25 * normal(2, 4, 3), 1e25 * normal(3, 4, 2, 3)
    for in_batch in (True, False):
        options = {"normalize": None, "temperature": 1e30, "in_batch": in_batch}
        value, found = gradients(
            lambda x, y, o, k=options: mm.info_nce(x, y, own_negatives=o, **k),
            *(z.float() for z in (x, y, own)),
        )
        expected, others = gradients(
            lambda x, y, o, k=options: mm.info_nce(x, y, own_negatives=o, **k), x, y, own
        )
        close(value, expected, rtol=1e-5)
        for a, b in zip(found, others, strict=True):
            close(a / 1e-5, b / 1e-5, rtol=1e-3, atol=1e-3)


# --- errors --------------------------------------------------------------------------------------

X, OWN = normal(1, 4, 3), normal(2, 4, 2, 3)
EYE = torch.eye(4).bool()


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("in_batch: expected True without own_negatives", {"in_batch": False}),
        (
            "keep: expected None with in_batch=False, where the batch has no negatives",
            {"in_batch": False, "own_negatives": OWN, "keep": EYE},
        ),
        ("in_batch: expected True or False", {"in_batch": 1}),
        ("decoupled: expected True or False", {"decoupled": 1}),
        (r"prior: expected a number in \[0, 1\), got 1", {"prior": 1.0}),
        (r"prior: expected a number in \[0, 1\), got -0.1", {"prior": -0.1}),
        (r"prior: expected numbers in \[0, 1\), got 1.5", {"prior": torch.full((4,), 1.5)}),
        (r"prior: expected shape \(4,\)", {"prior": torch.zeros(3)}),
        ("prior: expected a floating dtype", {"prior": torch.zeros(4).long()}),
        ("prior: expected numbers, as no gradient", {"prior": torch.zeros(4).requires_grad_()}),
        (r"smoothing: expected a number in \[0, 1\), got 1", {"smoothing": 1}),
        ("smoothing: expected 0 where positives", {"smoothing": 0.1, "positives": EYE}),
    ],
)
def test_wrong_arguments(message, options):
    with pytest.raises(ValueError, match=message):
        mm.info_nce(X, X, **options)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_smoothing_of_an_anchor_without_candidates_has_finite_gradients(reduction):
    x, y, t = normal(1, 4, 3), normal(2, 4, 3), torch.tensor(T).double()
    leaves = [z.requires_grad_() for z in (x, y, t)]
    keep = torch.ones(4, 4, dtype=torch.bool)
    keep[1] = False
    loss = mm.info_nce(x, y, keep=keep, smoothing=0.1, temperature=t, reduction=reduction)
    for slope in torch.autograd.grad(loss.sum(), leaves):
        assert slope.isfinite().all()

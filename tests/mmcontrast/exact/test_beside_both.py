"""Both directions of InfoNCE with the variants: the mean of one direction and the other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.infonce_inputs import reductions
from tests.mmcontrast.strategies import close, gradients, mask, modalities, normal, numpy, seeds
from tests.mmcontrast.strategies import presence as drawn_presence
from tests.oracles.infonce import nce_value
from tests.oracles.rows import similarities

T = 0.5
EYE = torch.eye(3).bool()
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
        options = options_of(3, 4, place, decoupled, 0.1, 0.2) | {"within": not decoupled}
        del options["temperature"]

        def loss(x, y, t, options=options):
            settings = {"temperature": t, "chunk_size": chunk_size}
            return mm.symmetric_info_nce(x, y, **settings, **options)

        assert torch.autograd.gradcheck(loss, (x, y, t), fast_mode=True)
        assert torch.autograd.gradgradcheck(loss, (x, y, t), fast_mode=True)


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


@given(
    seed=seeds,
    n=st.integers(1, 6),
    kept=st.booleans(),
    chunk_size=st.sampled_from([None, 2, 9]),
    reduction=reductions,
    **variants,
)
def test_within_is_one_direction_among_the_rows_of_both_sides(
    seed, n, kept, chunk_size, reduction, **kind
):
    """By a (B, 2 B) mask without a row's own column; value and gradients, and under a transform."""
    x, y, off = normal(seed, n, 3), normal(seed + 1, n, 3), mm.off_diagonal(n)
    options = {**options_of(seed, n, "keep" if kept else "batch", **kind), "reduction": reduction}
    keep = options.pop("keep", torch.ones(n, n).bool())

    def within(x, y):
        given = {"keep": keep} if kept else {}
        settings = {"within": True, "chunk_size": chunk_size, **given}
        return mm.symmetric_info_nce(x, y, **settings, **options).sum()

    def masked(x, y):
        ways = (x, y, keep), (y, x, keep.T)
        each = [
            mm.info_nce(a, torch.cat([b, a]), keep=torch.cat([k, k & off], 1), **options)
            for a, b, k in ways
        ]
        return (sum(each) / 2).sum()

    value, found = gradients(within, x, y)
    expected, others = gradients(masked, x, y)
    close(value, expected)
    for a, b in zip(found, others, strict=True):
        close(a, b)
    for a, b in zip(torch.func.grad(within, argnums=(0, 1))(x, y), others, strict=True):
        close(a, b)


@given(seed=seeds, n=st.integers(2, 6), chunk_size=st.sampled_from([None, 2]))
def test_within_is_nt_xent_and_dcl(seed, n, chunk_size):
    """SimCLR's loss of 2 B rows, and lightly's DCLLoss of them, as loops."""
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    z = numpy(torch.cat([x, y]))
    logits = [[s / T for s in row] for row in similarities(z, z, "l2")]
    partner = [(i + n) % (2 * n) for i in range(2 * n)]
    for decoupled in (False, True):
        each = []
        for i, row in enumerate(logits):
            negatives = [s for j, s in enumerate(row) if j not in (i, partner[i])]
            pull = row[partner[i]]
            each.append(nce_value([pull], negatives, pull, decoupled=decoupled))
        options = {"within": True, "decoupled": decoupled, "temperature": T}
        found = mm.symmetric_info_nce(x, y, chunk_size=chunk_size, **options)
        close(found, sum(each) / len(each))
    ids = torch.arange(n).repeat(2)
    plain = mm.symmetric_info_nce(x, y, within=True, temperature=T)
    close(plain, mm.sup_con(torch.cat([x, y]), ids, temperature=T))


@given(seed=seeds)
def test_functions_of_tiles_are_their_masks(seed):
    """With own counts, means and sides: what a function keeps, and the bias that it adds."""
    x, y = normal(seed, 6, 3), normal(seed + 1, 6, 3)
    ids = torch.tensor([0, 0, 1, 1, 2, 3])
    keep = (ids[:, None] != ids) | torch.eye(6).bool()
    bias = normal(seed + 2, 6, 6)

    def mask_of(tile):
        return keep[tile.rows[:, None], tile.columns]

    def added(tile):
        return bias[tile.rows[:, None], tile.columns]

    options = {"prior": 0.1, "smoothing": 0.2, "decoupled": True, "temperature": T}
    for settings in ({}, {"within": True}):
        found = mm.symmetric_info_nce(x, y, keep=mask_of, **settings, **options)
        close(found, mm.symmetric_info_nce(x, y, keep=keep, **settings, **options))
    own = {"own_negatives": normal(seed + 3, 6, 2, 3)}
    for loss, more in ((mm.symmetric_info_nce, {}), (mm.info_nce, own)):
        found = loss(x, y, keep=mask_of, bias=added, **options, **more)
        close(found, loss(x, y, keep=keep, bias=bias, **options, **more))


def test_one_pair_without_negatives_is_zero():
    for settings in ({}, {"chunk_size": 1}, {"within": True}):
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
        ("within: expected True or False", {"within": None}),
        ("within: expected False with positives or bias", {"within": True, "bias": EYE.float()}),
        ("within: expected False with positives or bias", {"within": True, "positives": EYE}),
        (r"keep: expected shape \(3, 3\)", {"prior": 0.1, "keep": torch.ones(2, 3).bool()}),
    ],
)
def test_wrong_arguments(message, options):
    with pytest.raises(ValueError, match=message):
        mm.symmetric_info_nce(normal(1, 3, 2), normal(2, 3, 2), **options)


def test_indices_lie_where_the_rows_do():
    with FakeTensorMode():
        x, y = torch.ones(4, 3, device="meta"), torch.ones(4, 3, device="meta")
        keep = torch.ones(4, 4, dtype=torch.bool, device="meta")
        loss = mm.symmetric_info_nce(x, y, keep=keep, within=True, smoothing=0.1)
    assert loss.device.type == "meta"

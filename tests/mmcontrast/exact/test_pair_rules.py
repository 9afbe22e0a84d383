"""Masks and biases of pairs, as tensors and as functions of a tile, against loops."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact.pair_partners import told
from mmcontrast.exact.pair_rules import PairRules
from mmcontrast.exact.tiles import slices
from tests import oracles
from tests.mmcontrast.exact.ways import taken
from tests.mmcontrast.infonce_inputs import random_targets, reductions
from tests.mmcontrast.strategies import close, gradients, mask, normal, numpy, seeds

CHUNKS = st.none() | st.integers(1, 9)


def cosines(x, y):
    return mm.l2_normalize(x) @ mm.l2_normalize(y).mT


def entries(pairs):
    """A function of a tile that reads a (B, C) tensor."""
    return lambda tile: pairs[tile.rows[:, None], tile.columns]


def some_bias(seed, n, m):
    """(n, m), minus infinity for some pairs."""
    return normal(seed + 9, n, m).masked_fill(mask(seed + 10, n, m, share=0.2), -math.inf)


def one_way(x, y, seed=0, **options):
    targets = random_targets(seed, len(x), len(y)) if seed % 2 else None
    return mm.info_nce(x, y, targets, **options)


def both_ways(x, y, seed=0, **options):
    return mm.symmetric_info_nce(x, y[: len(x)], **options)


def partners(n, m, seed):
    """(n, m) bool: two of five, drawn from nothing that vmap would mind."""
    return (7 * torch.arange(n)[:, None] + 3 * torch.arange(m) + seed) % 5 < 2


def several(x, y, seed=0, **options):
    return mm.info_nce(x, y, positives=partners(len(x), len(y), seed), **options)


def by_labels(x, y, seed=0, **options):
    return mm.sup_con(x, classes(len(x)), form="in" if seed % 4 else "out", **options)


def by_labels_across(x, y, seed=0, **options):
    return mm.sup_con(x, classes(len(x)), y, classes(len(y)), **options)


def sigmoid(x, y, seed=0, bias=-1.0, **options):
    return mm.sigmoid_contrast(x, y, bias=bias, **options)


def sigmoid_of_several(x, y, seed=0, bias=-1.0, **options):
    positives = partners(len(x), len(y), seed)
    return mm.sigmoid_contrast(x, y, positives=positives, bias=bias, **options)


def classes(n):
    """Of three each, the last of which is unlabelled."""
    found = torch.arange(n) // 3
    return torch.where(found == found.max(), -100, found) if n > 3 else found


LOSSES = {
    "one way": (one_way, 3),
    "both ways": (both_ways, 0),
    "several": (several, 2),
    "labels": (by_labels, 0),
    "labels across": (by_labels_across, 1),
    "sigmoid": (sigmoid, 2),
    "sigmoid of several": (sigmoid_of_several, 2),
}
"""A loss, and how many more candidates than anchors it is tried with."""


def same(found, expected, tolerance=1e-12):
    for a, b in zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True):
        unit = 1 + b.abs().max().item() if b.numel() else 1
        close(a / unit, b / unit, atol=tolerance)


# --- against loops -------------------------------------------------------------------------------


@given(
    seed=seeds,
    n=st.integers(1, 7),
    extra=st.integers(0, 3),
    chunk_size=CHUNKS,
    kept=st.booleans(),
    reduction=reductions,
    form=st.sampled_from(["one way", "several"]),
)
def test_a_bias_agrees_with_the_oracle(seed, n, extra, chunk_size, kept, reduction, form):
    x, y = normal(seed, n, 3), normal(seed + 1, n + extra, 3)
    options = {"bias": some_bias(seed, n, n + extra), "reduction": reduction, "temperature": 0.3}
    if kept:
        options["keep"] = mask(seed, n, n + extra, share=0.7)
    if form == "several":
        options["positives"] = mask(seed + 3, n, n + extra, share=0.4)
    expected = oracles.info_nce(numpy(x), numpy(y), **numpy(options))
    close(mm.info_nce(x, y, **options, chunk_size=chunk_size), expected)


@given(seed=seeds, n=st.integers(1, 7), chunk_size=CHUNKS, kept=st.booleans(), reduction=reductions)
def test_a_bias_of_both_directions_agrees_with_the_oracle(seed, n, chunk_size, kept, reduction):
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    options = {"bias": some_bias(seed, n, n), "reduction": reduction, "temperature": 0.3}
    if kept:
        options["keep"] = mask(seed, n, n, share=0.7)
    expected = oracles.symmetric_info_nce(numpy(x), numpy(y), **numpy(options))
    close(mm.symmetric_info_nce(x, y, **options, chunk_size=chunk_size), expected)


@pytest.mark.parametrize("form", LOSSES)
def test_the_gradient_by_a_bias_agrees_with_central_differences(form):
    loss, extra = LOSSES[form]
    x, y, bias = normal(1, 4, 3), normal(2, 4 + extra, 3), normal(3, 4, 4 + extra)
    keep = mask(4, 4, 4 + extra, share=0.8)

    def value(bias, chunk_size=2):
        return loss(x, y, bias=bias, keep=keep, temperature=0.5, chunk_size=chunk_size)

    expected = oracles.central_differences(lambda b: value(torch.tensor(b)).item(), numpy(bias))
    for chunk_size in (2, None):
        _, (found,) = gradients(lambda b, c=chunk_size: value(b, c), bias)
        close(found, expected, atol=1e-8)
        assert (found[~keep] == 0).all()


@given(
    seed=seeds,
    n=st.integers(1, 7),
    chunk_size=CHUNKS,
    kept=st.booleans(),
    several=st.booleans(),
    reduction=reductions,
)
def test_a_bias_of_the_sigmoid_loss_agrees_with_the_oracle(
    seed, n, chunk_size, kept, several, reduction
):
    x, y = normal(seed, n, 3), normal(seed + 1, n + 2, 3)
    options = {"bias": some_bias(seed, n, n + 2), "temperature": 0.3, "reduction": reduction}
    if kept:
        options["keep"] = mask(seed, n, n + 2, share=0.7)
    if several:
        options["positives"] = partners(n, n + 2, seed)
    expected = oracles.sigmoid_contrast(numpy(x), numpy(y), **numpy(options))
    close(mm.sigmoid_contrast(x, y, **options, chunk_size=chunk_size), expected)


@given(
    seed=seeds,
    n=st.integers(1, 7),
    chunk_size=CHUNKS,
    kept=st.booleans(),
    across=st.booleans(),
    form=st.sampled_from(["out", "in"]),
)
def test_a_bias_of_sup_con_agrees_with_the_oracle(seed, n, chunk_size, kept, across, form):
    m = n + 2 * across
    arrays = [normal(seed, n, 3), classes(n)]
    arrays += [normal(seed + 1, m, 3), classes(m)] if across else []
    options = {"bias": some_bias(seed, n, m), "temperature": 0.3, "form": form}
    if kept:
        options["keep"] = mask(seed, n, m, share=0.7)
    expected = oracles.sup_con(*map(numpy, arrays), **numpy(options))
    close(mm.sup_con(*arrays, **options, chunk_size=chunk_size), expected)


# --- laws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", LOSSES)
@given(
    seed=seeds,
    n=st.integers(1, 8),
    chunk_size=CHUNKS,
    reduction=reductions,
    as_list=st.booleans(),
    others=st.sampled_from(["keep", "bias", "both"]),
)
def test_a_function_equals_its_tensor(form, seed, n, chunk_size, reduction, as_list, others):
    loss, extra = LOSSES[form]
    if form != "one way":
        seed *= 2
    x, y = normal(seed, n, 3), normal(seed + 1, n + extra, 3)
    keep, bias = mask(seed, n, n + extra, share=0.7), some_bias(seed, n, n + extra)
    more, similar = mask(seed + 5, n, n + extra, share=0.9), normal(seed + 6, n, n + extra)
    tensors, functions = {}, {}
    if others != "bias":
        tensors["keep"] = keep & more if as_list else keep
        functions["keep"] = [more, entries(keep)] if as_list else entries(keep)
    if others != "keep":
        tensors["bias"] = bias + similar if as_list else bias
        functions["bias"] = [entries(bias), similar] if as_list else entries(bias)
    settings = {"temperature": 0.2, "reduction": reduction, "chunk_size": chunk_size, "seed": seed}
    steps = torch.arange(1.0, n + 1) if reduction == "none" else torch.ones(())

    def found(options):
        return gradients(lambda x, y: (loss(x, y, **options, **settings) * steps).sum(), x, y)

    same(found(functions), found(tensors))


@pytest.mark.parametrize("form", LOSSES)
@given(seed=seeds, n=st.integers(1, 8), chunk_size=CHUNKS, others=st.booleans())
def test_true_is_a_mask_of_all_of_a_tile(form, seed, n, chunk_size, others):
    loss, extra = LOSSES[form]
    x, y = normal(seed, n, 3), normal(seed + 1, n + extra, 3)
    kept = mask(seed, n, n + extra, share=0.9)
    kept[: n // 2] = True

    def keep(tile):
        found = kept[tile.rows][:, tile.columns]
        return True if found.all() else found

    options = {"chunk_size": chunk_size, "seed": 2 * seed}
    more = mask(seed + 1, n, n + extra, share=0.7)
    given_functions = [keep, entries(more)] if others else keep
    every = kept & more if others else kept
    expected = gradients(lambda x, y: loss(x, y, keep=every, **options), x, y)
    same(gradients(lambda x, y: loss(x, y, keep=given_functions, **options), x, y), expected)


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_sums_that_underflow_are_found_under_a_mask_of_all_pairs(chunk_size):
    """At this temperature the logits of most rows lie far below their bound."""
    x, y = normal(1, 7, 3).float(), normal(2, 7, 3).float()
    options = {"temperature": 0.004, "reduction": "none"}
    found = mm.symmetric_info_nce(x, y, keep=lambda tile: True, chunk_size=chunk_size, **options)
    close(found, mm.symmetric_info_nce(x, y, **options), rtol=1e-5)


def own_of(form, n, m, seed):
    """(n, m) bool, and which of them are partners; the anchors themselves are none."""
    if form.endswith("several"):
        return partners(n, m, seed)
    if form.startswith("labels"):
        return mm.same_label(classes(n), classes(m)) & (
            mm.off_diagonal(n) if form == "labels" else torch.ones(n, m, dtype=torch.bool)
        )
    return torch.eye(n, m, dtype=torch.bool)


def by_similarity(tile):
    """Of each pair by itself, and of its row's partner."""
    return 2 * tile.similarity - tile.partner[:, None]


@pytest.mark.parametrize("form", LOSSES)
@given(seed=seeds, n=st.integers(2, 8), chunk_size=CHUNKS, shape=st.sampled_from(["keep", "bias"]))
def test_functions_of_the_similarities(form, seed, n, chunk_size, shape):
    loss, extra = LOSSES[form]
    seed *= 2  # no targets
    x, y = normal(seed, n, 3), normal(seed + 1, n + extra, 3)
    similarity = cosines(x, x if form == "labels" else y)
    own = own_of(form, n, n + extra, seed)
    best = similarity.masked_fill(~own, -math.inf).amax(1, keepdim=True)
    best = torch.where(own.any(1, keepdim=True), best, math.inf)
    whole = 2 * similarity - best
    if shape == "keep":
        given_tensor, function = whole > -0.5, lambda tile: by_similarity(tile) > -0.5
    else:
        whole = torch.where(best.isinf(), 0.0, whole)
        given_tensor = whole
        function = lambda tile: torch.where(  # noqa: E731
            tile.partner[:, None].isinf(), 0.0, by_similarity(tile)
        )
    settings = {"temperature": 0.2, "chunk_size": chunk_size, "seed": seed}
    found, expected = (
        gradients(lambda x, y, s=z: loss(x, y, **{shape: s}, **settings), x, y)
        for z in (function, given_tensor)
    )
    same(found, expected)


@pytest.mark.parametrize("form", LOSSES)
def test_a_bias_of_minus_infinity_is_no_candidate(form):
    loss, extra = LOSSES[form]
    x, y = normal(1, 6, 3), normal(2, 6 + extra, 3)
    keep = mask(3, 6, 6 + extra, share=0.6)
    bias = torch.where(keep, -1.0 if form.startswith("sigmoid") else 0.0, -math.inf)
    for chunk_size in (2, None):
        settings = {"temperature": 0.1, "chunk_size": chunk_size}
        found = gradients(lambda x, y, s=settings: loss(x, y, bias=bias, **s), x, y)
        same(found, gradients(lambda x, y, s=settings: loss(x, y, keep=keep, **s), x, y))


@pytest.mark.parametrize("form", ["one way", "several", "labels", "labels across"])
@given(seed=seeds, chunk_size=CHUNKS, size=st.sampled_from([1.0, 1e3]))
def test_a_bias_that_is_constant_in_each_row_changes_nothing(form, seed, chunk_size, size):
    loss, extra = LOSSES[form]
    x, y = normal(seed, 5, 3), normal(seed + 1, 5 + extra, 3)
    bias = (size * normal(seed + 2, 5, 1)).expand(-1, 5 + extra)
    settings = {"temperature": 0.2, "chunk_size": chunk_size, "seed": seed}
    found = gradients(lambda x, y: loss(x, y, bias=bias, **settings), x, y)
    same(found, gradients(lambda x, y: loss(x, y, **settings), x, y), 1e-15 * (1e3 + size * 30))


@given(seed=seeds, chunk_size=CHUNKS)
def test_a_bias_of_log_k_counts_a_candidate_k_times(seed, chunk_size):
    x, y = normal(seed, 5, 3), normal(seed + 1, 8, 3)
    bias = torch.zeros(5, 8, dtype=torch.float64)
    bias[:, 7] = math.log(3)
    found = mm.info_nce(x, y, bias=bias, chunk_size=chunk_size)
    close(found, mm.info_nce(x, torch.cat([y, y[7:], y[7:]])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", LOSSES)
def test_large_biases_neither_overflow_nor_lose_digits(form, dtype):
    """Logits of 1000 and more, whose exponentials no float32 holds."""
    loss, extra = LOSSES[form]
    x, y = normal(1, 6, 3, dtype=dtype), normal(2, 6 + extra, 3, dtype=dtype)
    bias = 1e3 * normal(3, 6, 6 + extra).float()
    for function in (bias, entries(bias)):
        value, found = gradients(lambda x, y, f=function: loss(x, y, bias=f, chunk_size=2), x, y)
        exact, expected = gradients(
            lambda x, y: loss(x, y, bias=bias.double()), x.double(), y.double()
        )
        close(value, exact, rtol=1e-5)
        for a, b in zip(found, expected, strict=True):
            unit = 1 + b.abs().max()
            close(a.float() / unit, b / unit, atol=1e-2, rtol=1e-2)


def test_what_is_left_out_may_have_any_bias():
    """Also partners, of one sample."""
    x, y, keep = normal(1, 5, 3), normal(2, 5, 3), mask(3, 5, 5).fill_diagonal_(True)
    keep[3, 3] = False
    bias = torch.where(keep, normal(4, 5, 5), math.nan)
    for form in LOSSES:
        loss = LOSSES[form][0]
        for chunk_size in (2, None):
            options = {"keep": keep, "chunk_size": chunk_size}
            found = gradients(lambda x, y, b: loss(x, y, bias=b, **options), x, y, bias)  # noqa: B023
            filled = bias.nan_to_num(7.0)
            same(found, gradients(lambda x, y, b: loss(x, y, bias=b, **options), x, y, filled))  # noqa: B023


# --- what functions are told, and when -----------------------------------------------------------


@pytest.mark.parametrize("form", LOSSES)
def test_tiles_are_parts_of_one_matrix(form):
    loss, extra = LOSSES[form]
    x, y = normal(1, 7, 3).requires_grad_(), normal(2, 7 + extra, 3)
    similarity = cosines(x.detach(), x.detach() if form == "labels" else y)
    if form.startswith("labels"):  # what is unlabelled may hold anything, and is zero
        similarity[classes(7) == -100] = 0
        similarity[:, classes(7 + extra) == -100] = 0
    own = own_of(form, 7, 7 + extra, 0)
    seen = torch.zeros(7, 7 + extra, dtype=torch.bool)

    def look(tile):
        at = tile.rows[:, None], tile.columns
        assert tile.size == (7, 7 + extra)
        assert not tile.similarity.requires_grad
        close(tile.similarity, similarity[at])
        assert torch.equal(tile.positive, own[at])
        best = similarity.masked_fill(~own, -math.inf).amax(1)
        close(tile.partner, torch.where(own.any(1), best, math.inf)[tile.rows])
        if form == "both ways":
            close(tile.column_partner, similarity.diagonal()[tile.columns])
        else:
            assert tile.column_partner is None
        seen[at] = True
        return torch.ones(at[0].shape[0], len(at[1]), dtype=torch.bool)

    loss(x, y, keep=look, chunk_size=3).backward()
    assert seen.all()


@given(n=st.integers(1, 7), start=st.integers(0, 4), side=st.integers(1, 5))
def test_partners_that_follow_each_other_are_known_where_they_are(n, start, side):
    """In tiles of any place, also where only a corner of one is a pair of partners."""
    rows, columns, partners = normal(1, n, 3), normal(2, n + 4, 3), torch.arange(start, start + n)
    rules = PairRules(keep_functions=(by_similarity,))
    told_of_start = told(rules, rows, columns, partners, 0, n, start=start)
    for i, j in itertools.product(slices(n, side), slices(n + 4, 3)):
        found = told_of_start.tile(i, j, lambda: torch.zeros(()))
        assert torch.equal(found.positive, partners[i, None] == torch.arange(n + 4)[j])
        assert found.apart == (not found.positive.any())


def test_no_tile_has_all_pairs():
    x, y = normal(1, 700, 3), normal(2, 700, 3)
    largest = []

    def look(tile):
        largest.append(tile.similarity.numel())
        return tile.similarity < 2

    for loss in (mm.info_nce, mm.symmetric_info_nce):
        loss(x, y, keep=look)
        loss(x, y, keep=look, chunk_size=50)
    assert max(largest) < 700**2


def test_functions_take_the_ways_of_masks():
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    found = [
        taken(lambda f=f: f(x, y, keep=lambda tile: tile.similarity < 2))
        for f in (mm.info_nce, mm.symmetric_info_nce, several)
    ]
    assert found == [["one_way_in_blocks"], ["symmetric_in_tiles"], ["masked_in_blocks"]]


# --- derivatives and transforms ------------------------------------------------------------------


@pytest.mark.parametrize("form", LOSSES)
def test_gradcheck_and_gradgradcheck(form):
    loss, extra = LOSSES[form]
    x, y = (normal(k, 3 + k * extra, 3).requires_grad_() for k in (0, 1))
    bias = normal(3, 3, 3 + extra).requires_grad_()

    def value(x, y, bias):
        both = [bias, lambda tile: 0.1 * (tile.rows[:, None] + tile.columns).double()]
        return loss(x, y, bias=both, keep=lambda t: t.columns != 3 + 0 * t.rows[:, None])

    torch.autograd.gradcheck(value, (x, y, bias))
    torch.autograd.gradgradcheck(value, (x, y, bias), fast_mode=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch's own, in its forward mode
@pytest.mark.parametrize("form", LOSSES)
def test_transforms_agree(form):
    loss, extra = LOSSES[form]
    x, y = normal(1, 4, 3), normal(2, 4 + extra, 3)
    settings = {"bias": by_similarity, "keep": lambda t: t.similarity < 0.9, "temperature": 0.4}

    def value(x, y):
        return loss(x, y, **settings)

    exact, expected = gradients(value, x, y)
    found = torch.func.grad_and_value(value, argnums=(0, 1))(x, y)
    same([found[1], found[0]], [exact, expected])
    batches = torch.func.vmap(value, (0, None))(torch.stack([x, 2 * x]), y)
    close(batches, [exact, exact])
    _, tangent = torch.func.jvp(value, (x, y), (torch.ones_like(x), torch.zeros_like(y)))
    close(tangent, expected[0].sum())


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": torch.ones(4, 3)}, r"bias: expected shape \(4, 4\), got \(4, 3\)"),
        ({"bias": torch.ones(4)}, r"bias: .*got \(4,\) \(one for each cand.*expand\(4, -1\)"),
        ({"bias": torch.ones(4, 4).int()}, "bias: expected a floating dtype, got torch.int32"),
        ({"bias": 0.5}, "bias: expected .*function of a Tile.*got 0.5"),
        ({"keep": [torch.ones(4, 4)]}, "keep: expected a bool mask"),
        ({"keep": lambda a, b: a}, "keep: expected .*function of a Tile.*got <function"),
        ({"keep": lambda t: t.similarity}, "keep: expected a function that returns .*bool"),
        ({"bias": lambda t: t.rows}, "bias: expected a function that returns .*floating"),
    ],
)
@pytest.mark.parametrize("loss", [mm.info_nce, mm.symmetric_info_nce])
def test_wrong_masks_and_biases(loss, options, message):
    with pytest.raises(ValueError, match=message):
        loss(normal(1, 4, 3), normal(2, 4, 3), **options)


def test_biases_of_few_digits_are_added_with_the_rows_digits():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    each = [torch.full((4, 4), 256.0), torch.eye(4)]
    functions = [lambda tile, b=b: entries(b.bfloat16())(tile) for b in each]
    close(mm.info_nce(x, y, bias=functions), mm.info_nce(x, y, bias=sum(each).double()))

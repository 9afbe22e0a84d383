"""The weight of an anchor that does not count may be anything: it reaches no value and no gradient.

On every way that a loss is evaluated: plain under a transform, at once, in tiles, in chunks.
"""

import math

import pytest
import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import close, normal

N = 6
OUT = torch.tensor([False, True, False, False, False, True])
PART = ~OUT
BOTH = PART[:, None] & PART
LABELS = torch.tensor([0, mm.IGNORE, 0, 1, 1, 7])  # one without a label, one without a partner
CLASSES = torch.where(PART, LABELS, mm.IGNORE)  # of HyCon's anchors one without a partner counts
TARGETS = torch.where(PART, torch.tensor([2, 0, 0, 3, 3, 1]), mm.IGNORE)
SCORES = torch.where(PART, torch.tensor([0.1, 0.0, 0.4, 0.4, 2.0, 1.0]), math.nan)
PRESENT = {"text": PART, "audio": PART}
BIG = 640  # anchors from which HyCon goes by sums over classes


def modal(x, y):
    return {"text": x, "audio": y}


def total(terms):
    return terms.total


LOSSES = {
    "info_nce, targets": lambda x, y, **k: mm.info_nce(x, y, TARGETS, **k),
    "info_nce, targets, chunks": lambda x, y, **k: mm.info_nce(x, y, TARGETS, chunk_size=2, **k),
    "info_nce, keep": lambda x, y, **k: mm.info_nce(x, y, keep=BOTH, **k),
    "info_nce, keep, chunks": lambda x, y, **k: mm.info_nce(x, y, keep=BOTH, chunk_size=2, **k),
    "info_nce, positives": lambda x, y, **k: mm.info_nce(x, y, positives=BOTH.double(), **k),
    "symmetric_info_nce": lambda x, y, **k: mm.symmetric_info_nce(x, y, keep=BOTH, **k),
    "symmetric_info_nce, chunks": lambda x, y, **k: mm.symmetric_info_nce(
        x, y, keep=BOTH, chunk_size=2, **k
    ),
    "matched_pair_nce": lambda x, y, **k: mm.matched_pair_nce(x, y, keep=PART, **k),
    "n_pair": lambda x, y, **k: mm.n_pair(x, y, TARGETS, **k),
    "sup_con, at once": lambda x, y, **k: mm.sup_con(x, LABELS, **k),
    "sup_con, tiles": lambda x, y, **k: mm.sup_con(x, LABELS, chunk_size=2, **k),
    "sup_con, in": lambda x, y, **k: mm.sup_con(x, LABELS, form="in", **k),
    "sup_con, candidates": lambda x, y, **k: mm.sup_con(x, LABELS, y, CLASSES, chunk_size=2, **k),
    "rank_n_contrast": lambda x, y, **k: mm.rank_n_contrast(x, SCORES, **k),
    "rank_n_contrast, chunks": lambda x, y, **k: mm.rank_n_contrast(
        x, SCORES, y, SCORES, chunk_size=2, **k
    ),
    "sigmoid_contrast": lambda x, y, **k: mm.sigmoid_contrast(x, y, keep=BOTH, **k),
    "sigmoid_contrast, tiles": lambda x, y, **k: mm.sigmoid_contrast(
        x, y, keep=BOTH, chunk_size=2, **k
    ),
    "anchored_info_nce": lambda x, y, **k: total(
        mm.anchored_info_nce(modal(x, y), present=PRESENT, direction="both", **k)
    ),
    "joint_contrast": lambda x, y, **k: total(
        mm.joint_contrast(modal(x, y), negatives="all", present=PRESENT, **k)
    ),
    "joint_contrast, area": lambda x, y, **k: total(
        mm.joint_contrast(modal(x, y), score="area", present=PRESENT, **k)
    ),
    "hybrid_contrast, labels": lambda x, y, **k: total(
        mm.hybrid_contrast(modal(x, y), CLASSES, **k)
    ),
    "hybrid_contrast, present": lambda x, y, **k: total(
        mm.hybrid_contrast(
            modal(x, y), LABELS.abs(), present=PRESENT, selection=mm.PairSelection(0.5), **k
        )
    ),
    "semi_contrast": lambda x, y, **k: mm.semi_contrast(modal(x, y), present=PRESENT, **k),
    "ratio_contrast": lambda x, y, **k: mm.ratio_contrast(
        x.sigmoid() @ y.sigmoid().T, BOTH.tril(), BOTH.triu(1) | BOTH.tril(-1), **k
    ),
    "multilevel_contrast": lambda x, y, **k: total(
        mm.multilevel_contrast({"a": [(x, y, PART)], "b": [(y, x, PART)]}, **k)
    ),
    "triplet": lambda x, y, **k: mm.triplet(x, y, y.flip(1), keep=PART, margin=9.0, **k),
    "modality_correlation_triplet": lambda x, y, **k: total(
        mm.modality_correlation_triplet(
            modal(x, y), modal(y.flip(1), x.flip(1)), present=PRESENT, margin=3.0, **k
        )
    ),
    "kl_distill": lambda x, y, **k: mm.kl_distill(x, y.detach(), mask=PART, **k),
    "pair_prediction": lambda x, y, **k: mm.pair_prediction(x[:, :2], CLASSES, **k),
}


def at_leaves(call, *inputs):
    leaves = [x.clone().requires_grad_() for x in inputs]
    value = call(*leaves)
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    return value, [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)
    ]


def transformed(call, *inputs):
    found, value = torch.func.grad_and_value(call, argnums=tuple(range(len(inputs))))(*inputs)
    return value, found


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("way", [at_leaves, transformed])
@pytest.mark.parametrize("filling", [math.nan, -math.inf])
def test_the_weight_of_what_is_masked_reaches_nothing(name, reduction, way, filling):
    x, y, weight = normal(1, N, 4), normal(2, N, 4), normal(3, N).abs()

    def call(x, y, weight):
        return LOSSES[name](x, y, weight=weight, reduction=reduction).sum()

    expected, slopes = way(call, x, y, weight)
    value, found = way(call, x, y, weight.masked_fill(OUT, filling))
    assert expected.abs() > 0
    close(value, expected)
    for slope, gradient in zip(slopes, found, strict=True):
        close(gradient, slope)
    assert (found[2][OUT] == 0).all()
    assert (found[2][PART] != 0).any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_weight_of_what_is_masked_in_large_batches(reduction):
    """HyCon by sums over classes, InfoNCE and SupCon in blocks and tiles of their own choice."""
    x, y, weight = normal(1, BIG, 4), normal(2, BIG, 4), normal(3, BIG).abs()
    out = torch.arange(BIG) % 3 == 1
    labels = (torch.arange(BIG) % 5).masked_fill(out, mm.IGNORE)
    options = {"reduction": reduction}
    calls = [
        lambda w: mm.hybrid_contrast(modal(x, y), labels, weight=w, **options).total,
        lambda w: mm.sup_con(x, labels, weight=w, **options),
        lambda w: mm.info_nce(x, y, labels, weight=w, **options),
    ]
    for call in calls:
        expected, (slope,) = at_leaves(call, weight)
        value, (found,) = at_leaves(call, weight.masked_fill(out, math.nan))
        close(value, expected)
        close(found, slope)


def test_a_sample_that_lacks_one_modality_keeps_its_weight_in_the_others():
    x, y, weight = normal(1, N, 4), normal(2, N, 4), normal(3, N).abs()
    present = {"audio": PART}
    values = mm.semi_contrast(modal(x, y), present=present, reduction="none")
    found = mm.semi_contrast(modal(x, y), present=present, weight=weight)
    close(found, (values * weight[:, None]).sum() / (2 * weight[PART].sum()))

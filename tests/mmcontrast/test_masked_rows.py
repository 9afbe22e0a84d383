"""Contract 3 for masks: a row that takes no part may hold anything, and gets a gradient of zero."""

import pytest
import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import close, gradients, normal

N = 5
PART = torch.tensor([True, False, True, True, False])
BOTH = PART[:, None] & PART
LABELS = torch.where(PART, torch.tensor([0, 0, 0, 1, 1]), mm.IGNORE)
SCORES = torch.where(PART, torch.tensor([0.1, 0.0, 0.4, 0.4, 2.0]), torch.nan)
TARGETS = torch.where(PART, torch.tensor([2, 0, 0, 3, 3]), mm.IGNORE)
MODALITIES = ("text", "audio")
PRESENT = dict.fromkeys(MODALITIES, PART)


def modal(x, y):
    return dict(zip(MODALITIES, (x, y), strict=True))


def steps(x):
    return torch.stack([x, x.flip(1)], 1)


def by_targets(loss, x, y, **options):
    """An anchor without a target; the candidates take part, all of them."""
    return loss(x, torch.where(PART[:, None], y, 0.5), TARGETS, **options)


CALLS = {
    "info_nce": lambda x, y: mm.info_nce(x, y, keep=BOTH),
    "info_nce, in chunks": lambda x, y: mm.info_nce(x, y, keep=BOTH, chunk_size=2),
    "symmetric_info_nce": lambda x, y: mm.symmetric_info_nce(x, y, keep=BOTH),
    "matched_pair_nce": lambda x, y: mm.matched_pair_nce(x, y, keep=PART),
    "n_pair": lambda x, y: mm.n_pair(x, y, keep=BOTH),
    "sup_con by labels": lambda x, y: mm.sup_con(x, LABELS) + mm.sup_con(y, LABELS),
    "sup_con by keep": lambda x, y: mm.sup_con(
        x, None, y, positives=torch.ones(N, N).tril(), keep=BOTH
    ),
    "sup_con among candidates": lambda x, y: mm.sup_con(x, LABELS, y, LABELS, form="in"),
    "triplet": lambda x, y: mm.triplet(x, y, y.flip(1), keep=PART, hinge=False),
    "info_nce by targets": lambda x, y: by_targets(mm.info_nce, x, y),
    "info_nce by targets, in chunks": lambda x, y: by_targets(mm.info_nce, x, y, chunk_size=2),
    "info_nce by targets, of each": lambda x, y: by_targets(
        mm.info_nce, x, y, reduction="none", chunk_size=2
    ).sum(),
    "n_pair by targets": lambda x, y: by_targets(mm.n_pair, x, y),
    "rank_n_contrast": lambda x, y: mm.rank_n_contrast(x, SCORES, y, SCORES),
    "sigmoid_contrast": lambda x, y: mm.sigmoid_contrast(x, y, keep=BOTH),
    "sigmoid_contrast, in tiles": lambda x, y: mm.sigmoid_contrast(x, y, keep=BOTH, chunk_size=2),
    "anchored_info_nce": lambda x, y: (
        mm.anchored_info_nce(modal(x, y), present=PRESENT, direction="both").total
    ),
    **{
        f"joint_contrast, {kind}": lambda x, y, how=how: (
            mm.joint_contrast(modal(x, y), present=PRESENT, **how).total
        )
        for kind, how in {"all": {"negatives": "all"}, "volume": {"score": "volume"}}.items()
    },
    "hybrid_contrast by labels": lambda x, y: mm.hybrid_contrast(modal(x, y), LABELS).total,
    "hybrid_contrast by presence": lambda x, y: (
        mm.hybrid_contrast(
            modal(x, y), LABELS.clamp_min(0), present=PRESENT, selection=mm.PairSelection(0.5)
        ).total
    ),
    "hybrid_contrast by masks": lambda x, y: (
        mm.hybrid_contrast(modal(x, y), None, positives=BOTH.tril(), negatives=BOTH.triu(1)).total
    ),
    "semi_contrast": lambda x, y: mm.semi_contrast(modal(x, y), present=PRESENT),
    "multilevel_contrast": lambda x, y: mm.multilevel_contrast({"a": [(x, y, PART)]}).total,
    "multilevel_contrast by labels": lambda x, y: (
        mm.multilevel_contrast({"a": [(x, y)]}, labels=LABELS, pair_design="B").total
    ),
    "kl_distill": lambda x, y: mm.kl_distill(x, y.flip(1).detach(), mask=PART) + 0 * y[0].sum(),
    "kl_distill of sequences": lambda x, y: mm.kl_distill(
        steps(x), steps(y).flip(2).detach(), mask=PART[:, None].expand(N, 2)
    ),
    "pair_prediction": lambda x, y: mm.pair_prediction(x[:, :2], LABELS.clamp_max(1)),
    "pair_prediction by keep": lambda x, y: mm.pair_prediction(
        x[:, :2], LABELS.clamp_min(0), keep=PART
    ),
    "modality_correlation": lambda x, y: mm.modality_correlation(x, y, mask=PART).sum(),
    "modality_correlation_triplet": lambda x, y: (
        mm.modality_correlation_triplet(
            modal(x, y), modal(y.flip(1), x.flip(1)), present=PRESENT, margin=2.5
        ).total
    ),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e30])
def test_masked_rows_reach_nothing(name, filling):
    x, y = normal(1, N, 3), normal(2, N, 3)
    filled = [torch.where(PART[:, None], z, filling) for z in (x, y)]
    expected, slopes = gradients(CALLS[name], x, y)
    value, found = gradients(CALLS[name], *filled)
    close(value, expected)
    assert value.abs() > 0
    for gradient, slope in zip(found, slopes, strict=True):
        close(gradient, slope)
        assert (gradient[~PART] == 0).all()

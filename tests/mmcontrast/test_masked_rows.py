"""Contract 3 for masks: a row that takes no part may hold anything, and gets a gradient of zero."""

import pytest
import torch

import mmcontrast as mm
from tests.mmcontrast.strategies import close, gradients, normal

N = 5
PART = torch.tensor([True, False, True, True, False])
BOTH = PART[:, None] & PART
LABELS = torch.where(PART, torch.tensor([0, 0, 0, 1, 1]), mm.IGNORE)
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


def test_an_anchor_that_is_nobodys_candidate_is_still_one():
    """The columns of `keep` say who is compared with, its rows who compares."""
    x, labels = normal(1, 4, 3), torch.tensor([0, 0, 1, 1])
    keep = torch.ones(4, 4, dtype=torch.bool)
    keep[:, 1] = False
    losses = mm.sup_con(x, labels, keep=keep, reduction="none")
    others = mm.sup_con(x[1:2], labels[1:2], x[[0, 2, 3]], labels[[0, 2, 3]], reduction="none")
    close(losses[1:2], others)


def test_soft_targets_that_require_a_gradient_survive_an_empty_row():
    positives = torch.tensor([[0.3, 0.7], [0.0, 0.0]], dtype=torch.float64)
    x, y = normal(1, 2, 3), normal(2, 2, 3)
    _, found = gradients(lambda a, c, p: mm.info_nce(a, c, positives=p), x, y, positives)
    assert all(gradient.isfinite().all() for gradient in found)


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


def test_anchored_info_nce_hands_on_its_row_map():
    features = {"text": normal(1, N, 3), "audio": normal(2, N, 3)}
    value = mm.anchored_info_nce(features, normalize=None, temperature=1.0)["text-audio"]
    close(value, mm.n_pair(features["text"], features["audio"]))


def test_triplets_that_are_satisfied_are_zero_by_the_hinge_alone():
    a, p, n = torch.zeros(1, 2), torch.zeros(1, 2), torch.full((1, 2), 9.0)
    assert mm.triplet(a, p, n) == 0
    assert mm.Triplet()(a, p, n) == 0
    assert mm.Triplet(hinge=False)(a, p, n) < 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: mm.hybrid_contrast(x, LABELS, weights=1.0), "weights: expected three numbers"),
        (
            lambda x: mm.hybrid_contrast(x, LABELS, selection=0.2),
            "selection: expected a PairSelection or None, got 0.2",
        ),
        (
            lambda x: mm.symmetric_info_nce(*x.values(), positives=torch.ones(2, 2) > 0),
            r"positives: expected shape \(5, 5\), got \(2, 2\)",
        ),
        (
            lambda x: mm.matched_pair_nce(torch.ones(5), x["a"]),
            "x: expected shape",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call({"a": normal(1, N, 3), "b": normal(2, N, 3)})

"""Miners of many rows: blocks of rows against all at once, and what a block makes."""

import pytest
import torch

import mmcontrast as mm
from mmcontrast.exact import choose, sizes, topk
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import labels, mask, normal, rng

LARGE = 1061  # columns for several groups, and some over
assert 300 * LARGE > sizes.RANKED


def on_the_grid(seed, n, d=4):
    """Rows whose dot products are exact in float32: the same in whatever order they are summed."""
    return torch.randint(-8, 9, (n, d), generator=rng(seed)).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_candidates_are_ranked_in_blocks_by_default(dtype, monkeypatch):
    x, y, ids = on_the_grid(1, 300).to(dtype), on_the_grid(2, LARGE).to(dtype), labels(1, LARGE, 9)
    settings = {"normalize": None, "allowed": mask(3, 300, LARGE, share=0.9)}
    settings |= {"labels": ids[:300], "candidate_labels": ids}
    found = [mm.hard_negatives(x, y, k, **settings) for k in (1, 5, 40)]
    found += [mm.hard_triplets(y, ids, normalize=None)]
    monkeypatch.setattr(choose, "is_eager", lambda *tensors: False)
    monkeypatch.setattr(topk, "is_eager", lambda *tensors: False)
    plain = [mm.hard_negatives(x, y, k, **settings) for k in (1, 5, 40)]
    plain += [mm.hard_triplets(y, ids, normalize=None)]
    for ours, theirs in zip(found, plain, strict=True):
        assert all(torch.equal(u, v) for u, v in zip(ours, theirs, strict=True))


def test_compiled_and_transformed_miners_sort_whole_rows():
    x, ids = on_the_grid(1, LARGE), labels(1, LARGE, 9)

    def mined(x):
        return *mm.hard_negatives(x, x, 3, labels=ids), *mm.hard_triplets(x, ids)

    torch._dynamo.reset()
    compiled = torch.compile(mined, fullgraph=True, backend="eager")(x)
    together = torch.vmap(mined)(x[None])
    for value, whole, batched in zip(mined(x), compiled, together, strict=True):
        if value.dtype == torch.int64:
            assert (value == whole).float().mean() > 0.99  # near ties round either way
            assert (value == batched[0]).float().mean() > 0.99


@pytest.mark.parametrize("n", [400, 1200])
def test_no_operation_makes_more_than_a_block(n):
    x, ids = normal(1, n, 2), labels(1, n, 3)
    for call in (
        lambda: mm.hard_negatives(x, x, 3, chunk_size=16),
        lambda: mm.hard_negatives(x, x, 3, labels=ids, chunk_size=16),
        lambda: mm.hard_triplets(x, ids, chunk_size=16),
    ):
        with Made() as made:
            call()
        assert made.largest <= 16 * n

"""Batches sorted by class, and where the classes of a few rows stand, against loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact import sizes
from mmcontrast.exact.classes import by_class, numbered, windows
from tests.mmcontrast.strategies import labels, seeds


@given(seed=seeds, n=st.integers(0, 9), number=st.integers(1, 4), columns=st.booleans())
def test_a_batch_is_sorted_by_class_and_within_it_by_index(seed, n, number, columns):
    ids = labels(seed, n, number, ignored=0.3)
    if columns:
        ids = torch.stack([ids, torch.where(ids == -100, ids, labels(seed + 1, n, 2))], dim=1)
    keys = [tuple(row) for row in (ids if columns else ids[:, None]).tolist()]
    expected = sorted((k for k in range(n) if -100 not in keys[k]), key=lambda k: (keys[k], k))
    found = by_class(ids)
    assert found.order.tolist() == expected
    kinds = sorted({keys[k] for k in expected})
    assert found.ids.tolist() == [kinds.index(keys[k]) for k in expected]
    assert found.counts.tolist() == [sum(keys[k] == kind for k in expected) for kind in kinds]
    assert found.sizes.tolist() == [
        sum(keys[other] == keys[k] for other in expected) for k in expected
    ]


def test_nan_is_no_label():
    found = by_class(torch.tensor([1.5, torch.nan, -100, 0.5, 1.5]))
    assert found.order.tolist() == [3, 0, 4]
    assert found.counts.tolist() == [1, 2]


@given(
    seed=seeds,
    rows=st.integers(0, 12),
    columns=st.integers(0, 12),
    step=st.integers(1, 13),
    piece=st.integers(1, 5),
)
def test_windows_hold_every_pair_of_one_class(seed, rows, columns, step, piece):
    """And no columns before their rows' first class or after their last."""
    ids, others = (labels(seed + k, n, 4).sort().values for k, n in enumerate((rows, columns)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "LOOKED_UP", piece)
        found = windows(ids, others, step)
    assert list(found) == list(range(0, rows, step))
    seen = []
    for block, inside in found.items():
        for window in inside:
            here = range(*window.rows.indices(rows))
            assert block <= here[0]
            assert here[-1] < block + step
            assert len(here) <= piece
            seen += here
            own = ids[window.rows]
            assert window.one == (len(own.unique()) == 1)
            wanted = (others >= own[0]) & (others <= own[-1])
            assert torch.equal(others[window.columns], others[wanted])
    assert seen == list(range(rows))


@given(
    seed=seeds,
    n=st.integers(0, 6),
    m=st.integers(0, 6),
    columns=st.booleans(),
    floating=st.booleans(),
)
def test_equal_labels_and_no_others_have_equal_numbers(seed, n, m, columns, floating):
    x, y = (labels(seed + k, size, 4, ignored=0.2) for k, size in enumerate((n, m)))
    if columns:
        x, y = (torch.stack([z, labels(seed + 2, len(z), 2)], 1) for z in (x, y))
    if floating:
        x, y = x.double(), y.double()
    left, right = numbered(x, y, torch.float32)
    assert left.dtype == right.dtype == torch.float32
    assert (len(left), len(right)) == (n, m)
    for i in range(n):
        for j in range(m):
            assert (left[i] == right[j]) == (x[i].tolist() == y[j].tolist())

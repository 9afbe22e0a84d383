"""The k highest of each row: groups of columns against whole sorted rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact import sizes, topk
from tests.mmcontrast.strategies import mask, normal, rng, seeds, with_ties


@given(
    seed=seeds,
    n=st.integers(1, 5),
    width=st.integers(0, 60),
    k=st.integers(1, 9),
    group=st.integers(2, 7),
    kind=st.sampled_from(["few values", "free", "mostly nobody"]),
)
def test_top_is_the_stable_sort_for_every_group_size(seed, n, width, k, group, kind):
    """Ties within a group, across groups and at the edge of the k; columns in any order."""
    scores = normal(seed, n, width)
    if kind == "few values":
        scores = with_ties(seed, n, width)
    if kind == "mostly nobody":
        scores = torch.where(mask(seed, n, width, share=0.1), scores, -torch.inf)
    names = torch.randperm(width, generator=rng(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "GROUP", group)
        values, found = topk.top(scores, k, names)
    by_name = torch.full((n, width + k), -torch.inf, dtype=torch.float64)
    by_name[:, names] = scores
    expected, order = by_name.sort(dim=1, descending=True, stable=True)
    assert torch.equal(values, expected[:, :k])
    assert torch.equal(found[values > -torch.inf], order[:, :k][expected[:, :k] > -torch.inf])

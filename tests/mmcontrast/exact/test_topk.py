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


def by_hand(scores, k):
    """The k highest of each row by a loop: (value, column), ties to the lower column."""
    ranked = [
        sorted(range(len(row)), key=lambda j, row=row: (-row[j], j))[:k] for row in scores.tolist()
    ]
    return scores.gather(1, torch.tensor(ranked)), torch.tensor(ranked)


@given(
    seed=seeds,
    n=st.integers(1, 5),
    width=st.integers(1, 24),
    k=st.integers(1, 9),
    ties=st.booleans(),
    most=st.sampled_from([0, 8, 100]),
    least=st.sampled_from([0, 8, 100]),
)
def test_top_at_once_is_the_loop_whichever_way_is_taken(seed, n, width, k, ties, most, least):
    """By topk up to TOPK columns, else by groups above SORTED, else by a sort."""
    scores, k = with_ties(seed, n, width) if ties else normal(seed, n, width), min(k, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "TOPK", most)
        patch.setattr(sizes, "SORTED", least)
        values, places = topk.top_at_once(scores, k)
    expected, order = by_hand(scores, k)
    assert torch.equal(values, expected)
    assert torch.equal(places, order)


@pytest.mark.parametrize(("width", "groups"), [(20, False), (21, True)])
def test_top_at_once_takes_groups_above_a_size(width, groups, monkeypatch):
    calls, way = [], topk.top
    monkeypatch.setattr(topk, "top", lambda *given: calls.append(given) or way(*given))
    monkeypatch.setattr(sizes, "SORTED", 20)
    monkeypatch.setattr(sizes, "TOPK", 0)
    topk.top_at_once(with_ties(1, 3, width), 2)
    assert bool(calls) == groups


def test_top_at_once_can_be_traced():
    scores = with_ties(1, 4, 300)
    torch._dynamo.reset()
    compiled = torch.compile(topk.top_at_once, fullgraph=True, backend="eager")
    together = torch.func.vmap(lambda x: topk.top_at_once(x, 5))(scores[None])
    for found in (compiled(scores, 5), [x[0] for x in together], topk.top_at_once(scores, 5)):
        for value, expected in zip(found, by_hand(scores, 5), strict=True):
            assert torch.equal(value, expected)


@given(seed=seeds, n=st.integers(1, 5), width=st.integers(1, 9))
def test_first_is_the_first_of_several_equal_ones(seed, n, width):
    scores = with_ties(seed, n, width)
    for largest, best in ((True, max), (False, min)):
        expected = [row.index(best(row)) for row in scores.tolist()]
        assert topk.first(scores, largest=largest).tolist() == expected
        together = torch.func.vmap(lambda x, largest=largest: topk.first(x, largest=largest))
        assert together(scores[None])[0].tolist() == expected


@given(seed=seeds, n=st.integers(1, 5), width=st.integers(0, 5))
def test_filled_takes_the_value_where_it_is_told(seed, n, width):
    scores, where = normal(seed, n, width), mask(seed, n, width)
    expected = [
        [-9.0 if gone else value for value, gone in zip(*both, strict=True)]
        for both in zip(scores.tolist(), where.tolist(), strict=True)
    ]
    traced = torch.func.vmap(lambda x, gone: topk.filled(x, gone, -9.0))(scores[None], where[None])
    assert traced[0].tolist() == expected
    assert topk.filled(scores.clone(), where, -9.0).tolist() == expected

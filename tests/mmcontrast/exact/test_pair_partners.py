"""What functions of a tile are told of the partners, and what they say of them, against loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact import pair_partners
from mmcontrast.exact.pair_partners import kept_partners, of_partners, told
from mmcontrast.exact.pair_rules import PairRules, as_tensors
from tests.mmcontrast.infonce_inputs import random_targets
from tests.mmcontrast.strategies import close, mask, normal, seeds


@given(seed=seeds, n=st.integers(1, 7), m=st.integers(1, 7), kept=st.booleans())
def test_of_the_partners_alone_functions_say_what_they_say_of_all_pairs(seed, n, m, kept):
    """Two rows at a time, of anchors 3, 4, ... of all ranks' n + 5."""
    rows, columns, partners = normal(seed, n, 3), normal(seed + 1, m, 3), random_targets(seed, n, m)
    keep = mask(seed + 2, n, m, share=0.7) if kept else None

    def close_enough(tile):
        assert tile.size == (n + 5, m)
        assert torch.equal(tile.partners, partners[tile.rows - 3])
        assert torch.equal(tile.column_partner, 10 * tile.columns)
        return tile.positive | (tile.similarity < 2)

    def weights(tile):
        found = 0.1 * tile.rows[:, None] + tile.columns + tile.similarity
        return found.masked_fill(tile.similarity < -1, -math.inf)

    rules = PairRules(keep, (close_enough, lambda tile: tile.similarity > -1.5), (weights,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_partners, "PIECE", 2)
        patch.setattr(pair_partners, "PARTNERS_AT_A_TIME", 2)
        others = {"column_partner": lambda _: 10 * torch.arange(m)}
        rules = told(rules, rows, columns, partners, 3, n + 5, **others)
        found, counted = of_partners(rules, None, rows, columns, partners)
    whole_keep, whole_bias = as_tensors(rules, None, rows, columns)
    for i, j in enumerate(partners.tolist()):
        there = j != -100 and (keep is None or keep[i, j].item())
        close(rules.known.partner[i], rows[i] @ columns[j] if there else math.inf)
        there = there and whole_keep[i, j].item() and whole_bias[i, j].item() != -math.inf
        assert counted[i].item() == there
        if there:
            close(found.known.bias[i], whole_bias[i, j])


def test_who_has_a_partner_and_keeps_it():
    partners = torch.tensor([1, -100, 0])
    keep = torch.tensor([[True, False], [True, True], [True, False]])
    assert kept_partners(partners, keep).tolist() == [False, False, True]
    assert kept_partners(partners, None).tolist() == [True, False, True]
    nobody = torch.full((3,), -100)
    assert kept_partners(nobody, keep[:, :0]).tolist() == [False] * 3

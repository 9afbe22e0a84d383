"""From sums over an anchor's pairs to its values, by the definition."""

import torch

from mmcontrast.hybrid.pair_sums import PairSums, stack_contrasts, sum_over_partners, term_values
from mmcontrast.hybrid.settings import Settings
from mmcontrast.reductions import Reduction
from tests.mmcontrast.strategies import close, normal

M = 3


def test_contrasts_are_those_that_have_a_target():
    both = stack_contrasts({"intra": 1.0, "inter": 0.8}, M, like=normal(1, 1))
    assert both.partners.tolist() == [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 1, 1], [1, 0, 1], [1, 1, 0]],
    ]
    assert both.targets.tolist() == [[1.0], [0.8]]
    (partners,), _ = stack_contrasts({"inter": 0.5}, M, like=normal(1, 1))
    assert torch.equal(partners, both.partners[1])


def test_a_modality_is_summed_over_its_partners():
    x = normal(1, 5, M, M)
    partners, _ = stack_contrasts({"intra": 1.0, "inter": 0.8}, M, like=x)
    expected = torch.stack([(x * of_one).sum(2) for of_one in partners], dim=1)
    close(sum_over_partners(x, partners), expected)


def test_values_of_one_anchor_are_the_ratio_and_the_mean_error():
    """Positives 2 of 3 similarities in all; errors 0.6 over 4 positives; anchors without either."""
    one = torch.ones(3, 1, 1, dtype=torch.float64)
    counts = (
        torch.tensor([4.0, 4.0, 0.0]).view(3, 1, 1),
        torch.tensor([1.0, 0.0, 2.0]).view(3, 1, 1),
    )
    sums = PairSums(2 * one, one, 0.6 * one, *counts)
    plain, log = (
        Settings(True, log, None, "selected", None, Reduction("mean")) for log in (False, True)
    )
    values = term_values(sums, plain)
    assert values.contrasted.flatten().tolist() == [True, False, False]
    assert values.refined.flatten().tolist() == [True, True, False]
    close(values.ratio[0].flatten(), [-2 / 3])
    close(values.refinement[:2].flatten(), [0.15, 0.15])
    close(term_values(sums, log).ratio[0].exp().flatten(), [1.5])


def test_anchors_whose_sums_are_uncertain_are_told():
    """Too near 0 for their dtype, too large, or what is left of what cancels."""
    settings = Settings(True, False, None, "selected", None, Reduction("mean"))
    positives = torch.tensor([1.0, 1e-35, 1e38, 1.0, 1e-35]).view(5, 1, 1)
    negatives = torch.tensor([1.0, 1e-35, 3.4e38, 1.0, 0.0]).view(5, 1, 1)
    one, none = torch.ones(5, 1, 1), torch.tensor([1.0, 1, 1, 1, 0]).view(5, 1, 1)
    left = torch.tensor([True, True, True, False, True]).view(5, 1, 1)
    sums = PairSums(positives, negatives, one, one, none, left)
    assert term_values(sums, settings).certain.flatten().tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]
    wide = PairSums(*(x.double() for x in sums[:-1]))
    assert term_values(wide, settings).certain.all()

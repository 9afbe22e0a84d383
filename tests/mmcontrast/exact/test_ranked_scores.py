"""Who takes part in Rank-N-Contrast."""

import torch

from mmcontrast.exact.ranked_scores import Scores


def test_counted_anchors_have_somebody_to_be_compared_with():
    rated = torch.tensor([True, False, True])
    zeros = torch.zeros(3, 1)
    own = torch.arange(3)
    among = Scores(zeros, zeros, rated, rated, own, 0.0)
    assert among.counted().tolist() == [True, False, True]
    alone = torch.tensor([True, False, False])
    assert not Scores(zeros, zeros, alone, alone, own, 0.0).counted().any()
    between = Scores(zeros, zeros, alone, alone, None, 0.0)
    assert between.counted().tolist() == [True, False, False]

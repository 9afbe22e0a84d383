"""What the operator for triplets does with mapped rows; which is in test_triplet_mining."""

import torch

from mmcontrast.exact.batch_hard import hardest_triplets
from tests.mmcontrast.strategies import close, normal


def test_triplets_of_rows_without_a_number_are_themselves():
    x, ids = normal(1, 6, 3), torch.tensor([0, 0, 1, 1, 0, 1])
    truth = hardest_triplets(x[1:], ids[1:], False, None, "", 0, None)
    x[0] = torch.nan
    for chunk_size in (None, 2):
        found = hardest_triplets(x, ids, False, chunk_size, "", 0, None)
        assert [each[0] for each in found] == [0, 0, 0]
        for mine, each in zip(found, truth, strict=True):
            close(mine[1:] - 1, each)

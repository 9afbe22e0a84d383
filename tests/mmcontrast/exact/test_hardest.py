"""What the miners' operators do with mapped rows; whom they pick is in ``test_mining``."""

import pytest
import torch

from mmcontrast.exact.hardest import hardest_candidates, hardest_triplets
from tests.mmcontrast.strategies import close, normal


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_candidates_of_raw_rows_keep_the_dtype_of_both(chunk_size):
    """Their products leave the range of a float32, in which the scores are returned."""
    x = torch.tensor([[1e30, 0.0], [0.0, 2e30], [1e30, 1e30]])
    none = (None,) * 4
    for y, dtype in ((x, torch.float32), (x.double(), torch.float64)):
        indices, scores, valid = hardest_candidates(
            *(x, y, 5, *none, "before", True, chunk_size, 0, "")
        )
        assert indices.tolist() == [[2, 1], [2, 0], [1, 0]]
        assert scores.dtype == dtype
        assert valid.all()


@pytest.mark.parametrize(("start", "indices"), [(0, [1, 0]), (1, [0, 1])])
def test_the_first_candidate_of_a_rank(start, indices):
    x, y = torch.eye(3)[:2], torch.eye(3)
    found = hardest_candidates(x, y, 1, *(None,) * 4, "before", False, None, start, "")
    assert found[0][:, 0].tolist() == indices


def test_triplets_of_rows_without_a_number_are_themselves():
    x, ids = normal(1, 6, 3), torch.tensor([0, 0, 1, 1, 0, 1])
    truth = hardest_triplets(x[1:], ids[1:], False, None, "")
    x[0] = torch.nan
    for chunk_size in (None, 2):
        found = hardest_triplets(x, ids, False, chunk_size, "")
        assert [each[0] for each in found] == [0, 0, 0]
        for mine, each in zip(found, truth, strict=True):
            close(mine[1:] - 1, each)

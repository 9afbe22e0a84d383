"""What the miner's operator does with mapped rows; whom they pick is in ``test_mining``."""

import pytest
import torch

from mmcontrast.exact.hardest import hardest_candidates
from mmcontrast.exact.limits import NO_LIMITS


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_candidates_of_raw_rows_keep_the_dtype_of_both(chunk_size):
    """Their products leave the range of a float32, in which the scores are returned."""
    x = torch.tensor([[1e30, 0.0], [0.0, 2e30], [1e30, 1e30]])
    none = (None,) * 4
    for y, dtype in ((x, torch.float32), (x.double(), torch.float64)):
        indices, scores, valid = hardest_candidates(
            *(x, y, 5, 0, *none, "before", True, chunk_size, 0, "", 0, *NO_LIMITS)
        )
        assert indices.tolist() == [[2, 1], [2, 0], [1, 0]]
        assert scores.dtype == dtype
        assert valid.all()


@pytest.mark.parametrize(("start", "indices"), [(0, [1, 0]), (1, [0, 1])])
def test_the_first_candidate_of_a_rank(start, indices):
    x, y = torch.eye(3)[:2], torch.eye(3)
    found = hardest_candidates(
        x, y, 1, 0, *(None,) * 4, "before", False, None, start, "", 0, *NO_LIMITS
    )
    assert found[0][:, 0].tolist() == indices

"""Which way Rank-N-Contrast takes, by its distance and chunk_size."""

import pytest

import mmcontrast as mm
from tests.mmcontrast.exact.ways import rows, taken
from tests.mmcontrast.strategies import normal


def own(x, y):
    return mm.euclidean(x, y)


@pytest.mark.parametrize(
    ("distance", "chunk_size", "way"),
    [
        (mm.euclidean, None, "ranked_in_one_pass"),
        (mm.euclidean, 2, "ranked_in_one_pass"),
        (own, None, "ranked_at_once"),
        (own, 2, "ranked_checkpointed"),
    ],
)
def test_gradients_come_in_the_same_pass_where_only_rows_have_any(distance, chunk_size, way):
    """A distance of the caller's own may have parameters."""
    settings = {"distance": distance, "chunk_size": chunk_size}
    assert taken(lambda: mm.rank_n_contrast(rows(6), normal(2, 6), **settings)) == [way]

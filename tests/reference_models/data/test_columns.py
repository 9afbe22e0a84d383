"""Sequences of different lengths in one array, and the scale of each by itself."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_models.data.columns import padded, standardize_rows
from reference_models.data.pickles import DataError

frame = st.tuples(*[st.sampled_from([0.0, 0.1, 1.5, -2.0])] * 2)
sequences = st.lists(st.lists(frame, max_size=5), min_size=1, max_size=5)


@given(sequences)
def test_sequences_are_padded_at_the_end(rows):
    arrays = [np.array(row) for row in rows]
    if not any(rows):
        with pytest.raises(DataError, match=r"here: expected frames \(D,\) .*got \[\]"):
            padded(arrays, "here", "zero")
        return
    out, mask = padded(arrays, "here", "zero")
    total = max(map(len, rows))
    assert out.shape == (len(rows), total, 2)
    assert (out.dtype, mask.dtype) == (np.float32, bool)
    for row, x, real in zip(rows, out, mask, strict=True):
        expected = [list(map(np.float32, f)) for f in row] + [[0, 0]] * (total - len(row))
        assert x.tolist() == expected
        here = any(value for f in row for value in f)
        assert real.tolist() == [here and step < len(row) for step in range(total)]


def test_padded_refuses_and_mends():
    rows = [np.array([[1.0, np.nan]]), np.array([[-np.inf, 0.0], [3.0, 4.0]])]
    out, mask = padded(rows, "here", "zero")
    assert out.tolist() == [[[1, 0], [0, 0]], [[0, 0], [3, 4]]]
    assert mask.tolist() == [[True, False], [True, True]]
    with pytest.raises(
        DataError, match="here: expected finite numbers, got 2 NaN or infinite in 2"
    ):
        padded(rows, "here", "raise")
    with pytest.raises(DataError, match=r"got \[\(2,\), \(3,\)\]"):
        padded([np.ones((1, 2)), np.ones((1, 3))], "here", "zero")
    with pytest.raises(DataError, match=r"got \[\(2, 2\)\]"):
        padded([np.ones((1, 2, 2))], "here", "zero")


@given(sequences)
def test_every_row_gets_its_own_scale(rows):
    if not any(rows):
        return
    out, mask = padded([np.array(row) for row in rows], "here", "zero")
    before = out.copy()
    standardize_rows(out, mask)
    for x, old, real in zip(out, before, mask, strict=True):
        assert not x[~real].any()
        for column, values in zip(x[real].T.tolist(), old[real].T.tolist(), strict=True):
            mean = math.fsum(values) / len(values) if values else 0
            square = math.fsum((v - mean) ** 2 for v in values)
            if len(set(values)) <= 1:
                assert column == [0] * len(values)
            else:
                std = math.sqrt(square / len(values))
                assert column == pytest.approx([(v - mean) / std for v in values], abs=1e-5)

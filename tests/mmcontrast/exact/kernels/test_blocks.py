"""Blocks for every width, and grids of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact import kernels
from mmcontrast.exact.kernels.blocks import TABLES, chosen, split


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 300))
def test_a_split_is_into_no_more_than_there_are(tall, wide, programs):
    p, q = split(tall, wide, programs)
    assert 1 <= p <= tall
    assert 1 <= q <= wide
    assert p * q <= programs


@given(st.integers(64, 300), st.integers(0, 2000), st.integers(0, 2000))
def test_a_split_of_many_blocks_is_even_and_near_the_square(programs, more, others):
    tall, wide = 4 * programs + more, 4 * programs + others
    p, q = split(tall, wide, programs)
    assert math.ceil(tall / p) * math.ceil(wide / q) <= 1.15 * tall * wide / programs
    assert p + q <= 0.3 * programs  # lines of partial sums; strips would take programs + 1


@pytest.mark.parametrize("precision", kernels.PRECISIONS)
@pytest.mark.parametrize("gradient", [False, True])
def test_the_table_has_blocks_for_every_width(precision, gradient):
    table = TABLES[precision][gradient]
    assert list(table) == sorted(table)
    for d in (1, 63, 64, 65, 300, 512, 513, 100_000):
        blocks = chosen(d, precision, gradient=gradient)
        assert blocks in table.values()
        for size in (*blocks[:3], blocks.width if gradient else 16):
            assert size >= 16
            assert size & (size - 1) == 0
    assert chosen(64, precision, gradient=gradient) == table[64] if 64 in table else True
    for most, blocks in table.items():
        if gradient and blocks.depth >= most:  # the rows of y serve both products
            assert blocks.depth == blocks.width

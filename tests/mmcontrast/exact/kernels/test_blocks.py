"""Blocks for every width, and grids of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact import kernels
from mmcontrast.exact.kernels.blocks import chosen, generation, split
from tests.mmcontrast.exact.kernels.compiling import room


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


every_table = pytest.mark.parametrize(
    ("capability", "precision", "gradient"),
    [
        (capability, precision, gradient)
        for capability in ((8, 0), (8, 6), (9, 0), (10, 0), (12, 0))
        for precision in kernels.PRECISIONS
        for gradient in (False, True)
    ],
)


@every_table
def test_the_table_has_blocks_for_every_width(capability, precision, gradient):
    table = generation(capability).tables(precision)[gradient]
    assert list(table) == sorted(table)
    for d in (1, 63, 64, 65, 300, 512, 513, 100_000):
        blocks = chosen(d, precision, gradient=gradient, capability=capability)
        assert blocks in table.values()
        for size in (*blocks[:3], blocks.width if gradient else 16):
            assert size >= 16
            assert size & (size - 1) == 0
        assert bool(blocks.width) == gradient
    options = {"gradient": gradient, "capability": capability}
    for most, blocks in table.items():
        assert most & (most - 1) == 0
        assert chosen(most, precision, **options) == blocks
        if gradient and blocks.depth >= most:  # the rows of y serve both products
            assert blocks.depth == blocks.width


@every_table
def test_blocks_of_every_width_fit_the_shared_memory(capability, precision, gradient):
    most = generation(capability).shared
    for d in (*range(1, 1100), 2048, 8192, 100_000):
        blocks = chosen(d, precision, gradient=gradient, capability=capability)
        assert room(blocks, d, precision, capability) <= most, (d, blocks)


@every_table
def test_a_program_has_the_registers_for_its_sums(capability, precision, gradient):
    """Of 255 for each of 32 threads a warp; where sums are in a memory of their own, its 512."""
    for blocks in generation(capability).tables(precision)[gradient].values():
        sums = blocks.rows * (blocks.width or blocks.columns)
        assert sums <= 128 * 32 * blocks.warps
        assert blocks.warps in (4, 8)


def test_each_gpu_has_its_generation():
    assert generation((8, 0)) == generation((8, 7)) != generation((8, 6))
    assert generation((8, 6)) == generation((8, 9)) == generation((12, 0)) == generation((12, 1))
    assert generation((10, 0)) == generation((10, 3)) == generation((11, 0))
    shared = {c: generation(c).shared // 1024 for c in ((8, 0), (8, 6), (9, 0), (10, 0), (12, 0))}
    assert list(shared.values()) == [163, 99, 227, 227, 99]
    assert generation((7, 5)) is generation((13, 0)) is None

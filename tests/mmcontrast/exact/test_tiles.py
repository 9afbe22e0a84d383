"""Tiles: how many rows at a time, and what is made of them."""

import pytest

from mmcontrast.exact.choose import rows_at_a_time
from tests.mmcontrast.exact.ways import FORMS, Allocations, every_form
from tests.mmcontrast.memory import peak
from tests.mmcontrast.strategies import leaf, normal


@pytest.mark.parametrize(
    ("rows", "columns", "chunk_size", "expected"),
    [
        (181, 181, None, None),
        (100, 100, 99, 99),
        (100, 100, 100, None),
        (100, 100, 1000, None),
        (100, 0, 1, None),
        (0, 100, 1, None),
        (4096, 4096, None, 256),
        (256, 127, None, None),
        (256, 128, None, 512),
        (65536, 65536, None, 32),
        (4096, 10**7, None, 32),
        (1, 2**18, None, 32),
    ],
)
def test_how_many_rows_at_a_time(rows, columns, chunk_size, expected):
    assert rows_at_a_time(rows, columns, chunk_size) == expected


@every_form
def test_no_tensor_is_larger_than_a_tile_or_the_inputs(form):
    n, d, tile = 96, 4, 16
    x, y = leaf(normal(1, n, d)), leaf(normal(2, n, d))
    with Allocations() as made:
        FORMS[form](x, y, chunk_size=tile).backward()
    assert made.largest == (tile * n if form == "one way" else n * d)


@every_form
def test_the_products_are_counted(form):
    """4 of N N D for both directions; 3 for one, and for the sigmoid."""
    x, y = leaf(normal(1, 12, 3)), leaf(normal(2, 12, 3))
    with Allocations() as made:
        FORMS[form](x, y, temperature=1.0, chunk_size=4).backward()
    tiles = 3 if form == "one way" else 9
    assert made.products == tiles * (4 if form == "symmetric" else 3)


@every_form
def test_memory_grows_with_the_batch_and_not_with_its_square(form):
    def of(n):
        x, y = leaf(normal(1, n, 8).float()), leaf(normal(2, n, 8).float())
        return peak(lambda: FORMS[form](x, y, normalize=None, chunk_size=8).backward())

    few, many = of(64), of(512)
    assert 0 < many < 9 * few
    assert many < 512 * 512

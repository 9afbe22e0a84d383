"""Tiles against the whole matrix, how many rows at a time, and what is made of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.exact import sizes
from mmcontrast.exact.choose import rows_at_a_time
from mmcontrast.exact.tiles import (
    any_of,
    as_bytes,
    exclude,
    largest_octave,
    map_in_pieces,
    rows_in_cache,
    scalar,
    slices,
    temperature_gradient,
    tiles,
)
from mmcontrast.rows import l2_normalize
from tests.mmcontrast.exact.ways import FORMS, Allocations, every_form
from tests.mmcontrast.memory import peak
from tests.mmcontrast.strategies import close, gradients, leaf, mask, normal, seeds

# --- the tiles -----------------------------------------------------------------------------------

numbers = st.none() | st.sampled_from([0.0, 0.5, -3.0])


def product(x, y):
    """Each dot product by itself."""
    return torch.stack([torch.stack([(a * b).sum() for b in y]) for a in x])


@given(
    seed=seeds,
    b=st.integers(1, 9),
    c=st.integers(1, 9),
    d=st.integers(1, 4),
    sides=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    scale=numbers,
    add=numbers,
    alpha=st.sampled_from([1.0, 0.25, -2.0]),
    flat=st.booleans(),
)
def test_tiles_are_the_whole_product(seed, b, c, d, sides, scale, add, alpha, flat):
    """Of sides that divide the matrix and of others; every place once, in one piece of memory."""
    x, y = normal(seed, b, d), normal(seed + 1, c, d)
    whole = product(x, y) * alpha * (1 if scale is None else scale) + (add or 0)
    given_scale = None if scale is None else torch.tensor(scale, dtype=torch.float64)
    given_add = None if add is None else torch.tensor([add] if flat else add, dtype=torch.float64)
    found, seen, places = torch.full((b, c), torch.nan, dtype=torch.float64), 0, set()
    for i, j, tile in tiles(x, y, sides, scale=given_scale, add=given_add, alpha=alpha):
        assert tile.shape == (i.stop - i.start, j.stop - j.start)
        assert tile.shape[0] <= sides[0]
        assert tile.shape[1] <= sides[1]
        found[i, j] = tile
        seen += tile.numel()
        places.add(tile.data_ptr())
    close(found, whole)
    assert seen == b * c
    assert len(places) == 1


@given(seed=seeds, n=st.integers(1, 9), side=st.integers(1, 11))
def test_upper_tiles_are_those_on_and_above_the_diagonal(seed, n, side):
    x = normal(seed, n, 3)
    found, seen = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, n)
    for i, j, tile in tiles(x, x, (side, side), upper=True):
        found[i, j] = tile
        seen[i, j] += 1
    block = torch.arange(n) // side
    expected = block[:, None] <= block
    assert torch.equal(seen, expected.float())
    close(found, torch.where(expected, product(x, x), 0))


def test_a_tile_is_overwritten_by_the_next():
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[5.0]])
    made = tiles(x, y, (1, 1))
    (_, _, first), (_, _, second) = made
    assert first.tolist() == second.tolist() == [[10.0]]


@pytest.mark.parametrize(("b", "c"), [(0, 3), (3, 0), (0, 0)])
def test_of_no_rows_or_no_columns_there_are_no_tiles(b, c):
    assert list(tiles(torch.ones(b, 2), torch.ones(c, 2), (2, 2))) == []


@given(size=st.integers(0, 20), step=st.integers(1, 25), start=st.integers(0, 20))
def test_slices_cover_an_axis(size, step, start):
    found = list(slices(size, step, start=start))
    assert [k for i in found for k in range(i.start, i.stop)] == list(range(start, size))
    assert all(i.stop - i.start == step for i in found[:-1])


def test_a_block_fills_the_cache_and_has_at_least_32_rows(monkeypatch):
    monkeypatch.setattr(sizes, "BLOCK", 6400)
    assert [rows_in_cache(columns) for columns in (0, 1, 64, 200, 201, 10**6)] == [
        *(6400, 6400, 100, 32, 32, 32)
    ]


# --- what is made of rows ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 5, 6, 7])
@pytest.mark.parametrize("normalize", [l2_normalize, None])
def test_rows_mapped_in_pieces_are_rows_mapped_at_once(n, normalize):
    x, most = normal(1, n, 3), []

    def watched(rows):
        most.append(len(rows))
        return normalize(rows)

    upstream = normal(2, n, 3)
    value, (gradient,) = gradients(
        lambda x: (map_in_pieces(x, normalize and watched, 3) * upstream).sum(), x
    )
    expected, (slope,) = gradients(
        lambda x: ((normalize(x) if normalize else x) * upstream).sum(), x
    )
    close(value, expected)
    close(gradient, slope)
    assert sum(most) == (n if normalize else 0)
    assert max(most, default=0) <= 3


def test_rows_that_nothing_maps_are_not_copied():
    x = normal(1, 5, 3)
    assert map_in_pieces(x, None, 2).data_ptr() == x.data_ptr()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_rows_mapped_in_pieces_are_upcast(dtype):
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    for size in (2, 10):
        assert map_in_pieces(normal(1, 5, 3).to(dtype), None, size).dtype == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scalar_has_the_dtype_of_the_rows(dtype):
    x = torch.ones(2, 3, dtype=dtype)
    for value in (0.3, 2, torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.3)):
        found = scalar(value, x)
        assert found.shape == ()
        assert found.dtype == dtype
        assert float(found) == pytest.approx(float(value), rel=1e-7)
    assert scalar(0.3, x.to("meta")).device.type == "meta"


def test_a_scalar_that_is_a_tensor_keeps_its_graph_and_device():
    value = leaf(torch.tensor(0.3, dtype=torch.float64))
    found = scalar(value, torch.ones(2, 3, device="meta"))
    assert found.device.type == "cpu"
    (5 * found).backward()
    assert value.grad == 5


@given(
    seed=seeds,
    b=st.integers(1, 5),
    c=st.integers(1, 5),
    scale=st.sampled_from([0.1, 1.0, 20.0]),
)
def test_no_logit_is_above_the_largest_octave(seed, b, c, scale):
    x, y = normal(seed, b, 3), normal(seed + 1, c, 3)
    for given_scale in (scale, torch.tensor(scale, dtype=torch.float64)):
        found = largest_octave(x, y, given_scale)
        assert found.shape == ()
        assert (scale * product(x, y)).abs().max() <= found * (1 + 1e-12)


def test_the_largest_octave_is_reached_by_the_longest_rows():
    """Rows of length 5 and 13 in one direction: their product is 65."""
    x = torch.tensor([[3.0, 4.0], [-1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 2.0], [7.8, 10.4]], dtype=torch.float64)
    close(largest_octave(x, y, 2.0), 130.0)
    close(largest_octave(x, -y, 2.0), 130.0)


@given(
    seed=seeds,
    b=st.integers(1, 7),
    c=st.integers(1, 5),
    temperature=st.sampled_from([0.05, 0.4, 3.0]),
    step=st.none() | st.integers(1, 9),
)
def test_the_temperatures_gradient_follows_from_the_rows(seed, b, c, temperature, step):
    """Of any function of x y / t: here a weighted sum of tangents."""
    x, y, t = normal(seed, b, 3), normal(seed + 1, c, 3), torch.tensor(temperature).double()
    weights = normal(seed + 2, b, c)
    _, (gx, gt) = gradients(lambda x, t: (weights * (x @ y.T / t).tanh()).sum(), x, t)
    found = temperature_gradient(x, gx, t, step)
    assert found.shape == ()
    close(found, gt, atol=1e-10 / temperature)


def test_of_no_rows_the_temperatures_gradient_is_zero(monkeypatch):
    nobody, t = torch.zeros(0, 3), torch.tensor(0.5)
    assert temperature_gradient(nobody, nobody, t) == 0
    monkeypatch.setattr(sizes, "TILE", 2)  # the pieces where no step is given
    close(temperature_gradient(torch.ones(5, 3), torch.ones(5, 3), t), -30.0)


# --- how many rows, and what losses make of them -------------------------------------------------


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
        return peak(lambda: FORMS[form](x, y, normalize=None, chunk_size=32).backward())

    few, many = of(32), of(256)
    assert 0 < many < 9 * few
    assert many < 256 * 256


def test_the_bytes_of_a_mask_share_its_memory():
    given = torch.tensor([[True, False, True], [False, False, True]]).mT
    found = as_bytes(given)
    assert found.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert found.data_ptr() == given.data_ptr()
    numbers = normal(1, 3)
    assert as_bytes(numbers) is numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 3.0, 1e20])
def test_what_is_excluded_has_no_exponential_and_the_rest_every_bit(dtype, size):
    octaves = normal(1, 4, 5).to(dtype) * size
    keep = normal(2, 4, 5) > 0
    found = octaves.clone()
    exclude(found, keep)
    assert torch.equal(found[keep], octaves[keep])
    shift = found.amax(1, keepdim=True)
    assert (found[~keep].exp2() == 0).all()
    assert ((found - shift)[~keep].exp2() == 0).all()
    assert (0 * found == 0).all()


def test_a_mask_takes_little_memory_and_may_be_of_a_row():
    octaves, keep = torch.zeros(512, 1024), torch.arange(1024)[None] % 3 > 0
    exclude(octaves, keep)
    assert ((octaves.exp2() == 1) == keep).all()
    every = keep.repeat(512, 1)
    assert peak(lambda: exclude(octaves, every)) < octaves.nbytes / 2


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0), (0, 0)])
def test_any_of_is_any(axis, shape):
    for share in (0.0, 0.3, 1.0):
        for some in (mask(1, *shape, share=share), mask(1, *shape[::-1], share=share).mT):
            assert torch.equal(any_of(some, axis), some.any(axis))

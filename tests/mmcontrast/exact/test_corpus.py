"""Candidates of any kind, in any block: the same rows, bit for bit."""

import pytest
import torch

import mmcontrast as mm
from mmcontrast.exact.corpus import Corpus, map_each_row
from tests.mmcontrast.strategies import normal

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_an_array_is_read_as_the_tensor_of_its_numbers(dtype):
    array = normal(1, 9, 3).numpy().astype(dtype)
    array.setflags(write=False)
    truth = torch.from_numpy(array.astype(dtype.replace(">", "<")))
    corpus, places = Corpus(array, None, CPU), torch.tensor([4, 4, 0])
    wide = truth if dtype == "<f8" else truth.float()
    assert torch.equal(corpus.part(slice(2, 5), wide), wide[2:5])
    assert torch.equal(corpus.part(places, wide), wide[places])
    assert torch.equal(corpus.whole(), wide)
    assert corpus.is_wide() == (dtype == "<f8")
    unit = Corpus(array, mm.l2_normalize, CPU).part(slice(0, 9), wide)
    assert torch.equal(unit, mm.l2_normalize(truth))


@pytest.mark.parametrize("normalize", [mm.l2_normalize, mm.shifted_cosine_normalize, None])
@pytest.mark.parametrize("other", [0.0, 1e-30, 1e30, torch.nan])
def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(normalize, other):
    x = normal(1, 50, 37).float()
    beside = torch.cat([x, torch.full((1, 37), other)])
    mapped = map_each_row(beside, normalize)
    assert torch.equal(mapped[:50], map_each_row(x, normalize))
    alone = torch.cat([map_each_row(row[None], normalize) for row in beside])
    torch.testing.assert_close(mapped, alone, rtol=0, atol=0, equal_nan=True)


def test_no_rows():
    assert map_each_row(torch.ones(0, 3), mm.l2_normalize).shape == (0, 3)

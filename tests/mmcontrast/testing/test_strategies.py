"""The strategies draw what they say, and shrink to what can be read."""

import hypothesis
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.testing import (
    Traits,
    labelled_embeddings,
    masks,
    modal_batches,
    paired_embeddings,
    strategies,
    temperatures,
)
from mmcontrast.testing.traits import ALL_KINDS, KINDS


def smallest(strategy, condition=lambda x: True):
    settings = hypothesis.settings(database=None, derandomize=True, max_examples=500)
    return hypothesis.find(strategy, condition, settings=settings)


@given(paired_embeddings(min_size=2, max_size=5, min_features=2, max_features=3))
def test_pairs(pair):
    a, b = pair
    assert a.shape == b.shape
    assert 2 <= len(a) <= 5
    assert 2 <= a.shape[1] <= 3
    for x in pair:
        assert x.dtype == torch.float64
        assert x.isfinite().all()
        assert (x != 0).any(1).all()


@given(labelled_embeddings(classes=2))
def test_labels(batch):
    z, labels = batch
    assert z.shape[:1] == labels.shape
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) <= {0, 1}


@given(modal_batches(names=("x", "y")))
def test_modalities(features):
    assert list(features) == ["x", "y"]
    assert len({x.shape for x in features.values()}) == 1


@given(temperatures(), masks(2, 3))
def test_temperatures_and_masks(temperature, mask):
    assert 0.01 <= temperature <= 1
    assert mask.shape == (2, 3)
    assert mask.dtype == torch.bool


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_temperatures_reach_their_ends(temperature):
    assert smallest(temperatures(), lambda x: x == temperature) == temperature


@pytest.mark.parametrize("entry", [-3.0, -0.5, 0.0, 1.5, 3.0])
def test_entries_of_the_grid_have_both_signs(entry):
    assert smallest(strategies.rows(1, 2, ("grid",)), lambda x: x[0, 1].item() == entry) is not None


@pytest.mark.parametrize("kind", ALL_KINDS)
@given(data=st.data())
def test_generic_batches_have_no_equal_rows(kind, data):
    batch = data.draw(strategies.batches(Traits(kind=kind), generic=True))
    rows = torch.cat(list(batch.rows.values()))
    assert len(rows.unique(dim=0)) == len(rows)
    assert batch.features >= 2


@pytest.mark.parametrize("kind", ["paired", "miner", "distance"])
def test_partners_may_be_opposite(kind):
    """Of rows no two of which are of one line, as rows that are drawn apart hardly are."""

    def opposite(batch):
        a, b = batch.rows.values()
        return torch.equal(a, -b) and len(F.normalize(a).abs().unique(dim=0)) > 3

    smallest(strategies.batches(Traits(kind=kind)), opposite)


@pytest.mark.parametrize("kind", KINDS)  # the others' are drawn as one of theirs
def test_batches_shrink_to_two_samples_of_ones(kind):
    batch = smallest(strategies.batches(Traits(kind=kind)))
    for x in batch.rows.values():
        assert x.tolist() == [[1.0], [1.0]]


def test_rows_shrink_to_few_digits():
    x = smallest(strategies.rows(2, 2), lambda x: bool((x[0] != x[1]).all()))
    assert sorted(x.flatten().tolist()) in (
        [0.0, 0.0, 0.5, 1.0],
        [0.0, 0.5, 1.0, 1.0],
        [0.0, 0.0, 0.5, 0.5],
    )


@pytest.mark.parametrize("shape", strategies.SHAPES)
def test_each_shape_is_what_its_name_says(shape):
    x = smallest(strategies.rows(4, 3, (shape,)))
    lengths = x.norm(dim=1)
    cosines = (x / lengths[:, None]) @ (x / lengths[:, None]).T
    says = {
        "grid": (2 * x == (2 * x).round()).all(),
        "gauss": torch.linalg.matrix_rank(x) == 3,
        "aligned": (cosines > 0.99).all(),
        "duplicate": torch.equal(x[0], x[1]) and torch.equal(x[2], x[3]),
        "poles": torch.equal(x[0], -x[1]),
        "tiny": (lengths < 1e-2).all(),
        "huge": (lengths > 1e2).all(),
        "one_direction": (cosines > 1 - 1e-12).all() and len(lengths.unique()) > 1,
    }
    assert says[shape]


def test_another_shape():
    with pytest.raises(ValueError, match="shapes: expected one of"):
        smallest(strategies.rows(2, 2, ("square",)))

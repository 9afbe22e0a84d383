"""HyCon's losses in blocks of similarities against all of them at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests.mmcontrast.hybrid.evaluations import batches, by_pairs, entries, loss, options
from tests.mmcontrast.strategies import close, gradients, mask, modalities, normal

SELECTIONS = [
    mm.PairSelection(0.4),
    mm.PairSelection(0.3, positives=False, inter_factor=2),
    mm.PairSelection(0.3, negatives=False, unselected="sum"),
]


@given(
    batch=batches, chosen=options, step=st.integers(1, 12), selection=st.sampled_from(SELECTIONS)
)
def test_blocks_are_the_whole(batch, chosen, step, selection):
    """Selection needs the similarities, but those of a few anchors at a time will do."""
    function, inputs = loss(
        batch["features"],
        batch["labels"],
        present=batch["present"],
        weight=batch["weight"],
        selection=selection,
        **chosen,
    )
    n = len(batch["labels"])
    with by_pairs():
        value, expected = gradients(function, *inputs)
    with by_pairs(block=step * n * len(batch["features"])):
        found_value, found = gradients(function, *inputs)
    close(found_value, value, atol=1e-12, rtol=1e-12)
    for gradient, reference in zip(found, expected, strict=True):
        close(gradient, reference, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("floating", [False, True])
def test_blocks_of_masks_and_weights(floating):
    features = modalities(1, 9, 3)
    masks = {"positives": mask(1, 9, 9), "negatives": mask(2, 9, 9)}
    if floating:
        masks = {name: x * normal(3, 9, 9).abs() for name, x in masks.items()}
    with by_pairs():
        expected = mm.hybrid_contrast(features, None, reduction="none", **masks).total
    with by_pairs(block=27 * 2):
        found = mm.hybrid_contrast(features, None, reduction="none", **masks).total
    close(found, expected, atol=1e-12)


def test_no_block_of_similarities_is_larger_than_it_may():
    with by_pairs(block=3 * 120 * 10):
        assert entries(120, 3, mm.PairSelection()).largest <= 3 * 120 * 10

"""HyCon's losses and what they are tried on."""

import pytest
from hypothesis import strategies as st

import mmcontrast as mm
from tests.mmcontrast.strategies import modal_batches

NORMALIZE = {
    "softmax": mm.softmax_normalize,
    "shifted_cosine": mm.shifted_cosine_normalize,
    "softplus": mm.softplus_normalize,
}
SUPERVISED = {"intra": mm.intra_modal_contrast, "inter": mm.inter_modal_contrast}
every_supervised = pytest.mark.parametrize("kind", SUPERVISED)
selections = st.none() | st.builds(
    mm.PairSelection,
    fraction=st.sampled_from([0.01, 0.2, 0.34, 0.5, 0.7, 1.0]),
    gamma=st.sampled_from([0.05, 1.0, 3.0]),
    positives=st.booleans(),
    negatives=st.booleans(),
    unselected=st.sampled_from(["mean", "sum"]),
    inter_factor=st.sampled_from([1, 2]),
)


def plain(selection):
    """The selection as the oracles take it."""
    return None if selection is None else vars(selection).copy()


batches = modal_batches(7, 3)


def split(batch):
    return (batch["features"], batch["labels"]), {
        "present": batch["present"],
        "weight": batch["weight"],
    }

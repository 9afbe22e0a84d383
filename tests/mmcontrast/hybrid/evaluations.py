"""HyCon's losses by class moments or by pairs, as a test asks, and what they are tried on."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast.exact import sizes as limits
from tests.mmcontrast.memory import Made
from tests.mmcontrast.strategies import gradients, labels, modal_batches, modalities


@contextmanager
def sizes(batch=1, least=1, part=4096, block=2**22):
    """Where moments begin, for batches and classes, and what is done at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MOMENTS", batch)
        patch.setattr(limits, "MOMENTS_CLASS", least)
        patch.setattr(limits, "MOMENTS_PART", part)
        patch.setattr(limits, "SIMILARITIES", block)
        yield


def by_pairs(block=2**22):
    """The plain form, of the whole batch or of some anchors at a time."""
    return sizes(batch=10**9, block=block)


batches = modal_batches(12, 6)
options = st.fixed_dictionaries(
    {
        "margin": st.sampled_from([0.0, 0.5, 0.8, 1.0]),
        "refine": st.booleans(),
        "log": st.booleans(),
        "reduction": st.sampled_from(["mean", "sum", "none"]),
    }
)
cuts = st.fixed_dictionaries({"least": st.integers(1, 13), "part": st.integers(1, 13)})


def loss(features, classes, *, upstream=1.0, **chosen):
    """A function of the features and of the weight, if any, with its inputs."""
    weight = chosen.pop("weight", None)
    inputs = [*features.values()] + ([] if weight is None else [weight])

    def function(*x):
        moved = dict(zip(features, x, strict=False))
        weighing = None if weight is None else x[-1]
        terms = mm.hybrid_contrast(moved, classes, weight=weighing, **chosen)
        steps = torch.arange(1, terms.total.numel() + 1).view_as(terms.total)
        return upstream * (terms.total * steps).sum()

    return function, inputs


def entries(n, classes, selection=None):
    function, inputs = loss(modalities(1, n, 8), labels(1, n, classes), selection=selection)
    with Made() as made:
        gradients(function, *inputs)
    return made

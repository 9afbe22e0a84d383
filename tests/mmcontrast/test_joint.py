"""Joint contrast of several modalities against float64 loops, over ranks too, and its laws."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.infonce_inputs import reductions
from tests.mmcontrast.strategies import (
    MODALITIES,
    close,
    gradients,
    leaf,
    modalities,
    normal,
    nothing_of,
    numpy,
    orthogonal,
    presence,
    rng,
    seeds,
    temperatures,
)

FOUR = ("smell", *MODALITIES)
KINDS = {
    "shuffled": {"negatives": "shuffled"},
    "all": {"negatives": "all"},
    "volume": {"score": "volume"},
    "area": {"score": "area"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
kinds = st.sampled_from(list(KINDS))


def joint(features, kind, seed=0, **options):
    """The same draws at every call."""
    return mm.joint_contrast(features, **KINDS[kind], **options, generator=rng(seed))


def orders(names, n, seed, anchor=None):
    """What the function draws: for each anchor, an order for each other modality."""
    source = rng(seed)
    return {
        name: {other: torch.randperm(n, generator=source) for other in names if other != name}
        for name in (names if anchor is None else [anchor])
    }


def total(names, kind, **options):
    """A function of the rows alone."""
    return lambda *x: joint(dict(zip(names, x, strict=True)), kind, **options).total


@given(
    seed=seeds,
    n=st.integers(1, 5),
    d=st.integers(1, 5),
    names=st.sampled_from([("text", "audio"), MODALITIES, FOUR]),
    kind=kinds,
    anchor=st.sampled_from([None, "text", "audio"]),
    temperature=temperatures,
    normalize=st.sampled_from(["l2", None]),
    reduction=reductions,
    some_absent=st.booleans(),
    weighted=st.booleans(),
    chunk_size=st.none() | st.integers(1, 4),
)
def test_joint_contrast_agrees_with_the_oracle(
    seed,
    n,
    d,
    names,
    kind,
    anchor,
    temperature,
    normalize,
    reduction,
    some_absent,
    weighted,
    chunk_size,
):
    features = modalities(seed, n, d, names)
    options = {
        "present": presence(seed, n, names) if some_absent else None,
        "weight": normal(seed, n).abs() if weighted else None,
    }
    shared = {"anchor": anchor, "temperature": temperature, "reduction": reduction}
    terms = joint(
        features,
        kind,
        **shared,
        **options,
        normalize=mm.l2_normalize if normalize else None,
        chunk_size=chunk_size,
    )
    expected = oracles.joint_contrast(
        numpy(features),
        **KINDS[kind],
        **shared,
        **numpy(options),
        normalize=normalize,
        orders=orders(names, n, 0, anchor),
    )
    assert list(terms) == list(names if anchor is None else [anchor])
    # The root of a rounded square: where rows are dependent, half of the digits of a volume.
    loose = 1e-10 if kind in ("shuffled", "all") else 1e-5
    for name in terms:
        close(terms[name], expected[name], atol=loose)
    close(terms.total, sum(expected.values()) / len(expected), atol=loose)

"""HyCon's SCL against float64 loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.hybrid.losses import NORMALIZE, batches, split
from tests.mmcontrast.strategies import close, gradients, modalities, numpy


@given(
    batch=batches,
    margin=st.sampled_from([0.5, 0.8, 1.0]),
    normalize=st.sampled_from(list(NORMALIZE)),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_semi_contrast_agrees_with_the_oracle(batch, margin, normalize, reduction):
    (features, _), options = split(batch)
    expected = oracles.semi_contrast(
        numpy(features), margin=margin, normalize=normalize, reduction=reduction, **numpy(options)
    )
    close(
        mm.semi_contrast(
            features,
            margin=margin,
            normalize=NORMALIZE[normalize],
            reduction=reduction,
            **options,
        ),
        expected,
    )


@pytest.mark.parametrize("size", [1e-30, 1e10, 1e18, 1e30])
def test_raw_rows_of_every_size(size):
    features = {name: (x * size).float() for name, x in modalities(1, 4, 3).items()}

    def loss(*x):
        return mm.semi_contrast(dict(zip(features, x, strict=True)), normalize=None)

    value, found = gradients(loss, *features.values())
    wide, exact = gradients(loss, *[x.double() for x in features.values()])
    most = torch.finfo(torch.float32).max
    close(value, wide.clamp(max=most), rtol=1e-5)
    for gradient, reference in zip(found, exact, strict=True):
        reference = reference.clamp(-most, most)
        close(gradient, reference, rtol=1e-5, atol=1e-6 * reference.abs().max().item())

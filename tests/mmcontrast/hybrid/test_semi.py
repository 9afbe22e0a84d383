"""HyCon's SCL against float64 loops."""

from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.hybrid.losses import NORMALIZE, batches, split
from tests.mmcontrast.strategies import close, numpy


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

"""Products with shuffled tuples in blocks, and with all tuples, against the plain forms."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from mmcontrast.exact.joint_products import (
    Shuffled,
    negatives_of_all_tuples,
    plain_negatives_of_all_tuples,
    plain_shuffled,
    shuffled_in_blocks,
)
from tests.mmcontrast.exact.ways import Allocations
from tests.mmcontrast.strategies import close, gradients, mask, normal, rng, seeds


@given(
    seed=seeds,
    n=st.integers(0, 6),
    more=st.integers(0, 5),
    start=st.integers(0, 5),
    temperature=st.sampled_from([0.01, 0.07, 1.0]),
    step=st.integers(1, 7),
    masked=st.booleans(),
    weighted=st.sampled_from(["each", "alike", "none"]),
)
def test_blocks_are_the_plain_form(seed, n, more, start, temperature, step, masked, weighted):
    """Of this rank's anchors and all ranks' candidates."""
    size = n + more
    again = torch.randint(0, max(size, 1), (n,), generator=rng(seed)) if size else None
    among = Shuffled(min(start, more), again, mask(seed, size) if masked else None)
    x, c, positive = normal(seed, n, 3), normal(seed + 1, size, 3), normal(seed + 2, n)
    t = torch.tensor(temperature, dtype=torch.float64)
    weight, share = normal(seed + 3, n), normal(seed + 4, n)
    if weighted == "alike":
        weight = torch.tensor(0.3, dtype=torch.float64)

    def blocks(x, c, positive, t, weight):
        given = None if weighted == "none" else weight
        found = shuffled_in_blocks(x, c, positive, t, given, among, step)
        return (found * share).sum() if weighted == "none" else found

    def plain(x, c, positive, t, weight):
        factor = share if weighted == "none" else weight
        return (plain_shuffled(x, c, positive, t, among) * factor).sum()

    value, found = gradients(blocks, x, c, positive, t, weight)
    expected, truth = gradients(plain, x, c, positive, t, weight)
    close(value, expected)
    for gradient, other in zip(found, truth, strict=True):
        close(gradient, other, atol=1e-8)


@given(
    seed=seeds,
    n=st.integers(0, 4),
    more=st.integers(0, 2),
    start=st.integers(0, 2),
    number=st.integers(2, 3),
    step=st.integers(1, 9) | st.integers(10, 300),
    masked=st.booleans(),
)
def test_all_tuples_some_at_a_time_are_the_plain_form(seed, n, more, start, number, step, masked):
    size = n + more
    x, others = normal(seed, n, 3), normal(seed + 1, size, number, 3)
    t, share = torch.tensor(0.2, dtype=torch.float64), normal(seed + 2, n)
    given = mask(seed, size, number, share=0.7) if masked else None, min(start, more)

    def summed(function, *settings):
        return gradients(
            lambda x, others, t: (
                share * function(x, others, t, *given, *settings).clamp_min(-1e6)
            ).sum(),
            *(x, others, t),
        )

    value, found = summed(negatives_of_all_tuples, step)
    expected, truth = summed(plain_negatives_of_all_tuples)
    close(value, expected)
    for gradient, other in zip(found, truth, strict=True):
        close(gradient, other, atol=1e-9)


def test_a_lead_of_any_size_keeps_its_digits_in_float32():
    """Minus the log of one minus a share of 1e-9 is that share, not 0."""
    x = torch.eye(4)
    features = {"text": x, "audio": x, "vision": x}
    for negatives in ("shuffled", "all"):
        given = {"negatives": negatives, "temperature": 0.04, "generator": rng(1)}
        found = mm.joint_contrast(features, **given).total
        wide = {name: x.double() for name, x in features.items()}
        expected = mm.joint_contrast(wide, **{**given, "generator": rng(1)}).total
        assert 0 < expected < 1e-6
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


def test_shuffled_tuples_take_three_products_and_a_block():
    features = {name: normal(k, 512, 8).float().requires_grad_() for k, name in enumerate("abc")}
    with Allocations() as made:
        mm.joint_contrast(features, anchor="a", chunk_size=32).total.backward()
    assert made.products == 3 * 512 // 32
    assert made.largest <= 512 * 32


def test_all_tuples_take_a_tile_of_memory():
    features = {name: normal(k, 24, 8).float().requires_grad_() for k, name in enumerate("abc")}
    with Allocations() as made:
        mm.joint_contrast(features, negatives="all", anchor="a", chunk_size=48).total.backward()
    assert made.products == 4 * 24**2 // 48
    assert made.largest <= 24 * 48


def test_places_lie_where_the_rows_do():
    with FakeTensorMode():
        rows = torch.ones(3, 5, device="meta")
        assert Shuffled(0, None, None).negatives(rows).device.type == "meta"

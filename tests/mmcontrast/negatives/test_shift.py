"""CorMulT's strategy B against a loop: shifted negatives."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast import shift
from tests import oracles
from tests.mmcontrast.negatives.batches import (
    ALPHA,
    batches,
    bits,
    check_form,
    full,
    options,
    real,
)
from tests.mmcontrast.strategies import mask, rng, seeds


@given(
    batch=batches(),
    seed=seeds,
    steps=st.integers(1, 6)
    | st.fixed_dictionaries({"audio": st.integers(1, 3)}, optional={"text": st.just(2)}),
    shift_all=st.booleans(),
    text=st.sampled_from(["text", "vision", "nothing"]),
)
def test_shift_agrees_with_the_oracle(batch, seed, steps, shift_all, text):
    features, _, masks, lengths = batch
    before = copy.deepcopy(batch)
    found = shift(
        features,
        steps=steps,
        shift_all=shift_all,
        text=text,
        padding_id=1,
        **options(batch),
        generator=rng(seed),
    )
    check_form(found, batch)
    marks = real(*batch)
    assert not found.altered["speaker"].any()
    for i in range(len(features["text"])):
        can = [name for name in ("text", "audio", "vision") if marks[name][i].sum() > 1]
        moved = [name for name, altered in found.altered.items() if altered[i]]
        if shift_all:
            assert moved == can
        else:
            others = [name for name in can if name != text]
            assert [name for name in moved if name == text] == [m for m in can if m == text]
            assert len([name for name in moved if name in others]) == bool(others)
        for name in moved:
            if isinstance(steps, dict):
                distance = steps.get(name, 1)
            else:
                distance = steps if shift_all or name != text else 1
            x = features[name]
            end = [0.0, 0.0] if x.is_floating_point() else 1
            expected, kept, ahead = oracles.shifted(
                bits(x[i]), marks[name][i].tolist(), distance, end
            )
            assert bits(found.features[name][i]) == expected
            if name in masks:
                assert found.masks[name][i].tolist() == kept
            if name in lengths:
                assert found.lengths[name][i] == lengths[name][i] - ahead
                assert found.lengths[name][i] >= 1 or name in masks
            assert any(kept)
    for now, then in zip(batch, before, strict=True):
        assert {m: bits(x) for m, x in now.items()} == {m: bits(x) for m, x in then.items()}


def test_c12_one_of_audio_and_vision_runs_ahead_and_the_text_by_one_token():
    features = full(400, t=6)
    found = shift(features, steps=3, generator=rng(22))
    assert found.altered["text"].all()
    assert torch.equal(found.features["text"][:, :5], features["text"][:, 1:])
    assert (found.features["text"][:, 5] == 0).all()
    assert torch.equal(found.altered["audio"], ~found.altered["vision"])
    for name in ("audio", "vision"):
        moved = found.altered[name]
        assert torch.equal(found.features[name][moved, :3], features[name][moved, 3:])
        assert (found.features[name][moved, 3:] == 0).all()


def test_shift_draws_uniformly_among_those_that_can_move():
    n = 20_000
    features = {name: torch.ones(n, 3, 1) for name in ("text", "a", "b", "c")}
    lengths = {"b": torch.full((n,), 3)}
    lengths["b"][: n // 2] = 1
    found = shift(features, lengths=lengths, generator=rng(23))
    counts = [
        int(found.altered[name][rows].sum())
        for rows in (slice(None, n // 2), slice(n // 2, None))
        for name in ("a", "b", "c")
    ]
    assert counts[1] == 0
    expected = [n / 4, n / 4, n / 6, n / 6, n / 6]
    assert oracles.p_value([counts[0], *counts[2:]], expected, 3) > ALPHA


def test_shift_all_draws_nothing_and_keeps_the_modalities_aligned():
    features, generator = full(3), rng(24)
    found = shift(features, steps=2, shift_all=True, generator=generator)
    assert torch.equal(generator.get_state(), rng(24).get_state())
    for name, x in features.items():
        assert torch.equal(found.features[name][:, :2], x[:, 2:])
        assert (found.features[name][:, 2:] == 0).all()


def test_shift_keeps_the_order_of_long_sequences():
    """A sort that is not stable shuffles equals from 17 entries on."""
    x, marks = torch.arange(200.0).reshape(2, 100, 1), mask(35, 2, 100)
    found = shift({"audio": x}, masks={"audio": marks})
    for i in range(2):
        expected, kept, _ = oracles.shifted(bits(x[i]), marks[i].tolist(), 1, [0.0])
        assert bits(found.features["audio"][i]) == expected
        assert found.masks["audio"][i].tolist() == kept


def test_shift_moves_the_named_modalities_only():
    found = shift(full(5), modalities=["vision"])
    assert found.altered["vision"].all()
    assert not found.altered["text"].any()
    assert not found.altered["audio"].any()
    found = shift(full(5), modalities=["text"])
    assert found.altered["text"].all()
    assert not found.altered["vision"].any()


# --- wrong calls ---------------------------------------------------------------------------------

F = {"text": torch.tensor([[4, 5], [6, 7]]), "audio": torch.rand(2, 3, 2), "face": torch.rand(2, 2)}
VECTORS = {"face": F["face"]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shift(VECTORS), r"features: expected a sequence to shift, .*got 'face': \(2, 2\)"),
        (lambda: shift(F, modalities=["face"]), "features: expected a sequence to shift, "),
        (lambda: shift(F, steps=0), "steps: expected an int of at least 1, got 0"),
        (lambda: shift(F, steps=1.5), "steps: expected an int of at least 1, got 1.5"),
        (
            lambda: shift(F, steps={"audio": -1}),
            r"steps\['audio'\]: expected an int of at least 1, got -1",
        ),
        (lambda: shift(F, steps={"face": 1}), "steps: expected one of 'text', 'audio', got 'face'"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Batches as sequences with masks."""

import math
from dataclasses import replace

import pytest
import torch

from reference_models.layers.inputs import check_sizes, sequences, widths
from tests.reference_models.batches import SIZES, batch_of, lacking, small_text_encoder


def test_sequences_are_zero_on_padding_and_absent_modalities():
    batch = lacking(batch_of(), audio=[2])
    features = {
        m: x.masked_fill(~batch.masks[m].unsqueeze(-1), math.nan) for m, x in batch.features.items()
    }
    found = sequences(replace(batch, features=features), ("audio", "vision"), None)
    assert list(found) == ["audio", "vision"]
    for name, (steps, mask) in found.items():
        assert torch.equal(mask, batch.masks[name] & batch.present[name].unsqueeze(1))
        assert not steps[~mask].any()
        assert torch.equal(steps[mask], batch.features[name][mask])
        assert torch.equal(found[name].present, mask.any(1))
    assert found["audio"].present.tolist() == [True, True, False, True, True, True]


def test_text_passes_its_encoder():
    batch, encoder = batch_of(encoded=True), small_text_encoder().eval()
    found = sequences(batch, ("text",), encoder)["text"]
    row = batch.features["text"][0, batch.masks["text"][0]]
    expected = encoder(row.unsqueeze(0)).last_hidden_state[0]
    torch.testing.assert_close(found.steps[0, found.mask[0]], expected)
    assert widths(SIZES, encoder) == {**SIZES, "text": 8}
    assert widths(SIZES, None) == SIZES


def test_a_batch_that_does_not_fit_is_refused():
    batch = batch_of(modalities=("text", "audio"))
    with pytest.raises(ValueError, match=r"batch: expected modalities \('vision',\), got"):
        sequences(batch, ("vision",), None)
    with pytest.raises(ValueError, match=r"features\['text'\]: expected features of shape"):
        sequences(batch_of(encoded=True), ("text",), None)
    with pytest.raises(ValueError, match=r"features\['text'\]: expected token ids of shape"):
        sequences(batch, ("text",), small_text_encoder())


@pytest.mark.parametrize(
    ("sizes", "encoder", "fewest", "message"),
    [
        ({"text": 3}, None, 2, "expected two or more of"),
        ({}, None, 1, "expected one or more of"),
        ({"text": 3, "smell": 2}, None, 2, "expected two or more of"),
        ({"audio": 3, "vision": 2}, small_text_encoder(), 2, "expected text, for its encoder, got"),
    ],
)
def test_sizes_that_no_network_can_have(sizes, encoder, fewest, message):
    with pytest.raises(ValueError, match=f"^sizes: {message}"):
        check_sizes(sizes, encoder, fewest=fewest)

"""MFON's network of one modality: alone, and as a teacher."""

from dataclasses import replace

import pytest
import torch

from tests.reference_models.batches import (
    THREE,
    real,
)
from tests.reference_models.mfon.test_network import apply_mlp, batch_of, network


def test_a_teacher_whose_own_labels_are_absent_says_so():
    model, batch = network(teacher_label="own"), batch_of()
    [stage, _] = model.stages()
    for own in ({}, {"vision": batch.unimodal_labels["vision"]}):
        message = rf"unimodal_labels: expected 'audio' among them, got \({'.*' if own else ''}\)"
        with pytest.raises(ValueError, match=message):
            stage.network(replace(batch, unimodal_labels=own))
    assert stage.network(replace(batch, labels=None, unimodal_labels={})).terms is None
    # The model itself learns the joint label.
    torch.testing.assert_close(
        model(replace(batch, unimodal_labels={})).terms.total, model(batch).terms.total
    )


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("name", THREE)
def test_one_modality_is_its_own_network(name, encoded):
    encoded = encoded and name == "text"
    model = network((name,), encoded=encoded).eval()
    batch = batch_of(modalities=(name,), encoded=encoded)
    output = model(batch)
    for row in range(6):
        if encoded:
            ids = batch.features[name][row, batch.masks[name][row]]
            x = model.alone.text_encoder(ids.unsqueeze(0)).last_hidden_state.double()
            mask = torch.ones(x.shape[:2], dtype=torch.bool)
        else:
            x, mask = real(batch, name, row)
        x = apply_mlp(model.alone.projection, x)
        if name != "text":
            x = model.alone.attention(x.float(), mask).double()
        expected = apply_mlp(model.alone.predictor, x[:, 0])[0, 0]
        torch.testing.assert_close(output.prediction[row].double(), expected, rtol=1e-4, atol=1e-5)
    trained = model.train()(batch)
    assert trained.terms.weights == {"task": 1.0, "distill": 0.0, "contrast": 0.0}
    trained.terms.total.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert output.fused.shape == (6, 16)

"""The plain baseline against its three lines written out."""

import math
from dataclasses import replace

import pytest
import torch

from reference_models.data.batch import Batch
from reference_models.text_only.network import TextOnly
from reference_models.text_only.settings import CHOICES, TextOnlyConfig
from tests.reference_models.batches import small_text_encoder

SMALL = {"dropout": 0.0}
SWITCHES = {"pool": ("mean", "first", "last"), "squared": (False, True)}
LENGTHS = (3, 1, 5, 2)


def network(*, encoded=False, **overrides):
    torch.manual_seed(5)
    text_encoder = small_text_encoder() if encoded else None
    return TextOnly(TextOnlyConfig(**{**SMALL, **overrides}), {"text": 6}, text_encoder)


def batch_of(*, encoded=False, head="regression"):
    source = torch.Generator().manual_seed(1)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    if encoded:
        x = torch.randint(4, 20, (4, 5), generator=source).masked_fill(~mask, 0)
    else:
        x = torch.randn(4, 5, 6, generator=source).masked_fill(~mask.unsqueeze(-1), 0)
    labels = {
        "regression": torch.randn(4, generator=source),
        "iemocap": torch.randint(0, 2, (4, 4), generator=source),
        "humor": torch.randint(0, 2, (4,), generator=source),
    }[head]
    present = torch.ones(4, dtype=torch.bool)
    return Batch({"text": x}, {"text": mask}, {"text": present}, labels, torch.arange(4))


@pytest.mark.parametrize("pool", CHOICES["pool"])
@pytest.mark.parametrize("encoded", [False, True])
def test_a_linear_layer_on_the_pooled_states(encoded, pool):
    model, batch = network(encoded=encoded, pool=pool).eval(), batch_of(encoded=encoded)
    output = model(batch)
    for row, length in enumerate(LENGTHS):
        states = batch.features["text"][row, :length]
        if encoded:
            states = model.text_encoder(states.unsqueeze(0)).last_hidden_state[0]
        chosen = {"mean": sum(states) / length, "first": states[0], "last": states[-1]}[pool]
        torch.testing.assert_close(output.fused[row], chosen, rtol=1e-4, atol=1e-5)
        expected = model.head.weight[0] @ chosen + model.head.bias[0]
        torch.testing.assert_close(output.prediction[row], expected, rtol=1e-4, atol=1e-5)
    assert output.prediction.shape == (4,)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_loss_is_the_tasks_alone(training, squared):
    model, batch = network(squared=squared).train(training), batch_of()
    output = model(batch)
    errors = [
        abs(p - y) for p, y in zip(output.prediction.tolist(), batch.labels.tolist(), strict=True)
    ]
    expected = sum(e * e for e in errors) if squared else sum(errors)
    assert list(output.terms) == ["task"]
    assert output.terms.total.item() == pytest.approx(expected / 4, rel=1e-5)
    assert model(replace(batch, labels=None)).terms is None


@pytest.mark.parametrize("head", CHOICES["head"])
@pytest.mark.parametrize("encoded", [False, True])
def test_every_head_learns(head, encoded):
    model, batch = network(encoded=encoded, head=head), batch_of(encoded=encoded, head=head)
    if encoded:
        model.eval()  # a scratch BERT has dropout
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(5):
        output = model(batch)
        optimizer.zero_grad()
        output.terms.total.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(output.terms.total.item())
    shape = {"regression": (4,), "iemocap": (4, 4, 2), "humor": (4, 2)}[head]
    assert output.prediction.shape == shape
    assert losses[-1] < losses[0]
    wrong = batch_of(encoded=encoded, head="regression" if head == "iemocap" else "iemocap")
    with pytest.raises(ValueError, match="labels: expected shape"):
        model(wrong)


def test_dropout_is_between_the_states_and_the_linear_layer():
    model, batch = network(dropout=0.5), batch_of()
    outputs = [model(batch) for _ in range(2)]
    assert torch.equal(outputs[0].fused, outputs[1].fused)
    assert not torch.equal(outputs[0].prediction, outputs[1].prediction)
    model.eval()
    assert torch.equal(model(batch).prediction, model(batch).prediction)


@pytest.mark.parametrize("pool", CHOICES["pool"])
@pytest.mark.parametrize("encoded", [False, True])
def test_neither_padding_nor_an_absent_text_is_read(encoded, pool):
    model, batch = network(encoded=encoded, pool=pool).eval(), batch_of(encoded=encoded)
    x, mask = batch.features["text"], batch.masks["text"]
    other = 10_000 if encoded else math.nan
    longer = torch.cat([x, x[:, :2]], 1)
    mask = torch.cat([mask, torch.zeros(4, 2, dtype=torch.bool)], 1)
    longer[~mask] = other
    longer[2] = other
    text = {"features": {"text": longer}, "masks": {"text": mask}}
    output = model(replace(batch, **text, present={"text": torch.arange(4) != 2}))
    rest = [0, 1, 3]
    torch.testing.assert_close(
        output.prediction[rest], model(batch).prediction[rest], rtol=1e-4, atol=1e-5
    )
    assert torch.equal(output.prediction[2], model.head.bias[0])
    output.terms.total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("sizes", [{}, {"audio": 5}, {"text": 6, "audio": 5}])
def test_anything_but_text_alone_is_refused(sizes):
    with pytest.raises(ValueError, match=r"sizes: expected text alone \(--modalities text\), got"):
        TextOnly(TextOnlyConfig(), sizes)


def test_a_batch_without_text_is_refused():
    batch = batch_of()
    renamed = replace(batch, features={"audio": batch.features["text"]})
    with pytest.raises(ValueError, match=r"batch: expected modalities \('text',\)"):
        network()(renamed)

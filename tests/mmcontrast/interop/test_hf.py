"""mmcontrast.interop.hf in transformers' own Trainer, with a tiny CLIP made from its config."""

import pytest
import torch

import mmcontrast as mm
from mmcontrast.interop import hf
from tests.mmcontrast.interop.hf_programs import clip, fields, loss, rows, trainer
from tests.mmcontrast.strategies import close

pytestmark = pytest.mark.filterwarnings("ignore")


def terms(outputs, labels):
    """Two named terms, the second half as heavy."""
    image, text = outputs["image_embeds"], outputs["text_embeds"]
    parts = {"there": mm.info_nce(image, text), "back": mm.info_nce(text, image)}
    return mm.LossTerms(parts, {"back": 0.5})


def by_hand(steps, rate):
    """Plain SGD with the mean of the losses of each step's batches."""
    model = clip()
    for batches in steps:
        model.zero_grad()
        for batch in batches:
            inputs = fields([rows()[i] for i in batch])
            inputs.pop("labels", None)
            (loss(model(**inputs), None) / len(batches)).backward()
        with torch.no_grad():
            for value in model.parameters():
                if value.grad is not None:
                    value -= rate * value.grad
    return model


@pytest.mark.parametrize("labels", [False, True])
def test_accumulated_steps_are_means_over_their_batches(tmp_path, labels):
    """Five batches of two, accumulated by two: the last step has one batch, and no less weight.

    With labels, the Trainer counts them into num_items_in_batch, which must not matter.
    """
    made = trainer(tmp_path, rows(labels)[:10], per_device_train_batch_size=2, accumulate=2)
    hf.attach(made, loss)
    made.train()
    expected = by_hand([[(0, 1), (2, 3)], [(4, 5), (6, 7)], [(8, 9)]], rate=0.1)
    for x, y in zip(made.model.parameters(), expected.parameters(), strict=True):
        close(x, y, atol=1e-6, rtol=1e-4)


def test_a_plain_compute_loss_func_is_too_large(tmp_path):
    """What attach is there for: the same run without it, whose steps are twice as long."""
    made = trainer(tmp_path, rows()[:4], per_device_train_batch_size=2, accumulate=2)
    made.compute_loss_func = lambda outputs, labels, num_items_in_batch: loss(outputs, labels)
    made.train()
    expected = by_hand([[(0, 1), (2, 3)]], rate=0.2)
    for x, y in zip(made.model.parameters(), expected.parameters(), strict=True):
        close(x, y, atol=1e-6, rtol=1e-4)


def test_terms_are_logged_and_the_loss_falls(tmp_path):
    made = trainer(
        tmp_path,
        rows(labels=True),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        accumulate=2,
        num_train_epochs=8,
        logging_steps=1,
        eval_strategy="epoch",
        optimizer=torch.optim.Adam,
        rate=5e-3,
    )
    hf.attach(made, terms)
    made.train()
    history = made.state.log_history
    steps = [entry for entry in history if "loss" in entry]
    checks = [entry for entry in history if "eval_loss" in entry]
    assert len(steps) == 16
    assert len(checks) == 8
    for entry in steps:
        assert entry["there"] + 0.5 * entry["back"] == pytest.approx(float(entry["loss"]), abs=2e-3)
    for entry in checks:
        total = entry["eval_there"] + 0.5 * entry["eval_back"]
        assert total == pytest.approx(entry["eval_loss"], abs=1e-3)
        assert "there" not in entry
    assert checks[-1]["eval_loss"] < 0.8 * checks[0]["eval_loss"]
    assert "there" not in history[-1]  # the summary of the whole run, which logs no batch


def test_a_loss_without_terms_logs_none(tmp_path):
    made = trainer(tmp_path, rows()[:4], per_device_train_batch_size=4, logging_steps=1)
    computed = hf.attach(made, loss)
    made.train()
    assert set(made.state.log_history[0]) == {"loss", "grad_norm", "learning_rate", "epoch", "step"}
    assert computed.take("train") == {}


def test_terms_are_means_over_the_batches_and_then_gone():
    computed = hf.ComputeLoss(lambda outputs, labels: mm.LossTerms({"a": outputs, "b": labels}))
    for a, b in ((1.0, 5.0), (2.0, 7.0)):
        total = computed(torch.tensor(a), torch.tensor(b), num_items_in_batch=100)
        assert total == a + b
    with torch.no_grad():
        computed(torch.tensor(10.0), torch.tensor(20.0))
    assert computed.take("train") == {"a": 1.5, "b": 6.0}
    assert computed.take("train") == {}
    assert computed.take("eval", lambda x, reduction: 2 * x) == {"a": 10.0, "b": 20.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hf.attach(object(), loss), "trainer: expected a transformers Trainer, got object"),
        (
            lambda: hf.ComputeLoss(lambda o, y: o)(torch.ones(3), None),
            r"loss: expected a scalar tensor, or LossTerms of scalars, got \(3,\)",
        ),
        (lambda: hf.ComputeLoss(lambda o, y: {"a": o})(torch.ones(()), None), "loss: .* got dict"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()

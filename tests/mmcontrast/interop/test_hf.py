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


@pytest.mark.parametrize("names", [None, [], ["labels"]])
def test_data_without_labels_have_a_loss_too(tmp_path, names):
    """Whatever the Trainer expects: evaluate() and predict() give the mean loss over batches."""
    made = trainer(tmp_path, rows()[:8], per_device_eval_batch_size=4, label_names=names)
    hf.attach(made, terms)
    model = clip().eval()
    inputs = [fields(rows()[i : i + 4]) for i in (0, 4)]
    with torch.no_grad():
        losses = [terms(model(**batch), None) for batch in inputs]
    expected = sum(x.total for x in losses) / 2
    found = made.evaluate()
    assert found["eval_loss"] == pytest.approx(expected.item(), abs=1e-5)
    made.predict(made.eval_dataset)  # its terms are logged nowhere, and not with the next ones
    with torch.no_grad():
        for value in made.model.parameters():
            value += 0.05
    assert made.evaluate()["eval_loss"] != found["eval_loss"]
    first, second = (entry for entry in made.state.log_history if "eval_loss" in entry)
    for entry in (first, second):
        total = entry["eval_there"] + 0.5 * entry["eval_back"]
        assert total == pytest.approx(entry["eval_loss"], abs=1e-5)
    assert first["eval_there"] == pytest.approx(
        sum(x["there"] for x in losses).item() / 2, abs=1e-5
    )


def test_the_best_model_is_loaded_without_labels(tmp_path):
    made = trainer(
        tmp_path,
        rows(),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        optimizer=torch.optim.Adam,
        rate=5e-3,
    )
    hf.attach(made, loss)
    made.train()
    losses = [entry["eval_loss"] for entry in made.state.log_history if "eval_loss" in entry]
    assert len(losses) == 3
    assert made.state.best_metric == min(losses)
    assert made.evaluate()["eval_loss"] == pytest.approx(min(losses), abs=1e-5)


def test_several_data_sets_are_logged_each_with_its_terms(tmp_path):
    made = trainer(tmp_path, rows()[:8], per_device_eval_batch_size=4)
    hf.attach(made, terms)
    made.evaluate({"a": made.eval_dataset, "b": made.train_dataset})
    entries = made.state.log_history
    assert len(entries) == 2
    for entry, name in zip(entries, "ab", strict=True):
        total = entry[f"eval_{name}_there"] + 0.5 * entry[f"eval_{name}_back"]
        assert total == pytest.approx(entry[f"eval_{name}_loss"], abs=1e-5)


def test_parameters_of_the_loss_must_be_the_models(tmp_path):
    """Else they are neither trained nor saved, and nothing says so."""
    made = trainer(tmp_path, rows()[:4])
    inner = mm.InfoNCE(temperature=mm.LearnableTemperature(0.1))

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, outputs, labels):
            return self.inner(outputs["image_embeds"], outputs["text_embeds"])

    with pytest.raises(
        ValueError,
        match=r"loss: expected parameters that are the model's too, got 'inner.*model\.loss = ",
    ):
        hf.attach(made, Wrapped())
    made.model.contrast = inner
    hf.attach(made, Wrapped())
    del made.model.contrast
    inner.requires_grad_(False)
    hf.attach(made, Wrapped())


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

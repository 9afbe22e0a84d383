"""The heads: shapes of predictions, and the losses on them by hand."""

import pytest
import torch

from reference_models.layers.heads import HEADS, shaped, task_loss


@pytest.mark.parametrize(
    ("head", "shape"), [("regression", (3,)), ("iemocap", (3, 4, 2)), ("humor", (3, 2))]
)
def test_outputs_have_the_shape_of_their_task(head, shape):
    outputs = torch.arange(3.0 * HEADS[head]).view(3, HEADS[head])
    assert shaped(outputs, head).shape == shape
    assert torch.equal(shaped(outputs, head).flatten(), outputs.flatten())


def test_scores_have_an_absolute_or_a_squared_error(generator):
    x, y = torch.randn(2, 5, generator=generator)
    torch.testing.assert_close(task_loss(x, y, "regression"), (x - y).abs().mean())
    torch.testing.assert_close(task_loss(x, y, "regression", squared=True), (x - y).square().mean())


@pytest.mark.parametrize(("head", "shape"), [("iemocap", (3, 4)), ("humor", (3,))])
def test_classes_have_the_cross_entropy_of_every_decision(head, shape, generator):
    x = torch.randn(*shape, 2, generator=generator)
    y = torch.randint(2, shape, generator=generator)
    chosen = x.softmax(-1).gather(-1, y.unsqueeze(-1))
    torch.testing.assert_close(task_loss(x, y, head), -chosen.log().mean())


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"labels: expected shape \(3,\), got \(4,\)"):
        task_loss(torch.zeros(3), torch.zeros(4), "regression")
    with pytest.raises(ValueError, match=r"labels: expected shape \(3, 4\), got \(3,\)"):
        task_loss(torch.zeros(3, 4, 2), torch.zeros(3), "iemocap")


def test_half_precision_is_computed_in_float32():
    x, y = torch.tensor([2.5], dtype=torch.bfloat16), torch.tensor([1.0])
    assert task_loss(x, y, "regression").dtype == torch.float32

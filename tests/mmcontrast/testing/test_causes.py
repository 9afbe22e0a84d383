"""Failures of one cause are one block of the report."""

import pytest
import torch

import mmcontrast as mm
from mmcontrast.testing import CHECKS
from mmcontrast.testing.causes import CLAIMS, ON_SPECIAL_BATCHES, cause_of
from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing import losses

NORMALISED = ["row_scale_invariant", "gradient_is_tangent", "gradient_falls_with_length"]


def raises_for_few(a, b):
    if len(a) < 4 or not a.requires_grad:
        raise IndexError(f"index {len(a)} is out of bounds")
    return mm.info_nce(a, b)


def nan_for_singletons(z, labels):
    """A mean over each anchor's positives, of which there may be none."""
    logits = mm.l2_normalize(z) @ mm.l2_normalize(z).T
    same = (labels[:, None] == labels) & ~torch.eye(len(z)).bool()
    return -((logits.log_softmax(1) * same).sum(1) / same.sum(1)).mean()


def blocks(report):
    return [line for line in str(report).splitlines() if line.startswith("FAILED")]


def test_one_exception_in_many_laws_is_one_block():
    report = report_on(raises_for_few, exclude=["returns_a_scalar"], max_examples=3)
    assert len(report.failed) > 20
    (block,) = blocks(report)
    assert block.startswith(f"FAILED {len(report.failed)} laws, one cause: raised IndexError: ")
    text = str(report)
    assert all(name in text for name in report.failed)
    assert text.count("The smallest example found") == text.count("Usually") == 1
    assert report.to_markdown().count("```python") == 1
    assert len({r.cause for r in report.results if r.status == "failed"}) == 1


def test_nan_on_any_batch_is_one_cause_and_on_a_special_batch_another():
    report = report_on(nan_for_singletons, {"kind": "labelled"}, max_examples=5, shrink=False)
    assert len(report.failed) > 10
    causes = [r.cause for r in report.results if r.status == "failed"]
    assert causes.count("the loss is nan") > 10
    assert report["no_positives_is_zero"].cause != "the loss is nan"
    assert len(set(causes)) < 6


def test_one_claim_that_does_not_hold():
    def raw(a, b):
        return mm.info_nce(a, b, normalize=None)

    report = report_on(raw, checks=NORMALISED, max_examples=5)
    assert set(report.failed) == set(NORMALISED)
    (block,) = blocks(report)
    assert block == "FAILED 3 laws, one cause: the loss is not what normalized= claims"
    for name in NORMALISED:
        assert f"{name} (law " in str(report)


def test_a_distance_is_no_loss():
    def root(x, y):
        return (x - y).square().sum(-1).sqrt()

    report = report_on(root, {"kind": "distance"}, max_examples=5, shrink=False)
    assert report["distance_gradient_is_finite"].cause == "the gradient of x is not finite"
    assert cause_of("a", "", "the distances are [nan, 1.0]", "distance") == "the distance is nan"
    cut = report_on(lambda x, y: root(x, y).detach(), {"kind": "distance"}, max_examples=2)
    message = cut["distance_gradient_is_finite"].message
    assert message.startswith("of the rows, the distance has no graph")


def test_two_causes_are_two_blocks():
    laws = ["symmetric", "collapse_value"]
    traits = {"form": "info_nce", "symmetric": True}
    report = report_on(losses.half, traits, checks=laws, max_examples=20, shrink=False)
    assert len(blocks(report)) == 2


def test_the_block_shows_the_shortest_example():
    report = report_on(losses.half, {"form": "info_nce", "temperature": 0.07}, max_examples=3)
    assert len(report.failed) > 2
    shortest = min((r.code for r in report.results if r.code), key=len)
    (line,) = [line for line in str(report).splitlines() if "        replay(" in line]
    assert line.strip() in shortest


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (("a", "", "raised E: row 3"), ("b", "form", "raised E: row 14"), True),
        (("a", "", "raised E: row 3"), ("b", "", "raised F: row 3"), False),
        (("a", "", "the loss is nan"), ("b", "form", "in float16, the loss is nan"), True),
        (("a", "", "the loss is nan"), ("b", "", "the loss is inf"), False),
        (("a", "", "the loss is nan"), ("single_sample", "", "the loss is nan"), False),
        (("a", "form", "1 = 2"), ("b", "factory and form", "3 = 4"), True),
        (("a", "form", "1 = 2"), ("b", "normalized", "3 = 4"), False),
        (("a", "", "1 = 2"), ("b", "", "1 = 2"), False),
    ],
)
def test_what_is_one_cause(left, right, same):
    assert (cause_of(*left) == cause_of(*right)) == same


def test_the_names_exist():
    needs = " ".join(law.needs for law in CHECKS.values())
    assert all(claim in needs for claim in CLAIMS)
    assert set(ON_SPECIAL_BATCHES) <= set(CHECKS)

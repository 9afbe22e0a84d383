"""What torch does not have is skipped, with the reason."""

import pytest
import torch
import torch.nn.functional as F

from mmcontrast.testing.lacking import lacking
from mmcontrast.testing.suite import report_on


def by_distance(a, b):
    distances = torch.cdist(F.normalize(a), F.normalize(b))
    return F.cross_entropy(-distances / 0.1, torch.arange(len(a)))


def by_margin(a, b):
    """Its second derivative is in no torch, which the one of cdist has not been in either."""
    return F.multi_margin_loss(F.normalize(a) @ F.normalize(b).T, torch.arange(len(a)))


def unfinished(a, b):
    raise NotImplementedError("the other direction")


def test_a_loss_of_cdist_is_right():
    assert report_on(by_distance, max_examples=5).ok


def test_a_derivative_that_torch_does_not_have_is_skipped():
    report = report_on(by_margin, checks=["gradcheck", "gradgradcheck"], max_examples=5)
    assert report.ok
    assert report["gradgradcheck"].status == "skipped"
    assert report["gradgradcheck"].reason == "torch has no derivative of multi_margin_loss_backward"
    assert "skipped gradgradcheck (law 44): torch has no derivative" in str(report)
    assert "skipped: torch has no derivative" in report.to_markdown()
    assert report["gradcheck"].status == "passed"


def test_the_dtypes_that_torch_has_are_still_checked():
    def rough(a, b):
        return by_distance(a, b) * (1.1 if a.dtype == torch.float32 else 1)

    report = report_on(rough, checks=["low_precision_is_close"], max_examples=5)
    assert report.failed == ("low_precision_is_close",)


def test_what_is_expected_to_fail_and_is_skipped_is_no_unexpected_pass():
    report = report_on(
        by_margin,
        checks=["gradgradcheck"],
        expected_failures={"gradgradcheck": "multi_margin_loss"},
        max_examples=2,
    )
    assert report.ok


@pytest.mark.parametrize("kind", ["paired", "miner", "distance"])
def test_what_never_runs_is_not_right(kind):
    """Rounded to half precision on its own: then each law would be skipped, and none broken."""

    def halved(x, y):
        raise RuntimeError("\"cdist\" not implemented for 'Half'")

    report = report_on(halved, {"kind": kind}, max_examples=2)
    assert not report.ok
    assert "not implemented for 'Half'" in report.results[0].message
    assert {r.status for r in report.results[1:]} == {"not_run"}


def test_a_loss_that_is_not_finished_is_not_skipped():
    assert not report_on(unfinished, max_examples=2).ok


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_torchs_own_words(dtype):
    x = torch.ones(2, 2, dtype=dtype)
    with pytest.raises((RuntimeError, NotImplementedError)) as caught:
        torch.cdist(x, x)
    assert "cdist" in lacking(caught.value)
    assert lacking(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None

"""The report as text, Markdown and JSON."""

import json
import re

import pytest

import mmcontrast as mm
from mmcontrast.testing import CheckReport, CheckResult
from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing import losses


@pytest.fixture(scope="module")
def report():
    return report_on(
        losses.half,
        {"form": "info_nce"},
        checks=["nonnegative", "collapse_value", "duplicated_batch"],
        expected_failures={"duplicated_batch": "it is half | of it"},
        max_examples=5,
        name="my_loss",
    )


def test_text(report):
    text = str(report)
    assert text.startswith(
        "my_loss (paired): 1 of 3 laws hold\nFAILED collapse_value (law 2, 29): "
    )
    assert "Usually: A missing or doubled direction" in text
    assert 'replay("' in text or "replay('" in text
    assert "EXPECTED FAILURE duplicated_batch" in text
    assert "expected, since: it is half | of it" in text
    assert text.endswith("passed: nonnegative")
    assert text.count("The smallest example found:") == 1


def test_markdown(report):
    text = report.to_markdown()
    assert text.startswith("## my_loss (paired): 1 of 3 laws hold\n")
    assert text.count("```python") == 1
    assert "### collapse_value (law 2, 29)" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [
        "collapse_value",
        "duplicated_batch",
        "nonnegative",
    ]
    assert all(row.replace("\\|", "").count("|") == 4 for row in rows)
    assert "expected failure: it is half \\| of it" in text


def test_no_name_or_message_is_a_tag_of_markdown():
    """The name of a lambda would vanish."""
    message = "raised E: <a>\n# b | c"
    failed = [
        CheckResult(name, "At most <1>.", "", "failed", message, "A <mean>.", "x < y", cause=cause)
        for name, cause in [("one", "raised E"), ("two", "raised E"), ("three", "")]
    ]
    text = CheckReport("<lambda>", "paired", tuple(failed), {"d": "<e>"}).to_markdown()
    assert text.startswith("## \\<lambda> (paired)")
    told = re.sub(r"```python.*?```", "", text, flags=re.DOTALL)
    assert told.count("<a>") == 6  # in the table, a title, and below the titles
    assert not re.search(r"(?<!\\)<", told)
    assert not re.search(r"^# b", told, flags=re.MULTILINE)


def test_json(report):
    found = json.loads(report.to_json())
    assert (found["loss"], found["kind"], found["ok"]) == ("my_loss", "paired", False)
    checks = {check["name"]: check for check in found["checks"]}
    assert {name: check["status"] for name, check in checks.items()} == {
        "nonnegative": "passed",
        "collapse_value": "failed",
        "duplicated_batch": "expected_failure",
    }
    assert checks["collapse_value"]["number"] == "2, 29"
    assert checks["collapse_value"]["code"].startswith("import torch")
    assert checks["collapse_value"]["message"].startswith("the loss of 2 equal rows is 0.34")
    assert checks["nonnegative"]["examples"] == 5
    assert checks["nonnegative"]["seconds"] > 0


def test_what_is_not_claimed_is_listed_with_what_would_claim_it():
    report = report_on(mm.info_nce, exclude=("gradcheck", "gradgradcheck"), max_examples=1)
    assert report.not_claimed["low_temperature_limit"] == "factory and form"
    assert "triplets_do_not_meet" not in report.not_claimed  # another kind
    assert "not claimed (what would claim it): within_bounds (bounds)" in str(report)
    assert "* `low_temperature_limit` needs factory and form" in report.to_markdown()
    assert json.loads(report.to_json())["not_claimed"] == dict(report.not_claimed)


def test_a_result_by_name(report):
    assert report["nonnegative"].status == "passed"
    with pytest.raises(KeyError):
        report["no_such_law"]


@pytest.mark.parametrize(
    ("status", "ok"),
    [
        ("passed", True),
        ("expected_failure", True),
        ("failed", False),
        ("unexpected_pass", False),
        ("not_run", False),
    ],
)
def test_what_is_ok(status, ok):
    result = CheckResult("symmetric", "A law.", "10", status)
    assert CheckReport("loss", "paired", (result,), {}).ok == ok

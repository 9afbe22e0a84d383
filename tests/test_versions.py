"""The support window is said alike everywhere, and what is stored of its tests is of both ends."""

import datetime
import json
import sys
import tomllib

import pytest
import torch

from tests import versions
from tests.readme import support

PROJECT = tomllib.loads((versions.ROOT / "pyproject.toml").read_text())["project"]
REPORT = """<testsuites><testsuite>
<testcase name="a"/>
<testcase name="b"><system-out>said</system-out></testcase>
<testcase name="c"><skipped message="no device"/></testcase>
<testcase name="g"><skipped message="this torch cannot fly">where</skipped></testcase>
<testcase name="h"><skipped message="this torch cannot fly">there</skipped></testcase>
<testcase name="d"><failure message="1 == 2"/></testcase>
<testcase name="e"><error message="no fixture"/></testcase>
<testcase name="f"><failure message="1 == 2"/><error message="afterwards"/></testcase>
</testsuite></testsuites>"""


def row(version, python="3.12.1", failed=0):
    counts = {"passed": 9, "skipped": 1, "failed": failed, "cannot": []}
    about = {"torch": version, "python": python, "date": "2026-01-31", "tests": "all"}
    return about | counts


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "FILE", tmp_path / "versions.json")
    versions.FILE.write_text("[]")
    return versions.FILE


# --- the window ----------------------------------------------------------------------------------


def test_the_project_asks_for_the_window():
    assert f"torch>={versions.TORCH[0]}" in PROJECT["dependencies"]
    assert PROJECT["requires-python"] == f">={versions.PYTHON[0]}"
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c]
    assert tuple(named) == versions.PYTHON


def test_it_is_the_last_four_minor_versions_and_the_gate_is_inside():
    first, *rest = [tuple(map(int, v.split("."))) for v in versions.TORCH]
    assert rest == [(first[0], first[1] + i) for i in (1, 2, 3)]
    (gate,) = support.GATE.findall((versions.ROOT / "constraints.txt").read_text())
    assert versions.minor(gate) in versions.TORCH


def test_both_ends_ran_and_nothing_failed():
    """The newest may be one that an index did not offer yet."""
    rows = versions.stored()
    ran = [versions.minor(row["torch"]) for row in rows]
    assert ran[0] == versions.TORCH[0]
    assert ran[-1] in versions.TORCH[-2:]
    assert set(ran) <= set(versions.TORCH)
    for found in rows:
        assert versions.minor(found["python"]) in versions.PYTHON
        assert datetime.date.fromisoformat(found["date"]) <= datetime.date.today()
        assert found["failed"] == 0
        assert found["skipped"] < found["passed"] / 100


# --- environments --------------------------------------------------------------------------------


def test_an_interpreter_is_looked_for_in_the_order_of_versions(tmp_path, monkeypatch):
    starts, not_here = f'#!/bin/sh\nexec {sys.executable} "$@"\n', "#!/bin/sh\nexit 127\n"
    (tmp_path / "path").mkdir()
    files = {"path/python3.13": not_here, "path/python3.12": starts}
    files |= {"pyenv/versions/3.14.2/bin/python": starts}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    found = list(versions.interpreters(["3.14", "3.13", "3.12", "3.11"]))
    assert found == [str(tmp_path / name) for name in (list(files)[2], list(files)[1])]


def test_what_torch_brought_is_not_pinned_again():
    pins = "Jinja2==3.1.6\ntyping_extensions==4.16.0\ntorch==2.13.0\ntorchvision==0.28.0\n"
    left = versions.without(pins, ["jinja2", "typing-extensions", "torch"])
    assert left == "torchvision==0.28.0\n"


def test_an_environment_knows_itself():
    names, python, found = versions.about(sys.executable)
    assert {"torch", "numpy", "mmcontrast"} <= set(names)
    assert (python, found) == (sys.version.split()[0], torch.__version__)


# --- results -------------------------------------------------------------------------------------


def test_counts_of_a_report(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    assert versions.counts(tmp_path / "report.xml") == {"passed": 2, "skipped": 3, "failed": 3}
    assert versions.lacks(tmp_path / "report.xml") == ["fly"]


def test_a_result_takes_the_place_of_an_older_one(own_file):
    for version in ("2.15.0", "2.9.1", "2.12.0+cpu", "2.14.1"):
        versions.store(row(version))
    versions.store(row("2.15.0", failed=3))
    rows = json.loads(own_file.read_text())
    assert [r["torch"] for r in rows] == ["2.12.0+cpu", "2.14.1", "2.15.0"]
    assert [r["failed"] for r in rows] == [0, 0, 3]


def test_the_page_says_what_a_torch_cannot_do(own_file):
    versions.store(row("2.13.0") | {"cannot": ["fly", "swim"]})
    text = support.window()
    assert "\n* torch 2.13.0 cannot fly.\n* torch 2.13.0 cannot swim.\n" in text
    versions.store(row("2.13.0"))
    assert "cannot" not in support.window()


def test_the_page_says_what_never_ran(own_file):
    for version, python in (("2.12.0", "3.11.7"), ("2.14.1", "3.14.0"), ("2.15.0", "3.12.1")):
        versions.store(row(version, python))
    text = support.window()
    assert "| 2.12.0 | 3.11.7 | all | 9 | 1 | 0 | 2026-01-31 |" in text
    assert text.endswith("\n\nNot run so far: Python 3.13.")
    versions.store(row("2.13.0", "3.13.0"))
    assert "Not run" not in support.window()


def test_results_are_stored_at_the_end_and_those_before_an_error_too(own_file, monkeypatch):
    """In between they would make the site stale, which a test of the next run would find."""

    def tested(end, ignored, marked):
        assert versions.stored() == []
        if end == "newest":
            raise KeyboardInterrupt
        return row("2.12.0")

    monkeypatch.setattr(versions, "tested", tested)
    monkeypatch.setattr(sys, "argv", ["versions"])
    with pytest.raises(KeyboardInterrupt):
        versions.main()
    assert versions.stored() == [row("2.12.0")]

"""Programs in forks of a server: how they start, and that what fails or hangs is a failed test."""

import os
import time
from types import SimpleNamespace

import pytest

from tests.forks import Forks
from tests.processes import ROOT
from tests.ranks import launch

FAILING = "tests.ranks.failing"


def test_one_that_fails_ends_the_others_and_is_heard():
    with pytest.raises(AssertionError, match=r"one_fails[\s\S]*the second rank's own words"):
        launch(2, FAILING, "one_fails")


def test_those_that_hang_are_killed():
    start = time.monotonic()
    with pytest.raises(AssertionError, match=r"rank 0: exit -9[\s\S]*rank 1: exit -9"):
        launch(2, FAILING, "all_wait", timeout=1)
    assert time.monotonic() - start < 60


def test_those_that_run_while_the_test_is_interrupted_are_killed(monkeypatch):
    forks = Forks()
    forks.start("tests.ranks.failing", "all_wait")
    (process,), (said,) = forks.running, forks.said

    def interrupted(waited, timeout):
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.forks.connection", SimpleNamespace(wait=interrupted))
    with pytest.raises(KeyboardInterrupt):
        forks.wait(timeout=60)
    assert process.exitcode == -9
    assert not said.exists()


def test_a_program_that_is_not_there_is_told():
    with pytest.raises(AssertionError, match="KeyError: 'absent'"):
        launch(1, FAILING, "absent")


def test_each_is_a_process_of_its_own_that_sees_arguments_and_environment(tmp_path, monkeypatch):
    """With today's environment and not that of the server's start; what it sets stays its own."""
    monkeypatch.setenv("ASKED", "of this test")
    program = "import os, pathlib, sys, torch\nASKED = os.environ['ASKED'], os.environ['OWN']\n"
    program += "pathlib.Path(sys.argv[1]).write_text(str((os.getpid(), os.getcwd(), *ASKED)))\n"
    program += "assert torch.get_num_threads() == 1\ntorch.set_num_threads(2)\n"
    (tmp_path / "asked_program.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    forks = Forks()
    for name in ("a", "b"):
        forks.start("asked_program", tmp_path / name, OWN=name)
    assert forks.wait(timeout=60) == {}
    (one, *mine), (other, *its) = (eval((tmp_path / name).read_text()) for name in ("a", "b"))
    assert len({one, other, os.getpid()}) == 3
    assert mine == [str(ROOT), "of this test", "a"]
    assert its == [str(ROOT), "of this test", "b"]

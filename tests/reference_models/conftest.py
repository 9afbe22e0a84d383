"""What the tests of the command line share, and none of them has to wait for."""

import os

import pytest

from reference_models.__main__ import main
from tests.reference_models.tables.reproduced import leave_blank


@pytest.fixture(scope="session", autouse=True)
def disk_without_waiting():
    """No test takes the power away: what is written need not be on the disk at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def blank_figures(monkeypatch):
    """For tests of pages of which the figures are not the point."""
    leave_blank(monkeypatch)


@pytest.fixture
def refused(capsys):
    """Runs a command that is refused; returns the one line on stderr."""

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err.removeprefix("python -m reference_models: ").rstrip()

    return run

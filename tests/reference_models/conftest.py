"""What the tests of the command line share."""

import pytest

from reference_models.__main__ import main


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

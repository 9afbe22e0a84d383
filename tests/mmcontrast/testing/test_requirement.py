"""What is said where hypothesis is not installed."""

from tests.processes import python


def test_without_hypothesis_it_says_what_to_install():
    program = "import sys; sys.modules['hypothesis'] = None; import mmcontrast.testing"
    done = python("-c", program)
    assert done.returncode == 1
    assert "pip install 'mmcontrast[testing]'" in done.stderr

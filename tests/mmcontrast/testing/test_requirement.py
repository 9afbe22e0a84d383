"""What the suite imports: hypothesis, or it says what to install; pytest where it is used."""

import importlib
import sys

import pytest

import mmcontrast

NAME = "mmcontrast.testing"


@pytest.fixture
def without(monkeypatch):
    """Import the suite anew where a module is not installed; afterwards all is as it was."""
    importlib.import_module(NAME)
    monkeypatch.setattr(mmcontrast, "testing", mmcontrast.testing)
    for module in [found for found in sys.modules if found.startswith(NAME)]:
        monkeypatch.delitem(sys.modules, module)

    def imported(absent):
        monkeypatch.setitem(sys.modules, absent, None)
        return importlib.import_module(NAME)

    return imported


def test_without_hypothesis_it_says_what_to_install(without):
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'mmcontrast\[testing\]'"):
        without("hypothesis")


def test_without_pytest_it_does_what_needs_none(without):
    suite = without("pytest")
    assert suite.check_contrastive_loss(mmcontrast.info_nce, checks=["nonnegative"]).ok
    with pytest.raises(ModuleNotFoundError, match="pytest"):
        suite.parametrize_with_checks([mmcontrast.info_nce])

"""What is said where hypothesis is not installed."""

import importlib
import sys

import pytest

import mmcontrast.testing


def test_without_hypothesis_it_says_what_to_install(monkeypatch):
    name = mmcontrast.testing.__name__
    for module in [found for found in sys.modules if found.partition(name)[1]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'mmcontrast\[testing\]'"):
        importlib.import_module(name)

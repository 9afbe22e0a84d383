"""What HyCon's settings refuse, once for all of its losses."""

import pytest

import mmcontrast as mm
from mmcontrast.hybrid.settings import REFINE_ON, Settings
from mmcontrast.reductions import Reduction

RIGHT = Settings(True, False, None, "selected", None, Reduction("mean"))


@pytest.mark.parametrize("refine_on", REFINE_ON)
@pytest.mark.parametrize("how", ["mean", "sum", "none"])
@pytest.mark.parametrize("selection", [None, mm.PairSelection()])
def test_what_is_right_passes(refine_on, how, selection):
    changed = RIGHT._replace(refine_on=refine_on, reduction=Reduction(how), selection=selection)
    assert changed.check() is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"refine_on": "none"},
            "refine_on: expected one of 'selected', 'all', 'weighted', got 'none'",
        ),
        ({"refine_on": None}, "refine_on: expected one of .*got None"),
        (
            {"reduction": Reduction("avg")},
            "reduction: expected one of 'mean', 'sum', 'none', got 'avg'",
        ),
        ({"selection": 0.5}, "selection: expected a PairSelection or None, got 0.5"),
        (
            {"selection": mm.PairSelection},
            "selection: expected a PairSelection.*got <class",
        ),
        ({"selection": False}, "selection: expected a PairSelection or None, got False"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ValueError, match=message):
        RIGHT._replace(**wrong).check()

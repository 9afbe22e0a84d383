"""What a loss claims."""

import copy
import inspect
from dataclasses import fields

from mmcontrast.testing import Traits, check_contrastive_loss


def test_the_keywords_are_the_traits():
    """check_contrastive_loss spells out Traits: the same names, the same defaults."""
    keywords = inspect.signature(check_contrastive_loss).parameters
    usual = Traits()
    for field in fields(Traits):
        assert field.name in keywords
        if field.name != "dtypes":
            assert keywords[field.name].default == getattr(usual, field.name)


def test_traits_are_compared_with_what_is_usual():
    assert Traits().claimed() == {}
    assert copy.deepcopy(Traits(kind="triplet")).claimed() == {"kind": "triplet"}

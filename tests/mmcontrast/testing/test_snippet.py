"""The smallest failing example, as code: pasted, it shows the failure."""

import functools
import re
import sys

import pytest
import torch

import mmcontrast as mm
from mmcontrast.testing import LawBroken, Vary
from mmcontrast.testing.broken import MISTAKES
from mmcontrast.testing.snippet import Nameless, describe, expression, literal
from mmcontrast.testing.suite import report_on
from tests.mmcontrast.testing import losses


def code_of(loss, law, **traits):
    result = report_on(loss, traits, checks=[law], max_examples=20)[law]
    assert result.status == "failed"
    return result


def pasted(code):
    exec(compile(code, "pasted", "exec"), {})


CASES = {
    "function": (losses.half, "collapse_value", {"form": "info_nce"}),
    "partial": (
        functools.partial(losses.scaled, factor=-1.0, temperature=0.5),
        "nonnegative",
        {"temperature": 0.5},
    ),
    "module with a setting": (losses.Scaled(-2.0), "nonnegative", {}),
    "class": (losses.Scaled, "collapse_value", {"collapse_value": float}),
    "labels": (losses.negative_by_label, "nonnegative", {"kind": "labelled"}),
    "triplets": (losses.negative_triplet, "nonnegative", {"kind": "triplet", "normalized": False}),
    "modalities": (
        losses.distance_of_first,
        "names_do_not_matter",
        {"kind": "multimodal", "symmetric": True},
    ),
    "modalities and labels": (
        losses.distance_of_first,
        "symmetric",
        {"kind": "multimodal", "symmetric": True, "labels": True, "normalized": False},
    ),
    "draws": (losses.distance_of_first, "row_scale_invariant", {"kind": "multimodal"}),
    "a factory": (
        losses.scaled,
        "high_temperature_limit",
        {"form": "info_nce", "factory": Vary(losses.scaled, "temperature", {"factor": 2.0})},
    ),
    "a reference": (losses.half, "equals_the_reference", {"reference": mm.info_nce}),
}


@pytest.mark.parametrize("name", CASES)
def test_pasted_it_breaks_the_law_in_the_same_way(name):
    loss, law, traits = CASES[name]
    result = code_of(loss, law, **traits)
    with pytest.raises(LawBroken) as caught:
        pasted(result.code)
    assert str(caught.value) == result.message


@pytest.mark.parametrize(
    "name",
    [
        *("sign_error", "self_not_masked", "no_hinge", "only_beside_the_first"),
        *("raw_products_mined", "own_positive", "TakesTurns", "root_with_epsilon"),
    ],
)
def test_pasted_examples_of_broken_losses(name):
    mistake = MISTAKES[name]
    result = report_on(mistake.loss, mistake.traits, checks=[mistake.law])[mistake.law]
    with pytest.raises(LawBroken, match=re.escape(result.message)):
        pasted(result.code)


def test_what_a_loss_raises_is_raised_again():
    result = code_of(losses.raises, "returns_a_scalar")
    with pytest.raises(IndexError, match="nobody is here"):
        pasted(result.code)
    assert result.code.endswith("# raised IndexError: nobody is here")


def test_a_learned_state_is_written_out():
    loss = losses.Scaled()
    with torch.no_grad():
        loss.bias.fill_(-9.0)
    result = code_of(loss, "nonnegative")
    assert "load_state_dict" in result.code
    with pytest.raises(LawBroken, match=re.escape(result.message)):
        pasted(result.code)


def test_a_loss_without_a_name_is_the_one_in_scope():
    loss = lambda a, b: -mm.info_nce(a, b)  # noqa: E731
    result = code_of(loss, "nonnegative")
    assert "# loss: the one under test" in result.code
    with pytest.raises(LawBroken, match=re.escape(result.message)):
        exec(compile(result.code, "pasted", "exec"), {"loss": loss})


def test_the_example_is_the_smallest():
    """Two samples of one feature, all of them 1: no law of a negated loss needs more."""
    result = code_of(functools.partial(losses.scaled, factor=-1.0), "nonnegative")
    assert "a = torch.tensor([[1.0], [1.0]], dtype=torch.float64)" in result.code
    assert "b = torch.tensor([[1.0], [1.0]], dtype=torch.float64)" in result.code


def test_only_the_traits_that_matter_are_stated():
    result = code_of(
        functools.partial(losses.scaled, factor=-1.0),
        "nonnegative",
        symmetric=False,
        form="info_nce",
        temperature=0.07,
        rectangular=True,
    )
    assert "Traits" not in result.code


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([[1.5, -2.0]], dtype=torch.float16),
        torch.tensor([True, False]),
        torch.tensor(3),
        torch.empty(0, 3, dtype=torch.float64),
        torch.tensor([float("inf"), float("-inf")]),
        [1, (2.5,), {"a": [True, None]}, "text", torch.float32],
    ],
    ids=str,
)
def test_literals_are_what_they_say(value):
    found = eval(literal(value), {"torch": torch})
    if isinstance(value, torch.Tensor):
        assert found.dtype == value.dtype
        assert torch.equal(found, value)
    else:
        assert found == value


def test_a_nan_is_written_as_one():
    assert torch.isnan(eval(literal(torch.tensor([torch.nan])), {"torch": torch})).all()


def test_what_a_script_defines_cannot_be_imported(monkeypatch):
    def mine(a, b):
        return a

    mine.__module__, mine.__qualname__ = "__main__", "mine"
    monkeypatch.setattr(sys.modules["__main__"], "mine", mine, raising=False)
    with pytest.raises(Nameless):
        expression(mine, set())


def test_things_without_a_name():
    for value in (lambda x: x, object(), torch.Generator()):
        with pytest.raises(Nameless):
            expression(value, set())


@pytest.mark.parametrize(
    "value",
    [
        mm.info_nce,
        mm.InfoNCE,
        functools.partial(mm.info_nce, temperature=0.5),
        mm.PairSelection(0.4),
        Vary(mm.InfoNCE, "temperature"),
        {"a": mm.info_nce},
    ],
)
def test_expressions_make_what_they_say(value):
    imports = set()
    code = expression(value, imports)
    namespace = {}
    exec("\n".join(imports), namespace)
    assert repr(eval(code, namespace)) == repr(value)


def test_names_for_a_report():
    assert describe(mm.InfoNCE()) == "InfoNCE"
    assert describe(mm.info_nce) == "info_nce"
    assert describe(functools.partial(mm.info_nce)) == "partial(info_nce)"
    assert describe(Vary(mm.info_nce, "temperature")) == "Vary"

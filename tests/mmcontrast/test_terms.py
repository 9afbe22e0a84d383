"""LossTerms: a mapping of names to terms, its weights and its total."""

import copy
import math
import pickle
from collections.abc import Mapping

import pytest
import torch

import mmcontrast as mm
from tests.capabilities import compiled_unpacking_by_keys, need


def terms(**weights):
    values = {"task": torch.tensor(2.0), "semi": torch.tensor(3.0), "intra": torch.tensor(-0.5)}
    return mm.LossTerms(values, weights or None)


def test_it_is_a_mapping_in_order():
    t = terms()
    assert isinstance(t, Mapping)
    assert list(t) == ["task", "semi", "intra"]
    assert len(t) == 3
    assert "semi" in t
    assert "inter" not in t
    assert t["semi"].item() == 3.0
    assert dict(t.items()).keys() == {"task", "semi", "intra"}
    with pytest.raises(KeyError):
        t["inter"]


def test_weights_default_to_one_and_the_total_is_the_weighted_sum():
    assert terms().weights == {"task": 1, "semi": 1, "intra": 1}
    assert terms().total.item() == 4.5
    assert terms(semi=0.5, intra=2.0).weights == {"task": 1, "semi": 0.5, "intra": 2.0}
    assert terms(semi=0.5, intra=2.0).total.item() == 2.0 + 1.5 - 1.0


def test_law_56_linear_in_the_weights_and_weight_zero_touches_nothing():
    x, y = torch.tensor(2.0, requires_grad=True), torch.tensor(math.nan, requires_grad=True)
    t = mm.LossTerms({"x": 3 * x, "y": y * y}, {"x": 2.0, "y": 0})
    assert t.total.item() == 12.0
    t.total.backward()
    assert x.grad.item() == 6.0
    assert y.grad is None or y.grad.item() == 0.0


@pytest.mark.parametrize("name", ["backward", "item", "detach", "mean", "requires_grad", "device"])
def test_what_a_tensor_has_is_said_to_be_the_totals(name):
    expected = rf"'LossTerms' object has no attribute '{name}': .*terms\.total\.{name}\)"
    with pytest.raises(AttributeError, match=expected) as error:
        getattr(terms(), name)
    assert error.value.name == name
    assert not hasattr(terms(), name)


@pytest.mark.parametrize("name", ["sizes", "_backward_hooks", "__array__", "__torch_function__"])
def test_what_no_user_asks_a_tensor_for_is_not(name):
    with pytest.raises(AttributeError, match=rf"'LossTerms' object has no attribute '{name}'$"):
        getattr(terms(), name)


def test_every_weight_zero_is_zero():
    t = mm.LossTerms({"x": torch.tensor([1.0, math.inf])}, {"x": 0})
    assert t.total.tolist() == [0.0, 0.0]


def test_total_has_the_shape_of_the_terms():
    t = mm.LossTerms({"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([10.0, 20.0])}, {"y": 0.1})
    assert t.total.tolist() == [2.0, 4.0]


def test_the_callers_mappings_are_not_shared():
    values, weights = {"x": torch.tensor(1.0)}, {"x": 2.0}
    t = mm.LossTerms(values, weights)
    values["y"] = torch.tensor(5.0)
    weights["x"] = 7.0
    assert list(t) == ["x"]
    assert t.total.item() == 2.0


@pytest.mark.parametrize("take", ["total", "terms", "rebuilt", "joined", "unpacked"])
def test_they_compile_and_what_is_rebuilt_inside_keeps_the_weights(take):
    if take == "unpacked":
        need(compiled_unpacking_by_keys)

    def call(x):
        made = mm.LossTerms({"a": x.sin().sum(), "b": x.square().sum()}, {"b": 0.25})
        if take == "rebuilt":  # as Accelerate does around a forward pass
            made = type(made)({name: 3 * term for name, term in made.items()})
        if take == "joined":
            made = mm.LossTerms({"task": x.mean(), **dict(made)})
        if take == "unpacked":
            made = mm.LossTerms({"task": x.mean(), **made})
        return made.total if take == "total" else made

    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    results = []
    for function in (call, compiled):
        x = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
        found = function(x)
        if take != "total":
            assert type(found) is mm.LossTerms
            task = {"task": 1} if take in ("joined", "unpacked") else {}
            assert found.weights == {**task, "a": 1, "b": 0.25}
            found = found.total
        found.backward()
        results.append((found.detach(), x.grad))
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=0)


def test_torch_func_takes_and_returns_them():
    def call(x):
        return mm.LossTerms({"a": x.sin().sum(), "b": x.square().sum()}, {"b": 0.25})

    x = torch.tensor([[0.5, 2.0], [1.0, -3.0]], dtype=torch.float64)
    found = torch.func.vmap(call)(x)
    assert found.weights == {"a": 1, "b": 0.25}
    assert found.total.tolist() == [call(row).total.item() for row in x]
    totals = torch.func.vmap(lambda terms: terms.total)(found)
    assert torch.equal(totals, found.total)
    gradient, aside = torch.func.grad(lambda x: (call(x).total, call(x)), has_aux=True)(x)
    torch.testing.assert_close(gradient, x.cos() + 0.5 * x)
    assert aside.weights == {"a": 1, "b": 0.25}


def test_an_empty_one_is_to_be_filled():
    t = mm.LossTerms()
    with pytest.raises(ValueError, match="terms: expected at least one term"):
        t.total  # noqa: B018
    t["x"] = torch.tensor(2.0)
    assert (t.total.item(), t.weights) == (2.0, {"x": 1.0})


def test_without_a_term_the_rest_can_be_copied():
    t = terms(semi=0.5)
    del t["task"]
    assert t.total.item() == 1.0
    assert copy.deepcopy(t).weights == {"semi": 0.5, "intra": 1}


def test_backwards_the_names_hold_their_weights_too():
    t = terms(semi=0.5, intra=0)
    back = mm.LossTerms({name: t[name] for name in reversed(t)})
    assert list(back) == ["intra", "semi", "task"]
    assert back.weights == t.weights


def test_a_log_of_numbers_loads_with_weights_only(tmp_path):
    """What a checkpoint keeps: plain dicts and lists with names out of LossTerms."""
    log = {"epoch": [{name: term.item() for name, term in terms(semi=0.5).items()}]}
    torch.save(log, tmp_path / "log.pt")
    found = torch.load(tmp_path / "log.pt", weights_only=True)
    assert found == log
    assert [name.weight for name in found["epoch"][0]] == [1.0, 0.5, 1.0]


def test_repr_names_the_terms():
    assert all(name in repr(terms()) for name in ("task", "semi", "intra"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.LossTerms({}), "terms: expected .*got"),
        (lambda: terms(inter=1.0), "weights: expected .*got.*inter"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_learned_weight_of_one_dimension_keeps_the_terms_shape():
    weight = torch.nn.Parameter(torch.tensor([0.5]))
    for term in (torch.tensor(3.0), torch.tensor([3.0, 5.0])):
        terms = mm.LossTerms({"a": term, "b": 2 * term}, {"a": weight})
        assert torch.equal(terms.total, 2.5 * term)
        (found,) = torch.autograd.grad(terms.total.sum(), weight)
        assert found.tolist() == [term.sum().item()]


def test_no_terms_are_copied_as_such():
    for same in (copy.deepcopy(mm.LossTerms()), pickle.loads(pickle.dumps(mm.LossTerms()))):
        assert type(same) is mm.LossTerms
        assert not same

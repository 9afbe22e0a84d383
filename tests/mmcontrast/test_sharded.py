"""DTensors: every function of rows gives one process's result for them, or refuses them."""

import inspect
from typing import get_args

import pytest
import torch
from torch import Tensor

import mmcontrast as mm
from mmcontrast.sharded import local_rows
from tests.mmcontrast.test_package import FUNCTIONS
from tests.ranks import launch
from tests.ranks.sharded import NATIVE

UNDECORATED = {
    **dict.fromkeys(NATIVE, "computes with DTensors as they are"),
    "gather": "refuses them",
    **dict.fromkeys(FUNCTIONS, "calls its function"),
    "LearnableTemperature": "takes a state",
    "PairSelection": "counts candidates, a row's whole number of them",
}


ON_THREE = [
    *("cases", "split_features", "unfinished_sums", "uneven", "temperatures", "modules", "cached"),
    *("received", "stateful", "groups", "refusals"),
]
"""Together, because most of a program's time goes into starting its processes."""


@pytest.mark.slow
@pytest.mark.parametrize(("world", "programs"), [(3, ON_THREE), (2, ["compiled"])])
def test_on_ranks(world, programs):
    launch(world, "tests.ranks.sharded", *programs)


def takes_tensors(function):
    """Whether an annotation of the arguments, or a part of one, holds tensors."""

    def holds(annotation):
        if annotation in (Tensor, mm.HardNegatives) or "Rows" in str(annotation):
            return True
        return any(holds(part) for part in get_args(annotation) if not isinstance(part, str))

    return any(holds(p.annotation) for p in inspect.signature(function).parameters.values())


def public_functions():
    """Public functions, and methods of public classes that this package defines, by name."""
    for name in mm.__all__:
        target = getattr(mm, name)
        if inspect.isfunction(target):
            yield name, target
        elif inspect.isclass(target):
            for method, value in vars(target).items():
                function = getattr(value, "__func__", value)
                public = not method.startswith("_") or method == "__call__"
                if public and inspect.isfunction(function):
                    yield f"{name}.{method}", function


def is_decorated(function):
    return function.__code__ is local_rows(lambda: None).__code__


def test_every_public_function_of_rows_sees_local_ones():
    """A new one without the decorator fails here, or says why it needs none."""
    lacking = {
        name
        for name, function in public_functions()
        if takes_tensors(function) and not is_decorated(function)
    }
    excused = {name for name in lacking if name.split(".")[0] in UNDECORATED}
    assert lacking - excused == set()
    assert {name.split(".")[0] for name in excused} == set(UNDECORATED)


def test_it_is_the_outermost_decorator():
    """What is beneath it, the repetition in float64 too, sees plain tensors alone."""
    for name, function in public_functions():
        inner = getattr(function, "__wrapped__", None)
        while inner is not None:
            assert not is_decorated(inner), name
            inner = getattr(inner, "__wrapped__", None)


def test_a_decorated_function_is_the_same_to_whoever_looks():
    def loss(x, *, group=None):
        """Documented."""
        return x, group

    wrapped = local_rows(loss)
    assert wrapped(1, group="world") == (1, "world")
    assert inspect.signature(wrapped) == inspect.signature(loss)
    assert (wrapped.__name__, wrapped.__doc__) == ("loss", "Documented.")
    with pytest.raises(TypeError, match="unexpected keyword argument 'groups'"):
        wrapped(1, groups=2)


def test_plain_tensors_pass_as_they_are():
    """With DTensors imported, as here, whatever holds the tensors."""
    given = {"a": [torch.ones(2), None]}, (torch.ones(1), "b"), torch.ones(())
    found = local_rows(lambda *args, **options: (args, options))(*given, x=given)
    assert all(x is y for x, y in zip(found[0], given, strict=True))
    assert found[1]["x"] is given

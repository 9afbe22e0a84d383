"""What our losses equal elsewhere: each case of ``peer_cases.py`` against the library itself.

A library that is not installed is skipped with its name; ``make test`` installs them all.
"""

import inspect
import re

import pytest
import torch
import torch.nn.functional as F

import mmcontrast as mm
from mmcontrast import info_nce, sup_con
from tests.mmcontrast.peer_cases import CASES, MODULES, TORCH
from tests.mmcontrast.peers import peer, same_value_and_gradient

TEMPERATURES = [0.05, 0.5]


@pytest.fixture
def pair(generator):
    """Two views of 7 samples, of any length and direction."""
    return (
        torch.randn(7, 5, dtype=torch.float64, generator=generator),
        torch.randn(7, 5, dtype=torch.float64, generator=generator),
    )


def evaluate(code, library):
    """A call of ``peer_cases.py`` as a function of the rows, a temperature, a bias and a margin."""
    names = vars(mm) | {"F": F, "cat": torch.cat, "unit": lambda x: F.normalize(x, dim=-1)}
    for name in MODULES[library]:
        names |= vars(peer(name))
    names |= {
        "model": torch.nn.Identity(),
        "ids": torch.arange(7),
        "labels": torch.tensor([3, 3, 5, 5, 5, 9, 9]),
        "paired": torch.tensor([0, 1, 1, 0, 1, 0, 0]),
        "eye": torch.eye(7, dtype=torch.bool),
        "ones": torch.ones(7, 7, dtype=torch.bool),
    }
    compiled = compile(code, "peer_cases.py", "eval")
    return lambda **values: eval(compiled, names | values)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.ours} = {case.library}")
def test_the_values_and_gradients_are_the_peers(case, temperature, generator):
    x, y, z = torch.randn(3, 7, 5, dtype=torch.float64, generator=generator)
    b = torch.tensor(-4.0, dtype=torch.float64)
    values = {"x": x, "y": y, "z": z, "b": b, "t": temperature, "m": 0.7}

    def of_the_inputs(call):
        return lambda *inputs: call(**values | dict(zip(case.inputs, inputs, strict=True)))

    same_value_and_gradient(
        of_the_inputs(evaluate(case.ours, TORCH)),
        of_the_inputs(evaluate(case.theirs, case.library)),
        *(values[name] for name in case.inputs),
    )


def test_every_case_names_one_of_ours_and_calls_it():
    for case in CASES:
        assert case.function in mm.__all__
        assert f"{case.function}(" in case.ours


def named_losses(text):
    return set(re.findall(r"\b(\w+Loss|InfoNCE|triplet_margin\w+|kl_div|cross_entropy)\b", text))


@pytest.mark.parametrize("function", dict.fromkeys(case.function for case in CASES))
def test_docstrings_name_the_same_peers(function):
    """The note that a reader of the code sees, and the table that a reader of the README sees."""
    note = inspect.getdoc(getattr(mm, function)).partition("Note:")[2].partition("References:")[0]
    expected = {name for c in CASES if c.function == function for name in named_losses(c.theirs)}
    assert expected <= named_losses(note)
    for library in {c.library for c in CASES if c.function == function}:
        assert library in note


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_sup_con_is_the_formula_of_supcontrast(pair, temperature):
    """SupContrast publishes no package: its formula, at base_temperature = temperature."""
    labels = torch.tensor([3, 3, 5, 5, 5, 9, 9])

    def formula(x):
        x = F.normalize(x, dim=-1)
        logits = x @ x.T / temperature
        total = 0.0
        for i in range(7):
            others = [a for a in range(7) if a != i]
            denominator = torch.stack([logits[i, a] for a in others]).exp().sum().log()
            positives = [a for a in others if labels[a] == labels[i]]
            shares = torch.stack([logits[i, p] - denominator for p in positives])
            total = total - shares.sum() / len(positives)
        return total / 7

    same_value_and_gradient(lambda x: sup_con(x, labels, temperature=temperature), formula, pair[0])


def test_the_peers_that_drift_are_left_behind(pair):
    """In float16 pytorch-metric-learning's NT-Xent saturates; ours stays where float64 is."""
    losses = peer("pytorch_metric_learning.losses")
    x, y = (z.half() for z in pair)
    ids = torch.arange(7)
    exact = info_nce(x.double(), y.double(), temperature=0.01)
    assert abs(info_nce(x, y, temperature=0.01) - exact) < 1e-3 * exact
    drifted = losses.NTXentLoss(temperature=0.01)(x, ids, ref_emb=y, ref_labels=ids.clone())
    assert abs(drifted - exact) > 0.1 * exact

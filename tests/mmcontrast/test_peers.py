"""What our losses equal elsewhere: each case of ``peer_cases.py`` against the library itself.

A library that is not installed is skipped with its name; ``make test`` installs them all.
"""

import inspect
import itertools
import re

import pytest
import torch
import torch.nn.functional as F

import mmcontrast as mm
from mmcontrast import info_nce, sup_con
from tests.benchmarks import joint
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


OWN_SIDE = ("query_to_query", "doc_to_query", "doc_to_doc")


@pytest.mark.parametrize("chosen", list(itertools.product([False, True], repeat=3)))
def test_directions_of_one_softmax_are_columns_of_a_mask(chosen, pair):
    """sentence-transformers' formula of each choice, by its matrices, without the library."""
    x, y = (F.normalize(z, dim=1) for z in pair)
    eye, t = torch.eye(len(x), dtype=torch.bool), 0.3
    nothing = torch.zeros_like(x)
    matrices = dict(zip(OWN_SIDE, (x @ x.T, (x @ y.T).T, y @ y.T), strict=True))
    columns = dict(zip(OWN_SIDE, ((x, nothing), (nothing, x), (nothing, y)), strict=True))
    scores, candidates, masks = [x @ y.T], [(y, nothing)], [torch.ones_like(eye)]
    for name, taken in zip(OWN_SIDE, chosen, strict=True):
        if taken:
            same = name != "doc_to_query"  # a text and itself, which is no pair
            scores.append(matrices[name].masked_fill(eye & same, -torch.inf))
            candidates.append(columns[name])
            masks.append(~(eye & same))
    log_z = (torch.cat(scores, 1) / t).logsumexp(1)
    expected = (log_z - (x * y).sum(1) / t).mean()
    rows = torch.cat([torch.cat(part, 1) for part in candidates])
    found = mm.info_nce(
        torch.cat([x, y], 1), rows, keep=torch.cat(masks, 1), normalize=None, temperature=t
    )
    torch.testing.assert_close(found, expected)
    if chosen == (True, False, False):
        others = torch.cat(masks, 1)
        simple = mm.info_nce(x, torch.cat([y, x]), keep=others, temperature=t)
        torch.testing.assert_close(simple, expected)


def test_the_decoupled_loss_of_two_log_sums(pair):
    """A log-sum for each side, which two losses add up to; and the paper's one log-sum of both."""
    x, y = (F.normalize(z, dim=1) for z in pair)
    n, t = len(x), 0.3
    off = ~torch.eye(n, dtype=torch.bool)
    each, paper = [], []
    for a, b in ((x, y), (y, x)):
        own, other = ((a @ z.T / t)[off].view(n, -1) for z in (a, b))
        pull = (a * b).sum(1) / t
        each.append(own.logsumexp(1) + other.logsumexp(1) - pull)
        paper.append(torch.cat([own, other], 1).logsumexp(1) - pull)
    settings = {"decoupled": True, "temperature": t}
    sides = [mm.info_nce(z, z, **settings) + 1 / t for z in (x, y)]
    found = mm.symmetric_info_nce(x, y, **settings) + sum(sides) / 2
    torch.testing.assert_close(found, torch.stack(each).mean())
    found = mm.symmetric_info_nce(x, y, within=True, **settings)
    torch.testing.assert_close(found, torch.stack(paper).mean())


def test_every_case_names_one_of_ours_and_calls_it():
    for case in CASES:
        assert case.function in mm.__all__
        assert f"{case.function}(" in case.ours


def named_losses(text):
    return set(re.findall(r"\b(\w+Loss|InfoNCE|triplet_margin\w+|kl_div|cross_entropy)\b", text))


@pytest.mark.parametrize("function", dict.fromkeys(case.function for case in CASES))
def test_docstrings_name_the_same_peers(function):
    """The note that a reader of the code sees, and the table that a reader of the site sees."""
    note = inspect.getdoc(getattr(mm, function)).partition("Note:")[2].partition("References:")[0]
    expected = {name for c in CASES if c.function == function for name in named_losses(c.theirs)}
    assert expected <= named_losses(note)
    for library in {c.library for c in CASES if c.function == function}:
        assert library in note


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_shuffled_products_are_symiles_draw_for_draw(temperature, generator):
    """Where no shuffled tuple is a sample's own, which Symile keeps as a negative."""
    rows = list(torch.randn(3, 7, 5, dtype=torch.float64, generator=generator))
    symile = peer("symile").Symile("n")

    def theirs(*rows):
        with torch.random.fork_rng():
            torch.manual_seed(joint.seed(7))
            return symile([F.normalize(x, dim=1) for x in rows], 1 / temperature)

    def ours(*rows):
        features = dict(zip("xyz", rows, strict=True))
        draws = torch.Generator().manual_seed(joint.seed(7))
        return mm.joint_contrast(features, temperature=temperature, generator=draws).total

    same_value_and_gradient(ours, theirs, *rows)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("modalities", [3, 4])
def test_volumes_are_grams_determinants(temperature, modalities, generator):
    """GRAM publishes no package: a determinant for each anchor and tuple, in both directions."""
    rows = torch.randn(modalities, 7, 5, dtype=torch.float64, generator=generator).unbind()

    def formula(*rows):
        anchor, *others = (F.normalize(x, dim=1) for x in rows)
        volumes = [[torch.stack([a, *(x[j] for x in others)]) for j in range(7)] for a in anchor]
        volumes = torch.stack([torch.stack([(m @ m.T).det().sqrt() for m in r]) for r in volumes])
        logits, pairs = -volumes / temperature, torch.arange(7)
        return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2

    def ours(*rows):
        features = {str(k): x for k, x in enumerate(rows)}
        return mm.joint_contrast(features, score="volume", anchor="0", temperature=temperature)["0"]

    same_value_and_gradient(ours, formula, *rows)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_areas_are_triangles(temperature, generator):
    """TRIANGLE publishes no package: half the root of |u|^2 |v|^2 - (u v)^2, of two sides."""
    rows = torch.randn(3, 7, 5, dtype=torch.float64, generator=generator).unbind()

    def formula(*rows):
        anchor, x, y = (F.normalize(x, dim=1) for x in rows)
        u, v = anchor[:, None] - x, anchor[:, None] - y
        squares = u.square().sum(2) * v.square().sum(2) - (u * v).sum(2).square()
        logits, pairs = -squares.sqrt() / 2 / temperature, torch.arange(7)
        return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2

    def ours(*rows):
        features = dict(zip("axy", rows, strict=True))
        return mm.joint_contrast(features, score="area", anchor="a", temperature=temperature)["a"]

    same_value_and_gradient(ours, formula, *rows)


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

"""The four fusions against sums and products written out."""

import math
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from reference_models.hycon.fusion import FUSIONS, GraphFusion, TensorFusion, make_fusion

SETS = [("audio", "vision"), ("text", "audio", "vision"), ("a", "b", "c", "d")]
D = 3


def made(name, modalities, **kwargs):
    """The fusion in float64 and evaluation."""
    torch.manual_seed(7)
    return FUSIONS[name](modalities, D, **kwargs).double().eval()


def features_of(modalities, generator, rows=4):
    return {m: torch.randn(rows, D, generator=generator).double() for m in modalities}


def three_layers(layers, x):
    for at in (0, 2, 4):
        x = torch.tanh(layers[at].weight @ x + layers[at].bias)
    return x


def addition(module, x):
    return torch.stack([sum(v[i] for v in x.values()) for i in range(D)])


def concatenation(module, x):
    flat = torch.tensor([v for name in module.modalities for v in x[name].tolist()]).double()
    return (module.layer.weight @ flat + module.layer.bias).clamp_min(0)


def tensor(module, x):
    led = [[1.0, *x[name].tolist()] for name in module.modalities]
    flat = torch.tensor([math.prod(factors) for factors in product(*led)]).double()
    return three_layers(module.layers, flat)


def join(layers, x, y):
    hidden = F.leaky_relu(layers[0].weight @ torch.cat([x, y]) + layers[0].bias, 0.2)
    return torch.tanh(layers[2].weight @ hidden + layers[2].bias)


def graph(module, x):
    """Section by section; a vertex of two modalities is the pair of their places."""
    names = module.modalities
    m = len(names)
    single = [x[name] for name in names]
    w = [torch.tanh((module.score.weight[0] * v).sum() + module.score.bias[0]) for v in single]
    s = [v.softmax(0) for v in single]
    out = [sum(w[i] * single[i] for i in range(m)) / m]

    pairs = [(i, j) for i in range(m) for j in range(i + 1, m)]
    r = {(i, j): (w[i] + w[j]) / ((s[i] * s[j]).sum() + 0.5) for i, j in pairs}
    g = {(i, j): join(module.join_pair, single[i], single[j]) for i, j in pairs}
    total = sum(v.exp() for v in r.values())
    b = {pair: torch.tanh(r[pair].exp() / total * g[pair]) for pair in pairs}
    out.append(sum(b.values()))

    c = {pair: g[pair].softmax(0) for pair in pairs}
    scores, joined = [], []
    for at, one in enumerate(pairs):
        for other in pairs[at + 1 :]:
            if len({*one, *other}) == 3:
                scores.append((r[one] + r[other]) / ((c[one] * c[other]).sum() + 0.5))
                joined.append(join(module.join_triple, b[one], b[other]))
    for one in pairs:
        for k in range(m):
            if k not in one:
                scores.append((r[one] + w[k]) / ((c[one] * s[k]).sum() + 0.5))
                joined.append(join(module.join_triple, b[one], single[k]))
    if m == 3:
        assert len(scores) == 6
    if scores:
        total = sum(v.exp() for v in scores)
        vertices = [torch.tanh(v.exp() / total * y) for v, y in zip(scores, joined, strict=True)]
        out.append(sum(vertices))
    return three_layers(module.layers, torch.cat(out))


ORACLES = {
    "addition": addition,
    "concatenation": concatenation,
    "tensor": tensor,
    "graph": graph,
}


@pytest.mark.parametrize("modalities", SETS, ids=len)
@pytest.mark.parametrize("name", list(FUSIONS))
def test_each_row_is_what_the_formula_says(name, modalities, generator):
    module, features = made(name, modalities), features_of(modalities, generator)
    shuffled = dict(reversed(features.items()))  # the module's order counts, not the mapping's
    fused = module(shuffled)
    assert fused.shape == (4, D)
    for row in range(4):
        expected = ORACLES[name](module, {m: x[row] for m, x in features.items()})
        torch.testing.assert_close(fused[row], expected)


@pytest.mark.parametrize("modalities", SETS, ids=len)
@pytest.mark.parametrize("name", list(FUSIONS))
def test_one_sample_and_absent_modalities(name, modalities, generator):
    module = made(name, modalities)
    features = features_of(modalities, generator, rows=1)
    features = {m: x.requires_grad_() for m, x in features.items()}
    alone = module(features)
    assert alone.shape == (1, D)
    alone.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in features.values())
    nothing = module({m: torch.zeros(1, D).double() for m in modalities})
    assert nothing.isfinite().all()


@pytest.mark.parametrize("name", ["concatenation", "tensor", "graph"])
def test_every_parameter_is_used(name, generator):
    module, features = made(name, SETS[1]), features_of(SETS[1], generator)
    module(features).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_sizes_are_those_of_the_table():
    three = SETS[1]
    counts = {
        name: sum(p.numel() for p in make_fusion(name, three, 50).parameters()) for name in FUSIONS
    }
    joined = (100 * 64 + 64) + (64 * 50 + 50)
    small = 50 * 50 + 50
    assert counts == {
        "addition": 0,
        "concatenation": 150 * 50 + 50,
        "tensor": (51**3 * 50 + 50) + 2 * small,
        "graph": 51 + 2 * joined + (150 * 50 + 50) + 2 * small,
    }


def test_two_modalities_have_no_third_layer():
    assert GraphFusion(("a", "b"), D).join_triple is None
    assert GraphFusion(("a", "b"), D).layers[0].in_features == 2 * D


def test_width_is_that_of_the_last_layers():
    for made_with in (TensorFusion(SETS[1], D, width=8), GraphFusion(SETS[1], D, width=8)):
        assert [made_with.layers[at].out_features for at in (0, 2, 4)] == [8, 8, D]


def test_tensor_drops_products_in_training_only(generator):
    features = features_of(SETS[1], generator)
    module = made("tensor", SETS[1], dropout=0.5)
    assert torch.equal(module(features), module(features))
    module.train()
    assert not torch.equal(module(features), module(features))


@pytest.mark.parametrize("name", list(FUSIONS))
@pytest.mark.parametrize(
    "modalities", [(), ("text",), ("text", "text"), ("text", "audio", "audio")], ids=str
)
def test_fewer_than_two_modalities_are_refused(name, modalities):
    with pytest.raises(ValueError, match="modalities: expected two or more different names, got"):
        make_fusion(name, modalities, D)


def test_an_unknown_name_lists_what_exists():
    with pytest.raises(ValueError, match=r"fusion: expected one of .*'graph'.*, got 'lmf'"):
        make_fusion("lmf", SETS[1], D)


@pytest.mark.parametrize("name", list(FUSIONS))
def test_other_features_are_refused(name, generator):
    module = made(name, SETS[1])
    with pytest.raises(ValueError, match=r"features: expected \('text', 'audio', 'vision'\), got"):
        module(features_of(SETS[0], generator))

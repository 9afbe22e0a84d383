"""Multi-level contrast against Algorithm 1 and table 7 of MCL-MCF as float64 loops."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.infonce import info_nce
from mmcontrast.multilevel import MultilevelContrast, multilevel_contrast
from mmcontrast.rows import softmax_normalize
from mmcontrast.scores import sentiment_classes
from mmcontrast.symmetric import symmetric_info_nce
from mmcontrast.temperature import LearnableTemperature
from tests import oracles
from tests.mmcontrast.strategies import (
    close,
    gradients,
    labels,
    leaf,
    mask,
    normal,
    numpy,
    rng,
    seeds,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
every_design = pytest.mark.parametrize("design", ["A", "B", "C"])
designs = st.sampled_from(["A", "B", "C"])
ODD = torch.tensor([0, 1, 0, -100, 1, 0])  # both classes more than once, and an unlabelled sample


def two_levels(seed, n, d=3):
    """Two pairs on the first level, one on the second, with features of another size."""
    pairs = [(normal(seed + k, n, d), normal(seed + 10 + k, n, d)) for k in range(2)]
    return {"first": pairs, "second": [(normal(seed + 5, n, d + 1), normal(seed + 6, n, d + 1))]}


def views(levels):
    return [x for level in levels.values() for pair in level for x in pair[:2]]


def rebuilt(levels, rows):
    """The same levels over other rows, in order."""
    rows = iter(rows)
    return {
        name: [(next(rows), next(rows), *pair[2:]) for pair in level]
        for name, level in levels.items()
    }


def call_of(levels, **options):
    return lambda *rows: multilevel_contrast(rebuilt(levels, rows), **options).total


# --- values --------------------------------------------------------------------------------------


@given(
    seed=seeds,
    n=st.integers(1, 6),
    design=designs,
    symmetric=st.booleans(),
    some_present=st.booleans(),
    kept=st.booleans(),
    weighted=st.booleans(),
    temperature=st.sampled_from([0.05, 0.5, 2.0]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_it_agrees_with_the_oracle(
    seed, n, design, symmetric, some_present, kept, weighted, temperature, reduction
):
    levels = two_levels(seed, n)
    if some_present:
        x, y = levels["first"][1]
        levels["first"][1] = (x, y, mask(seed, n, share=0.7))
    classes = labels(seed, n, classes=2, ignored=0.2)
    weights = {"first": 0.05, "second": 0.5}
    shared = {
        "pair_design": design,
        "symmetric": symmetric,
        "temperature": temperature,
        "reduction": reduction,
    }
    keep = mask(seed + 1, n, n, share=0.8) if kept else None
    weight = normal(seed, n).abs() if weighted else None
    terms = multilevel_contrast(
        levels, weights=weights, labels=classes, keep=keep, weight=weight, **shared
    )
    expected = oracles.multilevel_contrast(
        {name: [tuple(map(numpy, pair)) for pair in level] for name, level in levels.items()},
        labels=numpy(classes),
        keep=numpy(keep),
        weight=numpy(weight),
        **shared,
    )
    assert list(terms) == ["first", "second"]
    assert terms.weights == weights
    for name, value in expected.items():
        close(terms[name], value)
    close(terms.total, sum(weights[name] * value for name, value in expected.items()))


def test_defaults_are_algorithm_1():
    levels = two_levels(1, 5)
    expected = {
        name: sum(symmetric_info_nce(x, y, temperature=0.07) for x, y in level)
        for name, level in levels.items()
    }
    terms = multilevel_contrast(levels)
    for name, value in expected.items():
        close(terms[name], value)
    close(terms.total, sum(expected.values()))
    one_way = multilevel_contrast(levels, symmetric=False, weights={})
    close(one_way["second"], info_nce(*levels["second"][0]))
    raw = multilevel_contrast(levels, normalize=None, temperature=0.5)
    close(raw["second"], symmetric_info_nce(*levels["second"][0], normalize=None, temperature=0.5))


@pytest.mark.parametrize("soft", [False, True])
def test_raw_masks_stand_in_for_a_design(soft):
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    positives = mask(3, 5, 5) if not soft else normal(3, 5, 5).abs()
    keep = mask(4, 5, 5, share=0.8)
    terms = multilevel_contrast({"only": [(x, y)]}, positives=positives, keep=keep)
    close(terms["only"], symmetric_info_nce(x, y, positives=positives, keep=keep))


def test_designs_in_words():
    """L13: who is pulled (negative gradient of the similarity) and who is pushed, by anchor 0."""
    classes = torch.tensor([7, 7, 3, -100])
    x, y = torch.eye(4, dtype=torch.float64), normal(1, 4, 4)
    expected = {"A": [-1, 1, 1, 1], "B": [-1, 0, 1, 0], "C": [0, -1, 1, 0]}
    for design, signs in expected.items():
        terms, (_, gradient) = gradients(
            lambda x, y, design=design: multilevel_contrast(
                {"only": [(x, y)]},
                pair_design=design,
                labels=classes,
                symmetric=False,
                normalize=None,
                reduction="none",
            ).total[0],
            x,
            y,
        )
        assert gradient[:, 0].sign().tolist() == signs
        assert terms.isfinite()


def test_sentiment_is_the_sign_of_a_score_with_zero_a_class_of_its_own():
    scores = torch.tensor([-2.0, -0.1, 0.0, 0.0, 0.3, 3.0])
    x, y = normal(1, 6, 3), normal(2, 6, 3)
    own = sentiment_classes(scores, neutral="own")
    for design in ("B", "C"):
        signs = multilevel_contrast({"a": [(x, y)]}, pair_design=design, labels=scores.sign())
        close(signs["a"], multilevel_contrast({"a": [(x, y)]}, pair_design=design, labels=own)["a"])


def test_labels_of_several_columns_must_agree_in_all():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    several = torch.tensor([[0, 0], [0, 1], [0, 0], [1, 1]])
    single = torch.tensor([0, 1, 0, 2])
    for design in ("B", "C"):
        close(
            multilevel_contrast({"a": [(x, y)]}, pair_design=design, labels=several)["a"],
            multilevel_contrast({"a": [(x, y)]}, pair_design=design, labels=single)["a"],
        )


@given(seed=seeds, design=designs)
def test_law_10_swapping_the_views_changes_nothing_if_symmetric(seed, design):
    levels = two_levels(seed, 6)
    swapped = {name: [(y, x) for x, y in level] for name, level in levels.items()}
    options = {"pair_design": design, "labels": ODD, "reduction": "sum"}
    there, back = (multilevel_contrast(one, **options) for one in (levels, swapped))
    close(there.total, back.total)
    one_way = [
        multilevel_contrast(one, symmetric=False, **options).total for one in (levels, swapped)
    ]
    close((one_way[0] + one_way[1]) / 2, there.total)


@given(seed=seeds, design=designs)
def test_law_4_permutations(seed, design):
    levels, order = two_levels(seed, 6), torch.randperm(6, generator=rng(seed))
    moved = rebuilt(levels, [x[order] for x in views(levels)])
    options = {"pair_design": design, "reduction": "none"}
    terms = multilevel_contrast(levels, labels=ODD, **options)
    after = multilevel_contrast(moved, labels=ODD[order], **options)
    for name in levels:
        close(after[name], terms[name][order])


@given(seed=seeds, weighted=st.booleans())
def test_law_21_reductions_agree(seed, weighted):
    levels = two_levels(seed, 4)
    weight = normal(seed, 4).abs() if weighted else None
    none, summed, mean = (
        multilevel_contrast(levels, weight=weight, reduction=r) for r in ("none", "sum", "mean")
    )
    for name in levels:
        assert none[name].shape == (4,)
        close(none[name].sum(), summed[name])
        close(summed[name] / (4 if weight is None else weight.sum()), mean[name])


# --- law 56: weights -----------------------------------------------------------------------------


@given(seed=seeds, a=st.floats(-2, 2), b=st.floats(0.1, 2))
def test_law_56_linear_in_the_weights(seed, a, b):
    levels = two_levels(seed, 4)
    ones = multilevel_contrast(levels)
    weighted = multilevel_contrast(levels, weights={"first": a, "second": b})
    close(weighted.total, a * ones["first"] + b * ones["second"])
    _, found = gradients(call_of(levels, weights={"first": a, "second": b}), *views(levels))
    _, plain = gradients(call_of(levels), *views(levels))
    for gradient, reference, factor in zip(found, plain, [a] * 4 + [b] * 2, strict=True):
        close(gradient, factor * reference)
    same = {"first": levels["first"], "second": levels["first"]}
    close(
        multilevel_contrast(same, weights={"first": a, "second": b}).total,
        (a + b) * ones["first"],
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_law_56_weight_zero_touches_nothing(reduction):
    kept, left_out = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    x, y = normal(1, 4, 3).float(), normal(2, 4, 3).float()
    terms = multilevel_contrast(
        {"a": [(kept(x), kept(y))], "b": [(left_out(x), left_out(y) * math.nan)]},
        weights={"b": 0.0},
        reduction=reduction,
    )
    terms.total.sum().backward()
    assert kept.weight.grad.abs().sum() > 0
    assert left_out.weight.grad is None
    assert (terms["b"] == 0).all()
    assert terms["b"].shape == terms["a"].shape
    assert terms["b"].dtype == terms["a"].dtype


def test_a_level_left_out_is_zero_where_the_views_are():
    away = torch.ones(3, 2, device="meta")
    terms = multilevel_contrast({"a": [(away, away)], "b": lambda: 1 / 0}, weights={"b": 0})
    assert terms["b"].device.type == "meta"


def test_a_callable_is_called_where_it_counts():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    calls = []

    def level():
        calls.append(1)
        return [(x, y)]

    levels = {"cheap": [(x, y)], "dear": level}
    plain = multilevel_contrast({"cheap": [(x, y)], "dear": [(x, y)]}, weights={"dear": 0.5})
    close(multilevel_contrast(levels, weights={"dear": 0.5}).total, plain.total)
    assert calls == [1]
    terms = multilevel_contrast(levels, weights={"dear": 0})
    assert calls == [1]
    assert list(terms) == ["cheap", "dear"]
    assert terms["dear"] == 0
    close(terms.total, plain["cheap"])


@pytest.mark.parametrize(
    ("levels", "weights", "shape"),
    [
        ({"a": [(torch.ones(3, 2).double(), torch.ones(3, 2).double())]}, {"a": 0}, (3,)),
        ({"a": [], "b": []}, None, ()),
        ({"a": lambda: [], "b": lambda: 1 / 0}, {"b": 0}, ()),
    ],
)
def test_levels_that_are_all_left_out_or_empty_are_zero(levels, weights, shape):
    terms = multilevel_contrast(levels, weights=weights, reduction="none")
    assert list(terms) == list(levels)
    for value in [*terms.values(), terms.total]:
        assert value.shape == shape
        assert (value == 0).all()
    if shape:
        assert terms["a"].dtype == torch.float64


def test_a_level_without_pairs_adds_nothing():
    levels = two_levels(1, 4)
    expected = multilevel_contrast(levels)
    terms = multilevel_contrast(levels | {"third": []})
    assert terms["third"] == 0
    close(terms.total, expected.total)


# --- who takes part ------------------------------------------------------------------------------


@every_design
@pytest.mark.parametrize("filler", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("symmetric", [True, False])
def test_contract_3_absent_rows_reach_nothing(design, filler, symmetric):
    here = torch.tensor([True, True, False, True, True, True])
    x, y = normal(1, 6, 3), normal(2, 6, 3)
    known = here if design == "A" else here & (ODD != -100)
    filled = [torch.where(known[:, None], v, filler) for v in (x, y)]
    options = {"pair_design": design, "symmetric": symmetric}
    value, found = gradients(
        lambda x, y: multilevel_contrast({"a": [(x, y, here)]}, labels=ODD, **options).total,
        *filled,
    )
    smaller = {"a": [(x[known], y[known])]}
    close(value, multilevel_contrast(smaller, labels=ODD[known], **options).total)
    assert value > 0
    for gradient in found:
        assert (gradient[~known] == 0).all()
        assert (gradient[known] != 0).any(1).all()


def test_design_a_reads_no_labels():
    levels = two_levels(1, 6)
    close(
        multilevel_contrast(levels, labels=ODD).total,
        multilevel_contrast(levels).total,
        atol=0,
    )


@pytest.mark.parametrize(
    ("design", "classes"),
    [
        ("B", torch.zeros(4).long()),  # nobody of another class: the sample stands alone
        ("B", torch.full((4,), -100)),
        ("C", torch.arange(4)),  # nobody of the same class
        ("C", torch.full((4,), -100)),
        ("C", torch.full((4,), math.nan)),
    ],
)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nobody_to_compare_with_is_zero_with_a_graph(design, classes, reduction):
    value, found = gradients(
        lambda x, y: multilevel_contrast(
            {"a": [(x, y)]}, pair_design=design, labels=classes, reduction=reduction
        ).total.sum(),
        normal(1, 4, 3),
        normal(2, 4, 3),
    )
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)


@every_design
@pytest.mark.parametrize("n", [0, 1])
def test_law_63_nobody_and_one(design, n):
    value, found = gradients(
        lambda x, y: (
            multilevel_contrast({"a": [(x, y)]}, pair_design=design, labels=torch.zeros(n)).total
        ),
        normal(1, n, 3),
        normal(2, n, 3),
    )
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)


# --- numbers -------------------------------------------------------------------------------------


@every_design
@pytest.mark.parametrize("dtype", DTYPES)
def test_law_23_and_24_dtypes_and_zero_rows(design, dtype):
    levels = two_levels(1, 6)
    rows = [x.to(dtype) for x in views(levels)]
    for x in rows[:3]:
        x[2] = 0
    before = [x.clone() for x in rows]
    call = call_of(levels, pair_design=design, labels=ODD, temperature=0.1)
    value, found = gradients(call, *rows)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(value, call(*[x.double() for x in rows]), rtol=1e-5)
    assert all(gradient.isfinite().all() for gradient in found)
    assert all(torch.equal(x, y) for x, y in zip(rows, before, strict=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(call(*rows), value)


@every_design
@pytest.mark.parametrize("symmetric", [True, False])
def test_gradients(design, symmetric):
    levels = {"a": [(normal(1, 4, 3), normal(2, 4, 3)), (normal(3, 4, 2), normal(4, 4, 2))]}
    options = {"labels": torch.tensor([0, 1, 0, 1]), "temperature": 0.5, "symmetric": symmetric}
    call = call_of(levels, pair_design=design, weights={"a": 0.3}, **options)
    free = tuple(leaf(x) for x in views(levels))
    assert torch.autograd.gradcheck(call, free)
    assert torch.autograd.gradgradcheck(call, free, fast_mode=True)


def test_compiled_under_transforms_and_elsewhere():
    levels = {
        "a": [(normal(1, 4, 3), normal(2, 4, 3), torch.arange(4) != 2)],
        "b": [(normal(3, 4, 2), normal(4, 4, 2))],
    }
    rows, classes = views(levels), torch.tensor([0, 1, 0, 1])

    def call(classes, here, *rows):
        first, second = rows[:2], rows[2:]
        return multilevel_contrast(
            {"a": [(*first, here)], "b": lambda: [second], "c": lambda: 1 / 0},
            weights={"b": 0.5, "c": 0},
            pair_design="B",
            labels=classes,
            symmetric=False,
        ).total

    here = levels["a"][0][2]
    value, expected = gradients(lambda *r: call(classes, here, *r), *rows)
    options = {"pair_design": "B", "labels": classes, "symmetric": False}
    close(value, call_of(levels, weights={"b": 0.5}, **options)(*rows))
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for found, reference in zip(
        gradients(lambda *r: compiled(classes, here, *r), *rows)[1], expected, strict=True
    ):
        close(found, reference)
    close(torch.func.grad(lambda *r: call(classes, here, *r))(*rows), expected[0])
    doubled = [torch.stack([x, x.flip(0)]) for x in (classes, here, *rows)]
    close(torch.vmap(call)(*doubled), value.expand(2))
    spread = [torch.stack([x, x], dim=-1)[..., 0] for x in rows]
    close(call(classes, here, *spread), value, atol=1e-14)
    moved = [leaf(x.to("meta")) for x in rows]
    call(classes.to("meta"), here.to("meta"), *moved).backward()
    assert all(x.grad.device.type == "meta" for x in moved)


@pytest.mark.parametrize("chunk_size", [1, 2, 9])
def test_law_19_chunks_change_nothing(chunk_size):
    levels = two_levels(1, 6)
    options = {"pair_design": "C", "labels": ODD}
    value, found = gradients(call_of(levels, chunk_size=chunk_size, **options), *views(levels))
    expected, reference = gradients(call_of(levels, **options), *views(levels))
    close(value, expected)
    for gradient, other in zip(found, reference, strict=True):
        close(gradient, other)


# --- the module ----------------------------------------------------------------------------------


def test_the_module_is_one_call_of_the_function():
    levels = two_levels(1, 6)
    settings = {
        "weights": {"first": 0.3},
        "temperature": 0.4,
        "symmetric": False,
        "normalize": softmax_normalize,
        "reduction": "sum",
        "chunk_size": 4,
    }
    forward = {"keep": mask(2, 6, 6), "weight": normal(3, 6).abs()}
    for extra, chosen in [
        ({"pair_design": "C"}, {"labels": ODD}),
        ({}, {"positives": mask(4, 6, 6)}),
    ]:
        loss = MultilevelContrast(**settings, **extra)
        expected = multilevel_contrast(levels, **settings, **extra, **forward, **chosen)
        for same in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            terms = same(levels, **forward, **chosen)
            close(terms.total, expected.total)
            assert terms.weights == {"first": 0.3, "second": 1.0}
    close(MultilevelContrast()(levels).total, multilevel_contrast(levels).total)


def test_a_temperature_can_be_learned():
    loss = MultilevelContrast(temperature=LearnableTemperature(0.2))
    total = loss(two_levels(1, 4)).total
    close(total, multilevel_contrast(two_levels(1, 4), temperature=0.2).total, atol=1e-5)
    total.backward()
    assert all(p.grad.abs() > 0 for p in loss.parameters())


# --- wrong calls ---------------------------------------------------------------------------------

X = torch.ones(3, 2)
LEVELS = {"a": [(X, X)]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: multilevel_contrast({}), "levels: expected .*one name.*got {}"),
        (lambda: multilevel_contrast([(X, X)]), "levels: expected a mapping"),
        (
            lambda: multilevel_contrast({"a": X}),
            r"levels\['a'\]: expected a list of pairs, got Tensor",
        ),
        (lambda: multilevel_contrast({"a": {"x": X}}), r"levels\['a'\]: expected a list.*got dict"),
        (
            lambda: multilevel_contrast({"a": lambda: X}),
            r"levels\['a'\]: expected a list.*got Tensor",
        ),
        (
            lambda: multilevel_contrast({"a": (X, X)}),
            r"levels\['a'\]\[0\]: expected \(x, y\) or \(x, y, present\), got Tensor",
        ),
        (lambda: multilevel_contrast({"a": [(X,)]}), r"levels\['a'\]\[0\]: expected \(x, y\)"),
        (
            lambda: multilevel_contrast({"a": [(X, X, X, X)]}),
            r"levels\['a'\]\[0\]: expected \(x, y\)",
        ),
        (
            lambda: multilevel_contrast({"a": [(X, X), (X, X[:2])]}),
            r"levels\['a'\]\[1\]\[1\]: expected .*3.*got \(2, 2\)",
        ),
        (
            lambda: multilevel_contrast({"a": [(X, X)], "b": [(X[:2], X[:2])]}),
            r"levels\['b'\]\[0\]\[0\]: expected .*3.*got \(2, 2\)",
        ),
        (
            lambda: multilevel_contrast({"a": [(X, torch.ones(3, 4))]}),
            r"levels\['a'\]\[0\]\[1\]: expected .*2.*got \(3, 4\)",
        ),
        (
            lambda: multilevel_contrast({"a": [(X, X.int())]}),
            r"levels\['a'\]\[0\]\[1\]: expected .*float.*got torch.int32",
        ),
        (
            lambda: multilevel_contrast({"a": [(X, X, X[:, 0])]}),
            r"levels\['a'\]\[0\]\[2\]: expected a bool mask, got torch.float32",
        ),
        (
            lambda: multilevel_contrast({"a": [(X, X, X[0] > 0)]}),
            r"levels\['a'\]\[0\]\[2\]: expected shape \(3,\), got \(2,\)",
        ),
        (lambda: multilevel_contrast(LEVELS, weights={"b": 1}), "weights: expected .*'a', got 'b'"),
        (lambda: multilevel_contrast(LEVELS, temperature=0.0), "temperature: expected .*got 0.0"),
        (
            lambda: multilevel_contrast(LEVELS, weights={"a": 0}, temperature=-1),
            "temperature: expected .*got -1",
        ),
        (
            lambda: multilevel_contrast(LEVELS, pair_design="D"),
            "pair_design: expected .*'A', 'B', 'C', got 'D'",
        ),
        (
            lambda: multilevel_contrast(LEVELS, pair_design="B"),
            "labels: expected classes in design B, got None",
        ),
        (
            lambda: multilevel_contrast(LEVELS, pair_design="C", labels=torch.ones(2)),
            r"labels: expected shape \(3,\).*got \(2,\)",
        ),
        (
            lambda: multilevel_contrast(
                LEVELS, pair_design="C", labels=torch.ones(3), positives=torch.eye(3)
            ),
            r"positives: expected None in design C, got \(3, 3\)",
        ),
        (
            lambda: multilevel_contrast(LEVELS, positives=torch.eye(2)),
            r"positives: expected shape \(3, 3\), got \(2, 2\)",
        ),
        (
            lambda: multilevel_contrast(LEVELS, keep=torch.eye(2).bool()),
            r"keep: expected shape \(3, 3\), got \(2, 2\)",
        ),
        (lambda: multilevel_contrast(LEVELS, keep=torch.eye(3)), "keep: expected a bool mask"),
        (
            lambda: multilevel_contrast(LEVELS, weight=torch.ones(2)),
            r"weight: expected shape \(3,\), got \(2,\)",
        ),
        (lambda: multilevel_contrast(LEVELS, reduction="avg"), "reduction: expected .*got 'avg'"),
        (lambda: multilevel_contrast(LEVELS, chunk_size=0), "chunk_size: expected .*got 0"),
        (lambda: MultilevelContrast(chunk_size=0)(LEVELS), "chunk_size: expected .*got 0"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Modality correlation and its triplet loss against CorMulT's equations as float64 loops."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast.correlation import (
    ModalityCorrelationTriplet,
    modality_correlation,
    modality_correlation_triplet,
)
from mmcontrast.distances import (
    chebyshev,
    cosine_distance,
    euclidean,
    manhattan,
    squared_euclidean,
)
from mmcontrast.mahalanobis import Mahalanobis
from tests import oracles
from tests.mmcontrast.strategies import (
    close,
    gradients,
    leaf,
    mask,
    normal,
    numpy,
    presence,
    rng,
    seeds,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
REDUCE = ["flatten", "mean", "per_step"]
DISTANCES = [euclidean, squared_euclidean, manhattan, chebyshev, cosine_distance]
NAMES = ("text", "audio", "vision", "touch")
every_reduce = pytest.mark.parametrize("reduce", REDUCE)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4))


def batch(seed, *shape, names=NAMES[:3]):
    return {name: normal(seed + k, *shape) for k, name in enumerate(names)}


def total(features, negatives, **options):
    """The total as a function of all maps, for gradients."""

    def call(*maps):
        names = list(features)
        return modality_correlation_triplet(
            dict(zip(names, maps[: len(names)], strict=True)),
            dict(zip(names, maps[len(names) :], strict=True)),
            **options,
        ).total

    return call, [*features.values(), *[negatives[name] for name in features]]


# --- correlation ---------------------------------------------------------------------------------


@every_reduce
@given(seed=seeds, shape=shapes, flat=st.booleans(), masked=st.booleans())
def test_correlation_agrees_with_the_oracle(reduce, seed, shape, flat, masked):
    shape = (shape[0], shape[2]) if flat else shape
    x, y = normal(seed, *shape), normal(seed + 1, *shape)
    real = mask(seed, *shape[:-1], share=0.6) if masked else None
    shown = None if real is None else numpy(real.reshape(len(x), -1))
    expected = oracles.modality_correlation(numpy(x), numpy(y), reduce=reduce, mask=shown)
    close(modality_correlation(x, y, reduce=reduce, mask=real), expected)


def test_flatten_is_torchs_cosine_and_the_default():
    x, y = normal(1, 5, 3, 4), normal(2, 5, 3, 4)
    expected = F.cosine_similarity(x.flatten(1), y.flatten(1))
    close(modality_correlation(x, y), expected)
    close(modality_correlation(x, y, reduce="flatten"), expected)


@every_reduce
@given(seed=seeds, shape=shapes)
def test_law_36_bounds_symmetry_scale_and_sign(reduce, seed, shape):
    x, y = normal(seed, *shape), normal(seed + 1, *shape)
    value = modality_correlation(x, y, reduce=reduce)
    assert value.shape == (shape[0],)
    assert torch.equal(value, modality_correlation(y, x, reduce=reduce))
    close(modality_correlation(3 * x, 0.2 * y, reduce=reduce), value)
    close(modality_correlation(-x, y, reduce=reduce), -value)
    for a, b in [(x, y), (x, x), (x, -2 * x), (x.float(), 3 * x.float())]:
        assert (modality_correlation(a, b, reduce=reduce).abs() <= 1).all()
    close(modality_correlation(x, 2 * x, reduce=reduce), torch.ones(shape[0]))


def test_only_the_flattened_and_the_stepwise_cosine_see_the_order_of_steps():
    x, y = normal(1, 4, 3, 2), normal(2, 4, 3, 2)
    for reduce in REDUCE:
        value = modality_correlation(x, y, reduce=reduce)
        close(modality_correlation(x.flip(1), y.flip(1), reduce=reduce), value)
        moved = modality_correlation(x.flip(1), y, reduce=reduce)
        assert torch.allclose(moved, value) == (reduce == "mean")


@every_reduce
@pytest.mark.parametrize("dtype", DTYPES)
def test_law_23_zero_maps_give_zero_with_zero_gradient(reduce, dtype):
    x, y = normal(1, 4, 2, 3).to(dtype), normal(2, 4, 2, 3).to(dtype)
    x[1], y[2], x[3], y[3] = 0, 0, 0, 0
    value, found = gradients(lambda x, y: modality_correlation(x, y, reduce=reduce).sum(), x, y)
    assert value.isfinite()
    assert (modality_correlation(x, y, reduce=reduce)[1:] == 0).all()
    for k, gradient in enumerate(found):
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()
        assert gradient[0].abs().sum() > 0
        assert (gradient[[3, 1 + k]] == 0).all()


@every_reduce
@pytest.mark.parametrize("filler", [math.nan, math.inf, 1e30])
def test_law_25_masked_steps_reach_nothing(reduce, filler):
    real = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    x, y = normal(1, 3, 3, 2), normal(2, 3, 3, 2)
    filled = [torch.where(real[..., None], v, filler) for v in (x, y)]
    with torch.autograd.set_detect_anomaly(True):  # not even a NaN that a mask would hide
        value, found = gradients(
            lambda x, y: modality_correlation(x, y, reduce=reduce, mask=real).sum(), *filled
        )
    short = [
        modality_correlation(x[i : i + 1, :n], y[i : i + 1, :n], reduce=reduce)
        for i, n in ((0, 2), (1, 1))
    ]
    close(
        modality_correlation(*filled, reduce=reduce, mask=real), torch.cat([*short, torch.zeros(1)])
    )
    close(value, sum(short).sum())
    for gradient in found:
        assert gradient.isfinite().all()
        assert (gradient[~real] == 0).all()
        assert (gradient[:2, 0] != 0).all()


@every_reduce
@pytest.mark.parametrize("dtype", DTYPES)
def test_law_24_correlation_dtypes(reduce, dtype):
    x, y = normal(1, 5, 3, 4).to(dtype), normal(2, 5, 3, 4).to(dtype)
    value = modality_correlation(x, y, reduce=reduce)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(value, modality_correlation(x.double(), y.double(), reduce=reduce), atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(modality_correlation(x, y, reduce=reduce), value)


@every_reduce
def test_law_44_and_61_correlation_derivatives(reduce):
    x, y, real = leaf(normal(1, 2, 3, 2)), leaf(normal(2, 2, 3, 2)), mask(3, 2, 3, share=0.8)

    def call(x, y):
        return modality_correlation(x, y, reduce=reduce, mask=real)

    assert torch.autograd.gradcheck(call, (x, y))
    assert torch.autograd.gradgradcheck(call, (x, y))
    _, found = gradients(lambda x: call(x, y).sum(), x)
    close(torch.func.grad(lambda x: call(x, y.detach()).sum())(x.detach()), found[0])
    if reduce == "per_step":
        torch._dynamo.reset()
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        close(gradients(lambda x: compiled(x, y).sum(), x)[1][0], found[0])
    pair = torch.stack([x, y]).detach(), torch.stack([y, y + 1]).detach()
    together = torch.vmap(lambda x, y: modality_correlation(x, y, reduce=reduce))(*pair)
    close(together[1], modality_correlation(pair[0][1], pair[1][1], reduce=reduce))
    moved = leaf(torch.empty(2, 3, 2, device="meta"))
    modality_correlation(moved, moved, reduce=reduce).sum().backward()


# --- the triplet loss ----------------------------------------------------------------------------


@given(
    seed=seeds,
    shape=shapes,
    names=st.integers(2, 4),
    flat=st.booleans(),
    distance=st.sampled_from(DISTANCES),
    reduce=st.sampled_from(REDUCE),
    margin=st.sampled_from([0.0, 0.2, 1.5]),
    some_altered=st.booleans(),
    skip=st.booleans(),
    missing=st.booleans(),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_triplet_agrees_with_eq_8(
    seed,
    shape,
    names,
    flat,
    distance,
    reduce,
    margin,
    some_altered,
    skip,
    missing,
    weighted,
    reduction,
):
    n = shape[0]
    shape = (n, shape[2]) if flat else shape
    features = batch(seed, *shape, names=NAMES[:names])
    negatives = batch(seed + 10, *shape, names=NAMES[:names])
    altered = presence(seed + 1, n, NAMES[:names], 0.5) if some_altered else None
    present = presence(seed + 2, n, NAMES[: names - 1]) if missing else None
    options = {"margin": margin, "skip_unaltered": skip, "reduction": reduction}
    weight = normal(seed, n).abs() if weighted else None
    terms = modality_correlation_triplet(
        features,
        negatives,
        altered=altered,
        distance=distance,
        reduce=reduce,
        present=present,
        weight=weight,
        **options,
    )
    expected = oracles.modality_correlation_triplet(
        numpy(features),
        numpy(negatives),
        altered=None if altered is None else numpy(altered),
        distance=oracles.DISTANCES[distance.__name__],
        reduce_over=reduce,
        present=None if present is None else numpy(present),
        weight=numpy(weight),
        **options,
    )
    assert list(terms) == list(features)
    for name in features:
        close(terms[name], expected[name])
    close(terms.total, sum(expected.values()) / names)


def test_defaults_are_the_documented_ones():
    features, negatives = batch(1, 4, 2, 3), batch(5, 4, 2, 3)
    close(
        modality_correlation_triplet(features, negatives).total,
        modality_correlation_triplet(
            features,
            negatives,
            margin=0.2,
            distance=cosine_distance,
            reduce="flatten",
            altered=None,
            skip_unaltered=True,
            reduction="mean",
        ).total,
    )


@pytest.mark.parametrize("distance", DISTANCES)
def test_two_modalities_are_torchs_triplet_loss(distance):
    x, y, bad_x, bad_y = (normal(k, 6, 4) for k in range(4))
    terms = modality_correlation_triplet(
        {"x": x, "y": y}, {"x": bad_x, "y": bad_y}, distance=distance, margin=0.7
    )
    theirs = {
        name: F.triplet_margin_with_distance_loss(*rows, distance_function=distance, margin=0.7)
        for name, rows in {"x": (x, y, bad_y), "y": (y, x, bad_x)}.items()
    }
    for name, value in theirs.items():
        close(terms[name], value)
    close(terms.total, (theirs["x"] + theirs["y"]) / 2)


@given(seed=seeds, names=st.integers(2, 4), distance=st.sampled_from(DISTANCES))
def test_equal_negatives_leave_the_margin(seed, names, distance):
    """PAPERS 12: TL = margin where positive and negative are the same."""
    features = batch(seed, 3, 2, 4, names=NAMES[:names])
    terms = modality_correlation_triplet(features, features, distance=distance, margin=0.3)
    for value in terms.values():
        close(value, 0.3 * (names - 1))
    close(terms.total, 0.3 * (names - 1))


def test_unaltered_terms_are_skipped():
    """Strategy A alters one modality: of the six terms, two compare something."""
    features, negatives = batch(1, 5, 2, 3), batch(1, 5, 2, 3)
    negatives["audio"] = normal(9, 5, 2, 3)
    nobody, everybody = torch.zeros(5).bool(), torch.ones(5).bool()
    altered = {"text": nobody, "audio": everybody, "vision": nobody}
    terms = modality_correlation_triplet(features, negatives, altered=altered)
    gap = cosine_distance(features["text"].flatten(1), features["audio"].flatten(1))
    gap = gap - cosine_distance(features["text"].flatten(1), negatives["audio"].flatten(1)) + 0.2
    close(terms["text"], gap.relu().mean())
    assert terms["audio"] == 0
    official = modality_correlation_triplet(
        features, negatives, altered=altered, skip_unaltered=False
    )
    close(official["text"], terms["text"] + 0.2)
    close(official["audio"], 0.4)
    unsaid = {name: there for name, there in altered.items() if name != "audio"}
    close(modality_correlation_triplet(features, negatives, altered=unsaid).total, terms.total)


@given(seed=seeds)
def test_a_term_averages_over_its_altered_samples_only(seed):
    """Law 25: leaving the unaltered samples out of a two-modality batch changes nothing."""
    features, negatives = batch(seed, 6, 3, names=NAMES[:2]), batch(seed + 5, 6, 3, names=NAMES[:2])
    changed = mask(seed, 6)
    altered = dict.fromkeys(features, changed)
    close(
        modality_correlation_triplet(features, negatives, altered=altered).total,
        modality_correlation_triplet(
            {k: v[changed] for k, v in features.items()},
            {k: v[changed] for k, v in negatives.items()},
        ).total,
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_nobody_altered_is_zero_with_a_graph(reduction):
    features, negatives = batch(1, 3, 2, 2), batch(5, 3, 2, 2)
    altered = dict.fromkeys(features, torch.zeros(3).bool())
    call, maps = total(features, negatives, altered=altered, reduction=reduction)
    value, found = gradients(lambda *m: call(*m).sum(), *map(leaf, maps))
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)


@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("filler", [math.nan, math.inf])
@pytest.mark.parametrize("distance", [*DISTANCES, lambda x, y: (x - y).square().sum(-1).sqrt()])
def test_contract_3_absent_modalities_reach_nothing(reduce, filler, distance):
    features, negatives = batch(1, 6, 2, 3), batch(5, 6, 2, 3)
    present = presence(4, 6)
    assert all(0 < here.sum() < 6 for here in present.values())

    def fill(maps):
        return {n: torch.where(present[n][:, None, None], x, filler) for n, x in maps.items()}

    options = {"present": present, "reduce": reduce, "distance": distance}
    call, plain = total(features, negatives, **options)
    value, found = gradients(call, *total(fill(features), fill(negatives), **options)[1])
    expected, reference = gradients(call, *plain)
    close(value, expected, atol=0, rtol=0)
    for name, gradient, other in zip([*features, *features], found, reference, strict=True):
        close(gradient, other)
        assert (gradient[~present[name]] == 0).all()


def test_everything_absent_is_zero_with_a_graph():
    features, negatives = batch(1, 3, 2, 2), batch(5, 3, 2, 2)
    call, maps = total(features, negatives, present={"text": torch.zeros(3).bool()})
    _, found = gradients(call, *maps)
    assert (found[0] == 0).all()
    absent = dict.fromkeys(features, torch.zeros(3).bool())
    value, found = gradients(total(features, negatives, present=absent)[0], *maps)
    assert value == 0
    assert all((gradient == 0).all() for gradient in found)


@given(seed=seeds, weighted=st.booleans())
def test_law_21_reductions_agree(seed, weighted):
    features, negatives = batch(seed, 4, 3), batch(seed + 5, 4, 3)
    weight = normal(seed, 4).abs() if weighted else None
    none, summed, mean = (
        modality_correlation_triplet(features, negatives, weight=weight, reduction=r)
        for r in ("none", "sum", "mean")
    )
    for name in features:
        assert none[name].shape == (4,)
        close(none[name].sum(), summed[name])
        close(summed[name] / (4 if weight is None else weight.sum()), mean[name])
    assert none.total.shape == (4,)


@given(seed=seeds)
def test_law_4_permutations(seed):
    features, negatives = batch(seed, 5, 2, 3), batch(seed + 5, 5, 2, 3)
    order = torch.randperm(5, generator=rng(seed))
    terms = modality_correlation_triplet(features, negatives, reduction="none")
    moved = modality_correlation_triplet(
        {k: v[order] for k, v in features.items()},
        {k: negatives[k][order] for k in reversed(negatives)},
        reduction="none",
    )
    for name in features:
        close(moved[name], terms[name][order])


def test_rows_are_maps_of_one_step():
    features, negatives = batch(1, 4, 3), batch(5, 4, 3)
    rows = modality_correlation_triplet(features, negatives)
    for reduce in REDUCE:
        maps = modality_correlation_triplet(
            {k: v[:, None] for k, v in features.items()},
            {k: v[:, None] for k, v in negatives.items()},
            reduce=reduce,
        )
        close(maps.total, rows.total)
        close(modality_correlation_triplet(features, negatives, reduce=reduce).total, rows.total)


@pytest.mark.parametrize("reduce", REDUCE)
def test_gradients(reduce):
    features, negatives = batch(1, 3, 2, 2, names=NAMES[1:3]), batch(5, 3, 2, 2, names=NAMES[1:3])
    altered = {"audio": torch.tensor([True, False, True])}
    call, maps = total(features, negatives, altered=altered, reduce=reduce, margin=3.0)
    free = tuple(map(leaf, maps))
    assert torch.autograd.gradcheck(call, free)
    assert torch.autograd.gradgradcheck(call, free)
    value, found = gradients(call, *maps)
    for k, gradient in enumerate(found):

        def loss(moved, k=k):
            plain = [numpy(v) for v in maps]
            plain[k] = moved
            terms = oracles.modality_correlation_triplet(
                dict(zip(features, plain[:2], strict=True)),
                dict(zip(features, plain[2:], strict=True)),
                altered=numpy(altered),
                reduce_over=reduce,
                margin=3.0,
            )
            return sum(terms.values()) / 2

        close(gradient, oracles.central_differences(loss, numpy(maps[k])), atol=1e-8)
    close(value, loss(numpy(maps[-1])))


def test_compiled_under_transforms_and_elsewhere():
    features, negatives = batch(1, 3, 2, 2, names=NAMES[:2]), batch(5, 3, 2, 2, names=NAMES[:2])
    present = presence(4, 3, NAMES[:2])
    options = {"altered": present, "present": present, "reduce": "per_step"}
    call, maps = total(features, negatives, **options)
    value, expected = gradients(call, *maps)
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for found, reference in zip(gradients(compiled, *maps)[1], expected, strict=True):
        close(found, reference)
    for reduce in REDUCE:
        call, maps = total(features, negatives, **options | {"reduce": reduce})
        value, expected = gradients(call, *maps)
        close(torch.func.grad(call)(*maps), expected[0])
        pairs = [torch.stack([x, x + 1]) for x in maps]
        close(torch.vmap(call)(*pairs)[0], value)
        spread = [torch.stack([x, x], dim=-1)[..., 0] for x in maps]
        close(call(*spread), value, atol=1e-15)
        away = {name: here.to("meta") for name, here in present.items()}
        moved = [leaf(x.to("meta")) for x in maps]
        there = {"altered": away, "present": away, "reduce": reduce}
        total(features, negatives, **there)[0](*moved).backward()
        assert moved[-1].grad.device.type == "meta"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduce", REDUCE)
def test_law_23_and_24_dtypes_and_zero_maps(dtype, reduce):
    features = {k: v.to(dtype) for k, v in batch(1, 4, 2, 3).items()}
    negatives = {k: v.to(dtype) for k, v in batch(5, 4, 2, 3).items()}
    features["text"][1], negatives["audio"][2], features["vision"][:] = 0, 0, 0
    before = {k: v.clone() for k, v in features.items()}
    call, maps = total(features, negatives, reduce=reduce)
    value, found = gradients(call, *maps)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(value, call(*[x.double() for x in maps]), atol=1e-6)
    assert all(gradient.isfinite().all() for gradient in found)
    assert all(torch.equal(features[k], before[k]) for k in features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(call(*maps), value)


# --- the module ----------------------------------------------------------------------------------


def test_the_module_is_one_call_of_the_function():
    features, negatives = batch(1, 4, 2, 3), batch(5, 4, 2, 3)
    settings = {
        "margin": 0.6,
        "distance": manhattan,
        "reduce": "per_step",
        "skip_unaltered": False,
        "reduction": "sum",
    }
    forward = {
        "altered": presence(1, 4),
        "present": presence(2, 4),
        "weight": normal(3, 4).abs(),
    }
    loss = ModalityCorrelationTriplet(**settings)
    expected = modality_correlation_triplet(features, negatives, **settings, **forward)
    for same in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        close(same(features, negatives, **forward).total, expected.total)
    skipping = ModalityCorrelationTriplet(margin=0.6)
    close(
        skipping(features, negatives, **forward).total,
        modality_correlation_triplet(features, negatives, margin=0.6, **forward).total,
    )
    close(
        ModalityCorrelationTriplet()(features, negatives).total,
        modality_correlation_triplet(features, negatives).total,
    )


def test_a_learned_distance_is_learned_with_it():
    loss = ModalityCorrelationTriplet(distance=Mahalanobis.learned(6), margin=5.0)
    assert len(list(loss.parameters())) == 1
    loss(batch(1, 4, 2, 3), batch(5, 4, 2, 3)).total.backward()
    assert loss.distance.factor.grad.abs().sum() > 0


@pytest.mark.parametrize("size", [1e-30, 1e30, 3e38])
def test_means_over_the_steps_do_not_overflow(size):
    x, y = (normal(k, 3, 4, 5).clamp(-1, 1).mul(size).float() for k in range(2))
    found = modality_correlation(x, y, reduce="mean")
    close(found, modality_correlation(x.double(), y.double(), reduce="mean"), atol=1e-6)
    features, negatives = {"text": x, "audio": y}, {"text": x.flip(0), "audio": y.flip(0)}
    for distance in (cosine_distance, euclidean):
        terms, wide = (
            modality_correlation_triplet(
                {name: v.to(dtype) for name, v in features.items()},
                {name: v.to(dtype) for name, v in negatives.items()},
                reduce="mean",
                distance=distance,
            )
            for dtype in (torch.float32, torch.float64)
        )
        for name in terms:
            close(terms[name], wide[name], rtol=1e-5, atol=1e-6)


# --- wrong calls ---------------------------------------------------------------------------------

X, MAP = torch.ones(3, 2), torch.ones(3, 4, 2)
PAIR, MAPS = {"text": X, "audio": X}, {"text": MAP, "audio": MAP}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: modality_correlation(X[0], X[0]), r"x: expected .*got \(2,\)"),
        (lambda: modality_correlation(MAP[:, :0], MAP[:, :0]), r"x: expected .*got \(3, 0, 2\)"),
        (lambda: modality_correlation(X[:, :0], X[:, :0]), r"x: expected .*got \(3, 0\)"),
        (lambda: modality_correlation(X, MAP), r"y: expected .*\(3, 2\), got \(3, 4, 2\)"),
        (lambda: modality_correlation(X, X[:2]), r"y: expected .*\(3, 2\), got \(2, 2\)"),
        (lambda: modality_correlation(X.int(), X), "x: expected .*float.*got torch.int32"),
        (lambda: modality_correlation(X, X.int()), "y: expected .*float.*got torch.int32"),
        (lambda: modality_correlation(X, None), "y: expected a tensor, got NoneType"),
        (
            lambda: modality_correlation(X, X, reduce="max"),
            "reduce: expected .*'flatten', 'mean', 'per_step', got 'max'",
        ),
        (
            lambda: modality_correlation(MAP, MAP, mask=torch.ones(3).bool()),
            r"mask: expected shape \(3, 4\), got \(3,\)",
        ),
        (
            lambda: modality_correlation(MAP, MAP, mask=torch.ones(3, 4)),
            "mask: expected a bool mask, got torch.float32",
        ),
        (lambda: modality_correlation_triplet({"text": X}, PAIR), "features: expected .*two.*got"),
        (
            lambda: modality_correlation_triplet([X, X], PAIR),
            "features: expected a mapping.*got list",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, [X, X]),
            "negatives: expected a mapping.*got list",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, {"text": X, "vision": X}),
            "negatives: expected .*'audio'.*got .*'vision'",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, PAIR | {"vision": X}),
            "negatives: expected .*'audio'.*got .*'vision'",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, MAPS),
            r"negatives\['text'\]: expected .*\(3, 2\)",
        ),
        (
            lambda: modality_correlation_triplet({"text": X, "audio": X[:2]}, PAIR),
            r"features\['audio'\]: expected .*\(3, 2\), got \(2, 2\)",
        ),
        (
            lambda: modality_correlation_triplet({"text": X, "audio": X.int()}, PAIR),
            r"features\['audio'\]: expected .*float.*got torch.int32",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, PAIR, altered={"vision": X[:, 0] > 0}),
            "altered: expected .*'audio'.*got 'vision'",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, PAIR, altered={"audio": X[:, 0]}),
            r"altered\['audio'\]: expected a bool mask, got torch.float32",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, PAIR, altered={"audio": X[0] > 0}),
            r"altered\['audio'\]: expected shape \(3,\), got \(2,\)",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, PAIR, present={"audio": X[0] > 0}),
            r"present\['audio'\]: expected shape \(3,\), got \(2,\)",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, PAIR, weight=torch.ones(2)),
            r"weight: expected shape \(3,\), got \(2,\)",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, PAIR, reduce="sum"),
            "reduce: expected .*got 'sum'",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, PAIR, reduction="avg"),
            "reduction: expected .*got 'avg'",
        ),
        (
            lambda: modality_correlation_triplet(PAIR, PAIR, distance=lambda x, y: x - y),
            r"distance: expected shape \(3,\) .*got \(3, 2\)",
        ),
        (
            lambda: modality_correlation_triplet(
                MAPS, MAPS, reduce="per_step", distance=lambda x, y: (x - y).sum((1, 2))
            ),
            r"distance: expected shape \(3, 4\) .*got \(3,\)",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Joint contrast of several modalities against float64 loops, over ranks too, and its laws."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.exclusive_or import bits, exclusive_or
from tests.mmcontrast.infonce_inputs import reductions
from tests.mmcontrast.strategies import (
    MODALITIES,
    close,
    gradients,
    leaf,
    modalities,
    normal,
    nothing_of,
    numpy,
    orthogonal,
    presence,
    rng,
    seeds,
    temperatures,
)
from tests.ranks import launch

EPSILON = torch.finfo(torch.float32).eps
FOUR = ("smell", *MODALITIES)
KINDS = {
    "shuffled": {"negatives": "shuffled"},
    "all": {"negatives": "all"},
    "volume": {"score": "volume"},
    "area": {"score": "area"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
kinds = st.sampled_from(list(KINDS))


def joint(features, kind, seed=0, **options):
    """The same draws at every call."""
    return mm.joint_contrast(features, **KINDS[kind], **options, generator=rng(seed))


def orders(names, n, seed, anchor=None):
    """What the function draws: for each anchor, an order for each other modality."""
    source = rng(seed)
    return {
        name: {other: torch.randperm(n, generator=source) for other in names if other != name}
        for name in (names if anchor is None else [anchor])
    }


def total(names, kind, **options):
    """A function of the rows alone."""
    return lambda *x: joint(dict(zip(names, x, strict=True)), kind, **options).total


@given(
    seed=seeds,
    n=st.integers(1, 5),
    d=st.integers(1, 5),
    names=st.sampled_from([("text", "audio"), MODALITIES, FOUR]),
    kind=kinds,
    anchor=st.sampled_from([None, "text", "audio"]),
    temperature=temperatures,
    normalize=st.sampled_from(["l2", None]),
    reduction=reductions,
    some_absent=st.booleans(),
    weighted=st.booleans(),
    chunk_size=st.none() | st.integers(1, 4),
)
def test_joint_contrast_agrees_with_the_oracle(
    seed,
    n,
    d,
    names,
    kind,
    anchor,
    temperature,
    normalize,
    reduction,
    some_absent,
    weighted,
    chunk_size,
):
    features = modalities(seed, n, d, names)
    options = {
        "present": presence(seed, n, names) if some_absent else None,
        "weight": normal(seed, n).abs() if weighted else None,
    }
    shared = {"anchor": anchor, "temperature": temperature, "reduction": reduction}
    terms = joint(
        features,
        kind,
        **shared,
        **options,
        normalize=mm.l2_normalize if normalize else None,
        chunk_size=chunk_size,
    )
    expected = oracles.joint_contrast(
        numpy(features),
        **KINDS[kind],
        **shared,
        **numpy(options),
        normalize=normalize,
        orders=orders(names, n, 0, anchor),
    )
    assert list(terms) == list(names if anchor is None else [anchor])
    # The root of a rounded square: where rows are dependent, half of the digits of a volume.
    loose = 1e-10 if kind in ("shuffled", "all") else 1e-5
    for name in terms:
        close(terms[name], expected[name], atol=loose)
    close(terms.total, sum(expected.values()) / len(expected), atol=loose)


# --- gradients -----------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_agree_with_central_differences(kind, reduction):
    """Of the rows and of the temperature, with missing modalities."""
    features, present = modalities(1, 4, 4, FOUR), presence(4, 4, FOUR)
    share = torch.linspace(0.5, 2, 4 if reduction == "none" else 1).double()
    drawn = orders(FOUR, 4, 0)

    def loss(t, *x):
        rows = dict(zip(FOUR, x, strict=True))
        terms = joint(rows, kind, temperature=t, present=present, reduction=reduction)
        return (share * terms.total).sum()

    t = torch.tensor(0.3, dtype=torch.float64)
    _, found = gradients(loss, t, *features.values())

    def value(t=0.3, **moved):
        terms = oracles.joint_contrast(
            {**numpy(features), **moved},
            **KINDS[kind],
            temperature=float(t),
            present=numpy(present),
            reduction=reduction,
            orders=drawn,
        )
        return float((numpy(share) * sum(terms.values()) / 4).sum())

    close(found[0], oracles.central_differences(value, numpy(t)), atol=1e-7)
    for name, gradient in zip(FOUR, found[1:], strict=True):
        expected = oracles.central_differences(
            lambda x, name=name: value(**{name: x}), numpy(features[name])
        )
        close(gradient, expected, atol=1e-7)


@every_kind
@pytest.mark.parametrize("names", [("text", "audio"), MODALITIES])
def test_derivatives_of_first_and_second_order(kind, names):
    rows = [leaf(x) for x in modalities(1, 3, 4, names).values()]
    weight = leaf(normal(9, 3).abs())
    t = leaf(torch.tensor(0.5, dtype=torch.float64))

    def loss(t, weight, *x):
        features = dict(zip(names, x, strict=True))
        return joint(features, kind, anchor="text", temperature=t, weight=weight).total

    assert torch.autograd.gradcheck(loss, (t, weight, *rows))
    assert torch.autograd.gradgradcheck(loss, (t, weight, *rows), fast_mode=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # forward mode of torch's own
@every_kind
def test_functional_transforms_take_the_plain_path(kind):
    """Their gradient and Hessian are those of eager mode, in any dtype of the temperature."""
    features = modalities(1, 5, 4)
    loss = total(MODALITIES, kind, temperature=0.4, present=presence(3, 5))
    _, expected = gradients(loss, *features.values())
    found = torch.func.grad(loss, argnums=(0, 1, 2))(*features.values())
    for gradient, truth in zip(found, expected, strict=True):
        close(gradient, truth)
    x, *rest = features.values()
    _, tangent = torch.func.jvp(lambda x: loss(x, *rest), (x,), (torch.ones_like(x),))
    close(tangent, expected[0].sum())


@every_kind
@pytest.mark.parametrize("needed", range(4))
def test_a_gradient_does_not_depend_on_which_others_are_wanted(kind, needed):
    inputs = [torch.tensor(0.3, dtype=torch.float64), *modalities(1, 5, 3).values()]

    def loss(t, *x):
        return joint(dict(zip(MODALITIES, x, strict=True)), kind, temperature=t).total

    _, expected = gradients(loss, *inputs)
    inputs[needed] = leaf(inputs[needed])
    (found,) = torch.autograd.grad(loss(*inputs), inputs[needed])
    close(found, expected[needed])


# --- rows on which published code is NaN ---------------------------------------------------------

DEGENERATE = {
    "equal": lambda x: {"text": x, "audio": x.clone(), "vision": x.clone()},
    "two equal": lambda x: {"text": x, "audio": x.clone(), "vision": x.roll(1, 0)},
    "opposite": lambda x: {"text": x, "audio": -x, "vision": x.clone()},
    "zero": lambda x: {"text": x, "audio": 0 * x, "vision": 0 * x},
    "one zero": lambda x: {"text": 0 * x, "audio": x, "vision": x.roll(1, 0)},
    "one for all": lambda x: dict.fromkeys(MODALITIES, x[:1].expand_as(x)),
    "proportional": lambda x: {"text": x, "audio": 2 * x, "vision": -0.3 * x},
    "dependent": lambda x: {"text": x, "audio": x.roll(1, 1), "vision": x + 2 * x.roll(1, 1)},
}


@every_kind
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normalize", [mm.l2_normalize, None])
def test_dependent_rows_have_finite_values_and_gradients(kind, case, dtype, normalize):
    features = DEGENERATE[case](normal(1, 5, 6, dtype=dtype))
    value, found = gradients(
        total(MODALITIES, kind, normalize=normalize, temperature=0.05), *features.values()
    )
    expected = oracles.joint_contrast(
        {name: numpy(x) for name, x in features.items()},
        **KINDS[kind],
        temperature=0.05,
        normalize=normalize and "l2",
        orders=orders(MODALITIES, 5, 0),
    )
    # Half the digits, of squared lengths that cancel; over the temperature.
    tolerance = 100 * torch.finfo(dtype).eps ** 0.5
    close(value, sum(expected.values()) / 3, atol=tolerance, rtol=tolerance)
    assert all(gradient.isfinite().all() for gradient in found)


@every_kind
@pytest.mark.parametrize("case", DEGENERATE)
def test_tiles_and_the_plain_path_agree_on_dependent_rows(kind, case):
    features = DEGENERATE[case](normal(1, 5, 6))
    loss = total(MODALITIES, kind, temperature=0.5)
    _, found = gradients(loss, *features.values())
    plain = torch.func.grad(loss, argnums=(0, 1, 2))(*features.values())
    for gradient, truth in zip(found, plain, strict=True):
        close(gradient, truth, atol=1e-6)


def in_both_precisions(features, kind, **options):
    """The gradients of float32 rows, and those of the same numbers in float64."""
    loss = total(MODALITIES, kind, temperature=0.07, **options)
    value, found = gradients(loss, *features.values())
    truth, expected = gradients(loss, *(x.double() for x in features.values()))
    torch.testing.assert_close(value.double(), truth, rtol=4 * EPSILON, atol=0)
    return zip(found, expected, strict=True)


@pytest.mark.parametrize("apart", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("kind", ["volume", "area"])
def test_nearly_aligned_samples_keep_their_digits_in_float32(kind, apart):
    """Where training goes: a determinant of float32 dot products has none of them left."""
    base = normal(1, 6, 16)
    features = {name: base + apart * normal(k, 6, 16) for k, name in enumerate(MODALITIES, 2)}
    features = {name: x.float() for name, x in features.items()}
    for gradient, exact in in_both_precisions(features, kind):
        assert (gradient.double() - exact).norm() < 4 * EPSILON * exact.norm()


@given(seed=seeds, kind=st.sampled_from(["volume", "area"]), own_map=st.booleans())
def test_tuples_that_are_nearly_flat_keep_their_digits_in_float32(seed, kind, own_map):
    """In three features, volumes of an anchor with others' tuples are small by chance."""
    features = {name: x.float() for name, x in modalities(seed, 2, 3).items()}
    features["text"][1] = features["vision"][0] + 0.01 * features["text"][1]
    # The rows of a map of the caller's own are those of a float32, but not what follows.
    normalize = (lambda x: 0.5 * x) if own_map else mm.l2_normalize
    for gradient, exact in in_both_precisions(features, kind, normalize=normalize):
        assert (gradient.double() - exact).abs().max() < 4 * EPSILON * (1 + exact.abs().max())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # as above
@pytest.mark.parametrize("kind", ["volume", "area"])
def test_volumes_of_float32_under_transforms_and_many_upstreams(kind):
    rows = [x.float() for x in modalities(1, 4, 3).values()]
    loss = total(MODALITIES, kind, temperature=0.5)
    value, expected = gradients(loss, *rows)
    for found, exact in zip(torch.func.grad(loss, argnums=(0, 1, 2))(*rows), expected, strict=True):
        torch.testing.assert_close(found, exact)
    _, tangent = torch.func.jvp(loss, tuple(rows), tuple(map(torch.ones_like, rows)))
    # PyTorch's own tangent of a float32 of shape () times a Python float is a float64.
    torch.testing.assert_close(tangent.float(), sum(x.sum() for x in expected))
    each = torch.vmap(loss)(*(torch.stack([x, x]) for x in rows))
    torch.testing.assert_close(each, value.expand(2))
    ups = torch.tensor([1.0, -2.0])
    leaves = [x.requires_grad_() for x in rows]
    batched = torch.autograd.grad(loss(*leaves), leaves, ups, is_grads_batched=True)
    for found, exact in zip(batched, expected, strict=True):
        torch.testing.assert_close(found, ups[:, None, None] * exact)


def test_a_temperature_and_weights_of_float32_get_gradients_of_float32():
    features = {name: x.float() for name, x in modalities(1, 4, 3).items()}
    t, weight = torch.tensor(0.3, requires_grad=True), torch.ones(4, requires_grad=True)
    terms = mm.joint_contrast(features, score="volume", temperature=t, weight=weight)
    terms.total.backward()
    assert t.grad.dtype == weight.grad.dtype == terms["text"].dtype == torch.float32


# --- laws ----------------------------------------------------------------------------------------


@given(seed=seeds, n=st.integers(1, 5), kind=st.sampled_from(["all", "volume", "area"]))
def test_the_order_of_the_samples_and_of_the_modalities_changes_nothing(seed, n, kind):
    features, order = modalities(seed, n, 5), torch.randperm(n, generator=rng(seed))
    expected = joint(features, kind, reduction="none")
    moved = joint({k: x[order] for k, x in features.items()}, kind, reduction="none")
    turned = joint(dict(reversed(features.items())), kind, reduction="none")
    for name in features:
        close(moved[name], expected[name][order], atol=1e-6)
        close(turned[name], expected[name], atol=1e-6)


@given(seed=seeds, kind=st.sampled_from(["volume", "area"]))
def test_volumes_do_not_see_rotations(seed, kind):
    features, turn = modalities(seed, 4, 5), orthogonal(seed, 5)
    for options in ({}, {"normalize": None, "temperature": 1.0}):
        rotated = joint({k: x @ turn for k, x in features.items()}, kind, **options)
        close(rotated.total, joint(features, kind, **options).total)


@given(seed=seeds)
def test_a_volume_does_not_see_signs_nor_an_area_shifts(seed):
    features, shift = modalities(seed, 4, 5), normal(seed + 9, 5)
    close(
        joint({**features, "audio": -features["audio"]}, "volume").total,
        joint(features, "volume").total,
    )
    options = {"normalize": None, "temperature": 2.0}
    close(
        joint({k: x + shift for k, x in features.items()}, "area", **options).total,
        joint(features, "area", **options).total,
    )


@given(seed=seeds, scale=st.sampled_from([0.1, 3.0]))
def test_scaling_one_modality_scales_product_and_volume(seed, scale):
    """So the temperature scaled along gives the same loss."""
    features = modalities(seed, 4, 5)
    scaled = {**features, "audio": scale * features["audio"]}
    for kind in ("shuffled", "all", "volume"):
        close(
            joint(scaled, kind, normalize=None, temperature=scale).total,
            joint(features, kind, normalize=None, temperature=1.0).total,
        )


@given(seed=seeds, n=st.integers(1, 6), reduction=reductions)
def test_two_modalities_are_the_pairwise_loss(seed, n, reduction):
    features = modalities(seed, n, 4, ("text", "audio"))
    x, y = features.values()
    for kind in ("shuffled", "all"):
        terms = joint(features, kind, reduction=reduction)
        close(terms["text"], mm.info_nce(x, y, reduction=reduction))
        close(terms["audio"], mm.info_nce(y, x, reduction=reduction))
        close(terms.total, mm.symmetric_info_nce(x, y, reduction=reduction))
    u, v = F.normalize(x, dim=1), F.normalize(y, dim=1)
    pair = torch.arange(n)
    for kind, distances in (
        ("volume", (1 - (u @ v.T).square()).sqrt()),
        ("area", mm.pairwise(mm.euclidean, u, v)),
    ):
        logits = -distances / 0.07
        both = [F.cross_entropy(s, pair, reduction=reduction) for s in (logits, logits.T)]
        terms = joint(features, kind, reduction=reduction)
        for name in terms:
            close(terms[name], sum(both) / 2, atol=1e-6)


@given(seed=seeds, n=st.integers(1, 5))
def test_all_tuples_of_a_modality_without_variety_are_pairs_many_times(seed, n):
    """Ones change no product: each pair stands in n tuples, of which one is the positive."""
    x, y = normal(seed, n, 4), normal(seed + 1, n, 4)
    features = {"x": x, "y": y, "one": torch.ones(n, 4, dtype=torch.float64)}
    terms = joint(features, "all", normalize=None, temperature=1.0, reduction="none")
    logits = x @ y.T
    close(terms["x"], logits.logsumexp(1) + math.log(n) - logits.diagonal())


def test_the_mean_of_the_terms_is_the_total():
    terms = joint(modalities(1, 4, 3), "volume")
    assert list(terms.weights.values()) == [1 / 3] * 3
    one = joint(modalities(1, 4, 3), "volume", anchor="audio")
    assert list(one) == ["audio"]
    close(one.total, terms["audio"])


# --- shuffled tuples -----------------------------------------------------------------------------


def test_equal_generators_draw_equally_and_each_call_anew():
    features, source = modalities(1, 20, 3), rng(5)
    first, second = (mm.joint_contrast(features, generator=source).total for _ in range(2))
    assert first != second
    close(mm.joint_contrast(features, generator=rng(5)).total, first)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        close(mm.joint_contrast(features).total, first)


def test_the_anchors_own_tuple_is_no_negative():
    """Of two samples, half of the draws put both rows of the other place together."""
    features = modalities(1, 2, 3)
    expected = {
        seed: oracles.joint_contrast(numpy(features), orders=orders(MODALITIES, 2, seed))
        for seed in range(8)
    }
    for seed, terms in expected.items():
        found = joint(features, "shuffled", seed=seed)
        for name in found:
            close(found[name], terms[name])
    assert any(value == 0 for terms in expected.values() for value in terms.values())


def test_shuffled_tuples_are_a_sample_of_all():
    """With many negatives, their mean exponential is that of all tuples."""
    features = modalities(1, 40, 4)
    shuffled = [joint(features, "shuffled", seed=s, temperature=0.5).total for s in range(20)]
    every = joint(features, "all", temperature=0.5).total
    close(torch.stack(shuffled).mean() - math.log(40), every - math.log(1600), atol=0.02)


# --- what pairs of modalities do not tell --------------------------------------------------------

COUNT = 3  # bits of a word


def pairwise(features, generator):
    pairs = itertools.combinations(features.values(), 2)
    return sum(mm.symmetric_info_nce(x, y, temperature=0.1) for x, y in pairs) / 3


def jointly(features, generator):
    return mm.joint_contrast(features, temperature=0.1, generator=generator).total


def learnt(loss, steps=80, n=32):
    """The last losses, and how often a linear encoder of each modality then finds the vision."""
    source = rng(1)
    torch.manual_seed(2)
    encoders = nn.ModuleDict({name: nn.Linear(COUNT, 8) for name in MODALITIES})
    optimizer = torch.optim.Adam(encoders.parameters(), lr=0.03)

    def encoded(features):
        return {name: encoders[name](x) for name, x in features.items()}

    values = []
    for _ in range(steps):
        value = loss(encoded(exclusive_or(n, COUNT, source)), source)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    test = exclusive_or(256, COUNT, source)
    rows = {name: F.normalize(x, dim=1) for name, x in encoded(test).items()}
    words = F.normalize(encoders["vision"](bits(COUNT)), dim=1)
    right = (test["vision"][:, None] == bits(COUNT)).all(2)
    scores = {
        "product": (rows["text"] * rows["audio"]) @ words.T,
        "sum": (rows["text"] + rows["audio"]) @ words.T,
    }
    found = {
        k: right.gather(1, s.argmax(1, keepdim=True)).float().mean() for k, s in scores.items()
    }
    return sum(values[-10:]) / 10, found


@pytest.mark.slow
def test_an_exclusive_or_is_learnt_by_the_product_and_by_no_pair():
    """Any two modalities are independent, so no pairwise loss can fall below that of chance."""
    with torch.random.fork_rng():
        value, found = learnt(jointly)
        assert found["product"] == 1
        assert value < math.log(32) - 1
        value, found = learnt(pairwise)
        assert max(found.values()) < 0.5
        assert value > math.log(32) - 0.05


# --- modalities that are absent ------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("filler", [math.nan, math.inf, 1e30])
def test_contract_3_absent_modalities_reach_nothing(kind, filler):
    features, present = modalities(1, 6, 4), presence(4, 6)
    assert all(0 < there.sum() < 6 for there in present.values())
    out = [~there for there in present.values()]
    nothing_of(total(MODALITIES, kind, present=present), features.values(), out, filler)


@pytest.mark.parametrize("kind", ["all", "volume", "area"])
def test_a_modality_that_nobody_has_is_as_if_not_given(kind):
    features = modalities(1, 5, 4)
    present = {"audio": torch.zeros(5, dtype=torch.bool)}
    terms = joint(features, kind, present=present)
    rest = joint({k: features[k] for k in ("text", "vision")}, kind)
    assert terms["audio"] == 0
    for name in rest:
        close(terms[name], rest[name])


@every_kind
@pytest.mark.parametrize("n", [0, 1, 3])
def test_nothing_to_compare_is_zero_with_a_graph(kind, n):
    features = modalities(1, n, 3)
    present = {"audio": torch.zeros(n, dtype=torch.bool), "text": torch.zeros(n, dtype=torch.bool)}
    for masks in (None, present) if n < 2 else (present,):
        for chunk_size in (None, 1):
            value, found = gradients(
                total(MODALITIES, kind, present=masks, chunk_size=chunk_size), *features.values()
            )
            assert value == 0
            assert all((gradient == 0).all() for gradient in found)


# --- sizes, dtypes, modules ----------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_computed_in_float32(kind, dtype):
    features = {name: x.to(dtype) for name, x in modalities(1, 6, 5).items()}
    value, found = gradients(total(MODALITIES, kind), *features.values())
    truth, expected = gradients(total(MODALITIES, kind), *(x.double() for x in features.values()))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), truth, rtol=1e-5, atol=1e-5)
    for gradient, exact in zip(found, expected, strict=True):
        assert gradient.dtype == dtype
        error = torch.finfo(dtype).eps + 1e-5
        torch.testing.assert_close(gradient.double(), exact, rtol=error, atol=1e-5)


@every_kind
def test_modalities_of_several_dtypes_meet_in_the_widest(kind):
    features = modalities(1, 5, 4)
    mixed = {**features, "audio": features["audio"].float()}
    alike = {**features, "audio": features["audio"].float().double()}
    close(joint(mixed, kind).total, joint(alike, kind).total, atol=1e-6)
    assert joint(mixed, kind).total.dtype == torch.float64


@pytest.mark.parametrize(
    ("kind", "scale"), [("shuffled", 1e13), ("all", 1e13), ("volume", 1e13), ("area", 1e19)]
)
def test_rows_beyond_the_range_of_products_in_float32(kind, scale):
    """Numbers of 1e39, or squares of as much, over a temperature that a float32 can hold."""
    features = {name: scale * x.float() for name, x in modalities(1, 4, 4).items()}
    options = {"normalize": None, "temperature": 3e38}
    value, found = gradients(total(MODALITIES, kind, **options), *features.values())
    wide = [x.double() for x in features.values()]
    truth, expected = gradients(total(MODALITIES, kind, **options), *wide)
    assert truth > 0.1
    torch.testing.assert_close(value.double(), truth, rtol=1e-5, atol=0)
    for gradient, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(scale * gradient.double(), scale * exact, rtol=1e-4, atol=1e-4)


@every_kind
def test_gradients_of_huge_rows_in_bfloat16_are_capped_there(kind):
    """The largest float32 is none of a bfloat16's numbers: it would round to infinity."""
    features = {k: (1e37 * x).bfloat16() for k, x in modalities(1, 4, 4).items()}
    loss = total(MODALITIES, kind, normalize=None, temperature=0.01)
    value, found = gradients(loss, *features.values())
    assert value.isfinite()
    assert all(gradient.isfinite().all() and gradient.any() for gradient in found)


@every_kind
def test_the_module_is_one_call_of_the_function(kind):
    features, weight, present = modalities(1, 5, 3), normal(2, 5).abs(), presence(3, 5)
    settings = {
        **KINDS[kind],
        "anchor": "audio",
        "temperature": 0.4,
        "normalize": mm.softmax_normalize,
        "reduction": "sum",
        "chunk_size": 2,
    }
    given = {"present": present, "weight": weight}
    found = mm.JointContrast(**settings)(features, **given, generator=rng(1))
    expected = mm.joint_contrast(features, **settings, **given, generator=rng(1))
    close(found.total, expected.total)
    usual = mm.JointContrast(**KINDS[kind])(features, generator=rng(1))
    assert torch.equal(usual.total, joint(features, kind, 1).total)
    learned = mm.JointContrast(**KINDS[kind], temperature=mm.LearnableTemperature(0.4))
    close(
        learned(features, generator=rng(1)).total,
        joint(features, kind, 1, temperature=0.4).total,
        atol=1e-5,
    )


# --- wrong calls ---------------------------------------------------------------------------------

X, Y = torch.ones(3, 2), torch.ones(4, 2)
THREE = {"text": X, "audio": X, "vision": X}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.joint_contrast({"text": X}), "features: expected .*two.*got"),
        (lambda: mm.joint_contrast({**THREE, "text": Y}), r"features.*: expected .*4.*got .*3, 2"),
        (lambda: mm.joint_contrast(THREE, score="gram"), "score: expected .*'volume'.*got 'gram'"),
        (lambda: mm.joint_contrast(THREE, anchor="smell"), "anchor: expected .*'text'.*'smell'"),
        (
            lambda: mm.joint_contrast(THREE, score="area", negatives="all"),
            "negatives: expected the default with score='area', .*got 'all'",
        ),
        (lambda: mm.joint_contrast(THREE, negatives="n"), "negatives: expected .*'all'.*got 'n'"),
        (lambda: mm.joint_contrast(THREE, temperature=0.0), "temperature: expected .*got 0"),
        (lambda: mm.joint_contrast(THREE, reduction="avg"), "reduction: expected .*'avg'"),
        (lambda: mm.joint_contrast(THREE, chunk_size=0), "chunk_size: expected .*got 0"),
        (lambda: mm.joint_contrast(THREE, weight=Y[:, 0]), r"weight: expected .*3.*got .*\(4,\)"),
        (lambda: mm.joint_contrast(THREE, generator=1), "generator: expected .*got 1"),
        (lambda: mm.joint_contrast(THREE, present={"smell": X[:, 0] > 0}), "present: expected"),
        (lambda: mm.joint_contrast(THREE, present={"text": X[:, 0]}), "present.*: expected .*bool"),
        (lambda: mm.JointContrast(score="sum"), "score: expected .*got 'sum'"),
        (lambda: mm.JointContrast(negatives="some"), "negatives: expected .*got 'some'"),
        (lambda: mm.JointContrast(anchor=1), "anchor: expected .*got 1"),
        (lambda: mm.JointContrast(temperature=-1.0), "temperature: expected .*got -1"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_on_ranks():
    launch(3, "tests.ranks.joint", "together", "draws", "exchanges")

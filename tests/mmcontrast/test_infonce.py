"""InfoNCE and its printed form against float64 loops, over ranks too, and the laws they obey."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.infonce_inputs import (
    NORMALIZE,
    OPTIONS,
    REDUCTIONS,
    of_logits,
    options_for,
    reductions,
    same_in_chunks,
    symmetric_of_logits,
)
from tests.mmcontrast.strategies import (
    close,
    embeddings,
    gradients,
    leaf,
    mask,
    normal,
    numpy,
    orthogonal,
    pairs,
    presence,
    rng,
    seeds,
    temperatures,
    tol,
)
from tests.ranks import infonce as on_ranks
from tests.ranks import launch

normalizations = st.sampled_from(list(NORMALIZE))


# --- agreement with the equations --------------------------------------------------------------


@given(pair=pairs(), temperature=temperatures, reduction=reductions, normalize=normalizations)
def test_info_nce_agrees_with_the_oracle(pair, temperature, reduction, normalize):
    assume(normalize == "l2" or max(x.abs().max() for x in pair) < 100)
    expected = oracles.info_nce(
        *map(numpy, pair), temperature=temperature, reduction=reduction, normalize=normalize
    )
    actual = mm.info_nce(
        *pair, temperature=temperature, reduction=reduction, normalize=NORMALIZE[normalize]
    )
    close(actual, expected)


@given(
    pair=pairs(),
    seed=seeds,
    reduction=reductions,
    temperature=temperatures,
    target=st.sampled_from(["none", "targets", "bool positives", "soft positives"]),
    others=st.sets(st.sampled_from(["keep", "weight"])),
)
def test_info_nce_with_every_option(pair, seed, reduction, temperature, target, others):
    options = options_for({target, *others}, seed, len(pair[0]), len(pair[1]))
    expected = oracles.info_nce(
        *map(numpy, pair), temperature=temperature, reduction=reduction, **numpy(options)
    )
    actual = mm.info_nce(*pair, temperature=temperature, reduction=reduction, **options)
    close(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("names", [[], *([name] for name in OPTIONS), ["soft positives", "keep"]])
def test_info_nce_gradient_agrees_with_central_differences(names):
    x, y = normal(1, 4, 3), normal(2, 6, 3)
    options = options_for(names, 3, 4, 6)
    _, (gx, gy) = gradients(lambda x, y: mm.info_nce(x, y, temperature=0.5, **options), x, y)
    plain = numpy(options)
    for index, gradient in ((0, gx), (1, gy)):

        def value(moved, index=index):
            both = [numpy(x), numpy(y)]
            both[index] = moved
            return oracles.info_nce(*both, temperature=0.5, **plain)

        close(gradient, oracles.central_differences(value, numpy((x, y)[index])), atol=1e-8)


@given(
    pair=pairs(square=True),
    seed=seeds,
    reduction=reductions,
    temperature=temperatures,
    kept=st.booleans(),
    weighted=st.booleans(),
)
def test_matched_pair_nce_agrees_with_the_oracle(
    pair, seed, reduction, temperature, kept, weighted
):
    n = len(pair[0])
    options = {
        "keep": mask(seed, n, share=0.7) if kept else None,
        "weight": normal(seed, n).abs() if weighted else None,
    }
    expected = oracles.matched_pair_nce(
        *map(numpy, pair), temperature=temperature, reduction=reduction, **numpy(options)
    )
    actual = mm.matched_pair_nce(*pair, temperature=temperature, reduction=reduction, **options)
    close(actual, expected)


@pytest.mark.parametrize("form", [mm.symmetric_info_nce, mm.matched_pair_nce])
def test_gradients_of_the_forms_agree_with_central_differences(form):
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    oracle = getattr(oracles, form.__name__)
    _, (gx, gy) = gradients(lambda x, y: form(x, y, temperature=0.5), x, y)
    close(
        gx,
        oracles.central_differences(lambda v: oracle(v, numpy(y), temperature=0.5), numpy(x)),
        atol=1e-8,
    )
    close(
        gy,
        oracles.central_differences(lambda v: oracle(numpy(x), v, temperature=0.5), numpy(y)),
        atol=1e-8,
    )


def test_defaults_are_the_documented_ones():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    close(mm.info_nce(x, y), oracles.info_nce(numpy(x), numpy(y), temperature=0.07))
    close(mm.symmetric_info_nce(x, y), mm.symmetric_info_nce(x, y, temperature=0.07))
    close(mm.matched_pair_nce(x, y), oracles.matched_pair_nce(numpy(x), numpy(y), temperature=0.1))
    terms = mm.anchored_info_nce({"audio": x, "text": y})
    close(terms["text-audio"], oracles.info_nce(numpy(y), numpy(x), temperature=0.1))


# --- laws ----------------------------------------------------------------------------------------


@given(pair=pairs(), temperature=temperatures)
def test_law_1_and_3_bounds(pair, temperature):
    x, y = pair
    values = mm.info_nce(x, y, temperature=temperature, reduction="none")
    others = len(y) - 1
    assert (values >= 0).all()
    assert (values >= math.log1p(others * math.exp(-2 / temperature)) - 1e-9).all()
    assert (values <= math.log1p(others * math.exp(2 / temperature)) + 1e-9).all()
    matched = mm.matched_pair_nce(x, y[: len(x)], temperature=temperature, reduction="none")
    assert (matched >= 0).all()


@given(seed=seeds, n=st.integers(1, 8), temperature=temperatures)
def test_law_2_and_18_collapse_is_log_n_and_stationary(seed, n, temperature):
    x = normal(seed, 1, 3).expand(n, 3)
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce):
        value, found = gradients(lambda x, y, f=form: f(x, y, temperature=temperature), x, x)
        close(value, math.log(n))
        for gradient in found:
            close(gradient, torch.zeros(n, 3), atol=1e-9 / temperature)


@given(pair=pairs(square=True), seed=seeds)
def test_law_4_joint_permutation(pair, seed):
    order = torch.randperm(len(pair[0]), generator=rng(seed))
    moved = [x[order] for x in pair]
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce):
        close(form(*pair), form(*moved))
        close(form(*pair, reduction="none")[order], form(*moved, reduction="none"))
        for before, after in zip(
            gradients(form, *pair)[1], gradients(form, *moved)[1], strict=True
        ):
            size = 1 + before.abs().max().item()
            close(before[order] / size, after / size)


@given(seed=seeds, n=st.integers(1, 5), d=st.integers(1, 5))
def test_law_5_rotation(seed, n, d):
    x, y, q = normal(seed, n, d), normal(seed + 1, n, d), orthogonal(seed, d)
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce):
        close(form(x, y), form(x @ q, y @ q), atol=1e-9)
    raw = {"normalize": None, "temperature": 1.0}
    close(mm.info_nce(x, y, **raw), mm.info_nce(x @ q, y @ q, **raw))


@given(pair=pairs(square=True), seed=seeds)
def test_law_6_row_scale(pair, seed):
    scales = 10 ** (3 * normal(seed, len(pair[0]), 1))
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce):
        close(form(*pair), form(pair[0] * scales, pair[1] / scales), atol=1e-9)


@given(pair=pairs(square=True))
def test_law_7_gradient_is_orthogonal_to_its_row(pair):
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce):
        for x, gradient in zip(pair, gradients(form, *pair)[1], strict=True):
            close((gradient * x).sum(dim=1), torch.zeros(len(x)), atol=1e-9)


@given(seed=seeds, n=st.integers(2, 5), scale=st.sampled_from([1e-3, 0.5, 7.0, 1e3]))
def test_law_8_gradient_of_scaled_rows(seed, n, scale):
    x, y = normal(seed, n, 3), normal(seed + 1, n, 3)
    once, scaled = gradients(mm.info_nce, x, y)[1], gradients(mm.info_nce, x * scale, y)[1]
    close(once[0], scaled[0] * scale, atol=1e-9)
    close(once[1], scaled[1], atol=1e-9)


@given(seed=seeds, n=st.integers(2, 5))
def test_law_9_shifts_of_logits(seed, n):
    logits, shift = normal(seed, n, n), 5 * normal(seed + 1, n, 1)
    close(of_logits(logits), of_logits(logits + shift))
    close(symmetric_of_logits(logits), symmetric_of_logits(logits + shift[0]))


def test_folk_law_refuted_one_direction_is_not_symmetric():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    assert abs(mm.info_nce(x, y) - mm.info_nce(y, x)) > 1e-3


@given(pair=pairs())
def test_law_11_high_temperature(pair):
    close(mm.info_nce(*pair, temperature=1e9), math.log(len(pair[1])), atol=1e-8)


@given(pair=pairs(), temperature=st.sampled_from([1e-1, 1e-2, 1e-3, 1e-5, 1e-8]))
def test_law_12_low_temperature(pair, temperature):
    values = temperature * mm.info_nce(*pair, temperature=temperature, reduction="none")
    cosines = torch.cosine_similarity(pair[0][:, None], pair[1][None], dim=-1)
    gap = cosines.max(dim=1).values - cosines.diagonal()
    assert (values >= gap - 1e-9).all()
    assert (values <= gap + temperature * math.log(len(pair[1])) + 1e-9).all()


@given(seed=seeds, n=st.integers(1, 6), m=st.integers(0, 3))
def test_law_13_gradient_of_the_logits(seed, n, m):
    logits = normal(seed, n, n + m)
    gradient = gradients(of_logits, logits)[1][0]
    close(gradient, (logits.softmax(dim=1) - torch.eye(n, n + m)) / n)
    close(gradient.sum(dim=1), torch.zeros(n))


@given(pair=pairs(), seed=seeds, temperature=temperatures)
def test_law_14_a_negative_never_lowers_the_loss(pair, seed, temperature):
    x, y = pair
    more = torch.cat([y, normal(seed, 1, x.shape[1])])
    before = mm.info_nce(x, y, temperature=temperature, reduction="none")
    after = mm.info_nce(x, more, temperature=temperature, reduction="none")
    # A product with one more column may round the others otherwise.
    assert (after >= before - tol(torch.float64, temperature, len(more))).all()


@given(pair=pairs(square=True), temperature=temperatures)
def test_law_15_a_doubled_batch_adds_log_2(pair, temperature):
    twice = [torch.cat([x, x]) for x in pair]
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce):
        close(
            form(*twice, temperature=temperature),
            form(*pair, temperature=temperature) + math.log(2),
        )


@given(pair=pairs(square=True), zeros=st.integers(1, 3))
def test_law_16_zero_features_change_nothing(pair, zeros):
    padded = [torch.nn.functional.pad(x, (0, zeros)) for x in pair]
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce):
        close(form(*pair), form(*padded))


@pytest.mark.parametrize("form", [mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_law_17_one_sample(form, temperature):
    value, found = gradients(
        lambda x, y: form(x, y, temperature=temperature), normal(1, 1, 3), normal(2, 1, 3)
    )
    assert value.item() == 0
    assert all((gradient == 0).all() for gradient in found)


@given(
    pair=pairs(most=7),
    seed=seeds,
    size=st.integers(1, 8),
    names=st.sampled_from([[], ["targets"], ["bool positives", "keep"], ["soft positives"]]),
    reduction=reductions,
)
def test_law_19_chunks(pair, seed, size, names, reduction):
    options = options_for([*names, "weight"], seed, len(pair[0]), len(pair[1]))

    def of(chunk_size):
        return gradients(
            lambda x, y: mm.info_nce(
                x, y, chunk_size=chunk_size, reduction=reduction, temperature=0.5, **options
            ).sum(),
            *pair,
        )

    same_in_chunks(of(size), of(None))


def test_law_19_the_temperature_gets_its_gradient_through_chunks():
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    found = []
    for chunk_size in (None, 2):
        temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        mm.info_nce(x, y, temperature=temperature, chunk_size=chunk_size).backward()
        found.append(temperature.grad.item())
    assert found[0] == pytest.approx(found[1], rel=1e-12)


@given(pair=pairs(), seed=seeds, weighted=st.booleans())
def test_law_21_reductions_agree(pair, seed, weighted):
    n = len(pair[0])
    weight = normal(seed, n).abs() if weighted else None
    none, total, mean = (
        mm.info_nce(*pair, weight=weight, reduction=r) for r in ("none", "sum", "mean")
    )
    assert none.shape == (n,)
    close(none.sum(), total)
    close(total / (weight.sum() if weighted else n), mean)


@given(seed=seeds, factor=st.sampled_from([0.1, 2.0, 30.0]))
def test_law_22_only_logits_over_temperature_matter(seed, factor):
    x, y = normal(seed, 4, 3), normal(seed + 1, 4, 3)
    close(
        mm.info_nce(x, y, temperature=0.5, normalize=None),
        mm.info_nce(factor * x, y, temperature=0.5 * factor, normalize=None),
    )


@given(seed=seeds, n=st.integers(2, 6), temperature=temperatures)
def test_law_25_masking_an_anchor_or_a_candidate_is_removing_it(seed, n, temperature):
    x, y = embeddings(seed, n, 3), embeddings(seed + 1, n + 2, 3)
    stays = mask(seed, n + 2, share=0.6)
    keep = stays.expand(n, n + 2)
    targets = torch.where(stays[:n], torch.arange(n), -100)
    masked_x = torch.where(stays[:n, None], x, 1e30)
    masked_y = torch.where(stays[:, None], y, 1e30)
    moved = torch.arange(int(stays[:n].sum()))
    smaller = mm.info_nce(x[stays[:n]], y[stays], moved, temperature=temperature)
    for options in ({"keep": keep}, {"keep": keep, "targets": targets}):
        value, (gx, gy) = gradients(
            lambda x, y, options=options: mm.info_nce(x, y, temperature=temperature, **options),
            masked_x,
            masked_y,
        )
        close(value, smaller)
        assert (gx[~stays[:n]] == 0).all()
        assert (gy[~stays] == 0).all()


@given(seed=seeds, n=st.integers(1, 6))
def test_law_25_masking_a_matched_pair_is_removing_it(seed, n):
    pair, keep = [embeddings(seed + k, n, 3) for k in range(2)], mask(seed, n)
    smaller = mm.matched_pair_nce(*[x[keep] for x in pair])
    for filler in (1e30, math.nan):
        filled = [torch.where(keep[:, None], x, filler) for x in pair]
        close(mm.matched_pair_nce(*filled, keep=keep), smaller)
    _, found = gradients(lambda x, y: mm.matched_pair_nce(x, y, keep=keep), *pair)
    assert all((gradient[~keep] == 0).all() for gradient in found)


@given(pair=pairs(), seed=seeds)
def test_integer_weight_is_repetition_in_the_sum_and_the_mean(pair, seed):
    x, y = pair
    counts = torch.randint(0, 3, (len(x),), generator=rng(seed))
    repeated = torch.repeat_interleave(torch.arange(len(x)), counts)
    for reduction in ("sum", "mean"):
        close(
            mm.info_nce(x, y, weight=counts.double(), reduction=reduction),
            mm.info_nce(x[repeated], y, repeated, reduction=reduction),
        )


@given(pair=pairs(square=True), temperature=temperatures)
def test_law_41_mutual_information_bound(pair, temperature):
    n = len(pair[0])
    assert math.log(n) - mm.info_nce(*pair, temperature=temperature) <= math.log(n)
    assert math.log(n) <= mm.matched_pair_nce(*pair, temperature=temperature) + 1e-12


@given(pair=pairs(), temperature=temperatures)
def test_law_42_soft_targets(pair, temperature):
    x, y = pair
    shape = len(x), len(y)
    eye = torch.eye(*shape)
    hard = mm.info_nce(x, y, temperature=temperature)
    close(mm.info_nce(x, y, temperature=temperature, positives=3 * eye), hard)
    close(mm.info_nce(x, y, temperature=temperature, positives=eye.bool()), hard)
    targets = torch.arange(len(x))
    close(mm.info_nce(x, y, targets, temperature=temperature), hard)
    uniform = mm.info_nce(x, y, temperature=temperature, positives=torch.ones(shape))
    assert uniform >= math.log(len(y)) - 1e-12
    close(
        uniform,
        mm.info_nce(x, y, temperature=temperature, positives=torch.ones(shape, dtype=torch.bool)),
    )


@given(pair=pairs(), seed=seeds)
def test_law_48_a_float_mask_of_ones_is_the_bool_mask(pair, seed):
    positives = mask(seed, len(pair[0]), len(pair[1]))
    close(mm.info_nce(*pair, positives=positives), mm.info_nce(*pair, positives=positives.double()))


@given(seed=seeds, n=st.integers(2, 5))
def test_printed_form_sees_matched_pairs_only(seed, n):
    """PAPERS 12: whom the printed eq 6 calls a negative, it never compares with the anchor."""
    similar = normal(seed, n)
    x = torch.diag(similar)
    value = mm.matched_pair_nce(x, torch.eye(n, dtype=torch.float64), normalize=None)
    shuffled = x + normal(seed + 1, n, n) * mm.off_diagonal(n)
    other = mm.matched_pair_nce(shuffled, torch.eye(n, dtype=torch.float64), normalize=None)
    close(value, other)
    assert value >= math.log(n)
    close(value, (similar / 0.1).logsumexp(0) - similar.mean() / 0.1)


# --- nobody to contrast with -------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "options",
    [
        {"targets": torch.full((3,), -100)},
        {"positives": torch.zeros(3, 4, dtype=torch.bool)},
        {"positives": torch.zeros(3, 4)},
        {"keep": torch.zeros(3, 4, dtype=torch.bool)},
        {"keep": ~torch.eye(3, 4, dtype=torch.bool)},
    ],
    ids=["targets", "bool", "soft", "keep nobody", "keep no partner"],
)
def test_law_47_no_positive_is_zero_with_a_graph(options, reduction):
    value, found = gradients(
        lambda x, y: mm.info_nce(x, y, reduction=reduction, **options).sum(),
        normal(1, 3, 2),
        normal(2, 4, 2),
    )
    assert value.item() == 0
    assert all((gradient == 0).all() for gradient in found)


def test_weights_that_are_all_zero_give_zero():
    value, found = gradients(
        lambda x, y: mm.info_nce(x, y, weight=torch.zeros(3)), normal(1, 3, 2), normal(2, 3, 2)
    )
    assert value.item() == 0
    assert all((gradient == 0).all() for gradient in found)


# --- modules -------------------------------------------------------------------------------------


def test_modules_are_one_call_of_their_function():
    x, y, z = normal(1, 4, 3), normal(2, 4, 3), normal(3, 4, 3)
    options = options_for(["bool positives", "keep", "weight"], 5, 4, 4)
    settings = {"temperature": 0.3, "reduction": "sum", "normalize": mm.softmax_normalize}
    for chunk_size in (None, 3):
        settings["chunk_size"] = chunk_size
        close(mm.InfoNCE(**settings)(x, y, **options), mm.info_nce(x, y, **settings, **options))
        close(
            mm.SymmetricInfoNCE(**settings)(x, y, **options),
            mm.symmetric_info_nce(x, y, **settings, **options),
        )
    targets = torch.tensor([1, 0, -100, 2])
    close(mm.InfoNCE()(x, y, targets), mm.info_nce(x, y, targets))
    close(mm.SymmetricInfoNCE()(x, y), mm.symmetric_info_nce(x, y))
    features = {"text": x, "audio": y, "vision": z}
    del settings["chunk_size"]
    settings |= {"anchor": "audio", "direction": "both"}
    forward = {"present": presence(3, 4), "weight": normal(9, 4).abs()}
    terms = mm.AnchoredInfoNCE(**settings)(features, **forward)
    close(terms.total, mm.anchored_info_nce(features, **settings, **forward).total)
    close(mm.AnchoredInfoNCE()(features).total, mm.anchored_info_nce(features).total)


def test_a_learned_temperature_gets_the_gradient_of_central_differences():
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce):
        (gradient,) = torch.autograd.grad(form(x, y, temperature=temperature), temperature)
        oracle = getattr(oracles, form.__name__)
        expected = oracles.central_differences(
            lambda t, oracle=oracle: oracle(numpy(x), numpy(y), temperature=float(t)), 0.3
        )
        close(gradient, expected, rtol=1e-7)


@pytest.mark.parametrize("module", [mm.InfoNCE, mm.SymmetricInfoNCE, mm.AnchoredInfoNCE])
def test_modules_take_a_learnable_temperature(module):
    temperature = mm.LearnableTemperature(0.2)
    loss = module(temperature=temperature)
    assert list(loss.parameters()) == list(temperature.parameters())
    x, y = normal(1, 4, 3), normal(2, 4, 3)
    features = ({"text": x, "audio": y},) if module is mm.AnchoredInfoNCE else (x, y)
    result = loss(*features)
    plain = module(temperature=0.2)(*features)
    result = result.total if module is mm.AnchoredInfoNCE else result
    plain = plain.total if module is mm.AnchoredInfoNCE else plain
    close(result, plain, atol=1e-5)
    result.backward()
    assert all(p.grad.abs().item() > 0 for p in loss.parameters())


# --- wrong calls ---------------------------------------------------------------------------------

X, Y = torch.ones(3, 2), torch.ones(4, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.info_nce(X[0], Y), r"anchors: expected .*got .*\(2,\)"),
        (lambda: mm.info_nce(X, Y[0]), r"candidates: expected .*got .*\(2,\)"),
        (lambda: mm.info_nce(X, torch.ones(4, 3)), r"candidates: expected .*2.*got .*\(4, 3\)"),
        (lambda: mm.info_nce(X, torch.ones(2, 2)), r"candidates: expected .*3.*got"),
        (lambda: mm.info_nce(X[:, :0], Y[:, :0]), r"anchors: expected .*got .*\(3, 0\)"),
        (lambda: mm.info_nce(X.long(), Y), "anchors: expected .*float.*got .*int64"),
        (lambda: mm.info_nce(X, Y.long()), "candidates: expected .*float.*got .*int64"),
        (lambda: mm.info_nce(X.numpy(), Y), "anchors: expected .*ensor.*got .*ndarray"),
        (lambda: mm.info_nce(X, Y, torch.zeros(2).long()), r"targets: expected .*3.*got .*\(2,\)"),
        (lambda: mm.info_nce(X, Y, torch.zeros(3)), "targets: expected .*int.*got .*float32"),
        (lambda: mm.info_nce(X, Y, torch.tensor([0, 4, 1])), "targets: expected .*3.*got .*4"),
        (lambda: mm.info_nce(X, Y, torch.tensor([0, -1, 1])), "targets: expected .*got .*-1"),
        (
            lambda: mm.info_nce(X, Y, torch.zeros(3).long(), positives=torch.ones(3, 4)),
            "positives|targets: expected .*got",
        ),
        (lambda: mm.info_nce(X, Y, temperature=0.0), "temperature: expected .*got 0"),
        (lambda: mm.info_nce(X, Y, temperature=-0.1), "temperature: expected .*got -0.1"),
        (
            lambda: mm.info_nce(X, Y, temperature=torch.ones(2)),
            r"temperature: expected .*got .*\(2,\)",
        ),
        (
            lambda: mm.info_nce(X, Y, positives=torch.ones(3, 3)),
            r"positives: expected .*\(3, 4\).*got .*\(3, 3\)",
        ),
        (
            lambda: mm.info_nce(X, Y, positives=torch.ones(3, 4).long()),
            "positives: expected .*bool.*got .*int64",
        ),
        (
            lambda: mm.info_nce(X, Y, keep=torch.ones(4, 3).bool()),
            r"keep: expected .*\(3, 4\).*got .*\(4, 3\)",
        ),
        (lambda: mm.info_nce(X, Y, keep=torch.ones(3, 4)), "keep: expected .*bool.*got .*float32"),
        (
            lambda: mm.info_nce(X, Y, positives=torch.tensor([[math.nan, -0.5, 0, 0]] * 3)),
            "positives: expected weights of at least 0, got -0.5",
        ),
        (lambda: mm.info_nce(X, Y, weight=torch.ones(4)), r"weight: expected .*3.*got .*\(4,\)"),
        (
            lambda: mm.info_nce(X, Y, reduction="avg"),
            "reduction: expected .*'mean'.*'sum'.*'none'.*got 'avg'",
        ),
        (lambda: mm.info_nce(X, Y, chunk_size=0), "chunk_size: expected .*got 0"),
        (lambda: mm.info_nce(X, Y, chunk_size=1.5), "chunk_size: expected .*got 1.5"),
        (lambda: mm.matched_pair_nce(X, Y), r"y: expected .*3.*got .*\(4, 2\)"),
        (
            lambda: mm.matched_pair_nce(X, X, keep=torch.ones(3, 3).bool()),
            r"keep: expected .*3.*got .*\(3, 3\)",
        ),
        (lambda: mm.matched_pair_nce(X, X, keep=torch.ones(3)), "keep: expected .*bool.*got"),
        (lambda: mm.matched_pair_nce(X, X, temperature=-1), "temperature: expected .*got -1"),
        (lambda: mm.matched_pair_nce(X, X, reduction="x"), "reduction: expected .*got 'x'"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_targets_elsewhere_than_on_the_cpu_are_not_read():
    x = leaf(X).to("meta")
    mm.info_nce(x, Y.to("meta"), torch.tensor([0, 9, 1], device="meta"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "programs"),
    [
        (2, ["products", "disagree", "modules", "exchanges"]),
        (
            3,
            [
                *("values", "second_derivatives", "single_precision", "captions", "variants"),
                *("sizes", "shifts"),
            ],
        ),
    ],
)
def test_on_ranks(world, programs):
    launch(world, "tests.ranks.infonce", *programs)


def test_without_a_process_group_the_loss_is_its_own():
    x, y = normal(1, 5, 3), normal(2, 5, 3)
    for form in (mm.info_nce, mm.symmetric_info_nce, mm.matched_pair_nce, mm.sigmoid_contrast):
        assert torch.equal(form(x, y, group="world"), form(x, y))
        with pytest.raises(ValueError, match='group: expected "world" or a process group'):
            form(x, y, group="everyone")


def test_the_programs_have_uneven_and_empty_ranks_and_ranks_on_different_paths():
    assert any(0 in sizes for sizes in on_ranks.SIZES.values())
    for sizes in on_ranks.LARGE.values():
        pairs = [size * sum(sizes) for size in sizes if size > 0]
        assert min(pairs) < on_ranks.LEAST < max(pairs)


N = 5


def test_soft_targets_that_require_a_gradient_survive_an_empty_row():
    positives = torch.tensor([[0.3, 0.7], [0.0, 0.0]], dtype=torch.float64)
    x, y = normal(1, 2, 3), normal(2, 2, 3)
    _, found = gradients(lambda a, c, p: mm.info_nce(a, c, positives=p), x, y, positives)
    assert all(gradient.isfinite().all() for gradient in found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: mm.matched_pair_nce(torch.ones(5), x["a"]),
            "x: expected shape",
        ),
    ],
)
def test_wrong_calls_with_features(call, message):
    with pytest.raises(ValueError, match=message):
        call({"a": normal(1, N, 3), "b": normal(2, N, 3)})

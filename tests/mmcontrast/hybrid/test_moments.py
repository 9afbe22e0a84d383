"""HyCon's losses by class moments against the pairs themselves and against loops over them."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.hybrid.evaluations import (
    batches,
    by_pairs,
    cuts,
    entries,
    loss,
    options,
    sizes,
)
from tests.mmcontrast.hybrid.losses import NORMALIZE
from tests.mmcontrast.strategies import (
    KINDS,
    close,
    embeddings,
    gradients,
    labels,
    leaf,
    modalities,
    normal,
    nothing_of,
    numpy,
    presence,
    seeds,
)

# --- agreement -----------------------------------------------------------------------------------


@given(batch=batches, chosen=options, cut=cuts, normalize=st.sampled_from(list(NORMALIZE)))
def test_moments_are_the_loops(batch, chosen, cut, normalize):
    """However the classes are cut: alone, in parts, or several small ones together."""
    if normalize == "shifted_cosine" and batch["features"]["text"].shape[1] == 1:
        return  # there similarities are 0 or 1, and a share may be one of nothing
    arguments = batch["features"], batch["labels"]
    rest = {"present": batch["present"], "weight": batch["weight"]}
    with sizes(**cut):
        terms = mm.hybrid_contrast(*arguments, normalize=NORMALIZE[normalize], **chosen, **rest)
    expected = oracles.hybrid_contrast(
        *map(numpy, arguments), normalize=normalize, **chosen, **numpy(rest)
    )
    for name in terms:
        close(terms[name], expected[name], atol=1e-12, rtol=1e-12)


@given(batch=batches, chosen=options, cut=cuts)
def test_moments_are_the_pairs_gradients_too(batch, chosen, cut):
    """Also of the sample weights, and of a loss that something is done with."""
    function, inputs = loss(
        batch["features"],
        batch["labels"],
        present=batch["present"],
        weight=batch["weight"],
        upstream=3.0,
        **chosen,
    )
    with by_pairs():
        value, expected = gradients(function, *inputs)
    with sizes(**cut):
        found_value, found = gradients(function, *inputs)
    close(found_value, value, atol=1e-12, rtol=1e-12)
    for gradient, reference in zip(found, expected, strict=True):
        close(gradient, reference, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("loss", [mm.intra_modal_contrast, mm.inter_modal_contrast])
@given(batch=batches, cut=cuts)
def test_one_loss_alone(loss, batch, cut):
    options = {"present": batch["present"], "weight": batch["weight"]}
    with by_pairs():
        expected = loss(batch["features"], batch["labels"], reduction="none", **options)
    with sizes(**cut):
        found = loss(batch["features"], batch["labels"], reduction="none", **options)
    close(found, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("least", [1, 4])
@pytest.mark.parametrize("log", [False, True])
def test_all_derivatives(least, log):
    features, classes = modalities(1, 7, 3), torch.tensor([0, 1, 0, -100, 1, 0, 2])
    chosen = {"present": presence(2, 7), "weight": normal(3, 7).abs(), "log": log}
    function, inputs = loss(features, classes, **chosen)
    inputs = [x.clone().requires_grad_() for x in inputs]
    with sizes(least=least, part=2):
        # Entry by entry the gradient is that of the pairs, above.
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize(
    "classes",
    [torch.full((9,), -100), torch.arange(9), torch.zeros(9).long(), torch.tensor([3])],
    ids=["nobody", "everybody alone", "one class", "one sample"],
)
@pytest.mark.parametrize("least", [1, 100])
def test_empty_sets(classes, least):
    function, inputs = loss(modalities(4, len(classes), 3), classes)
    with by_pairs():
        value, expected = gradients(function, *inputs)
    with sizes(least=least):
        found_value, found = gradients(function, *inputs)
    close(found_value, value, atol=1e-12)
    for gradient, reference in zip(found, expected, strict=True):
        close(gradient, reference, atol=1e-12)


def test_absent_and_unlabelled_rows_reach_nothing():
    features, present, classes = modalities(1, 20, 3), presence(4, 20), labels(5, 20, 3, 0.2)
    out = {name: ~present[name] | (classes == -100) for name in features}
    with sizes(least=4):
        function, inputs = loss(features, classes, present=present)
        for filler in (torch.nan, torch.inf, 1e30):
            nothing_of(function, inputs, out.values(), filler)


# --- numbers -------------------------------------------------------------------------------------


@given(
    seed=seeds,
    kind=st.sampled_from(KINDS),
    log=st.booleans(),
    least=st.sampled_from([1, 100]),
    normalize=st.sampled_from([*NORMALIZE.values()]),
)
@example(seed=0, kind="huge", log=True, least=1, normalize=mm.softmax_normalize)
def test_float32_is_as_close_as_the_pairs_are(seed, kind, log, least, normalize):
    """Gradients within 1e-5 of float64, or of what the pairs reach where float32 allows less."""
    n, d = 60, 8
    features = {str(k): embeddings(seed + 5 * k, n, d, kind).float() for k in range(3)}
    function, inputs = loss(features, labels(seed, n, 2), log=log, normalize=normalize)
    with by_pairs():
        value, exact = gradients(function, *[x.double() for x in inputs])
        plain_value, plain = gradients(function, *inputs)
    with sizes(least=least):
        found_value, found = gradients(function, *inputs)
    allowed = max(1e-6 * (1 + value.abs()), 3 * (plain_value - value).abs())
    assert (found_value - value).abs() <= allowed
    size = torch.cat(exact).norm()
    error, plain_error = ((torch.cat(x).double() - torch.cat(exact)).norm() for x in (found, plain))
    assert torch.cat(found).isfinite().all()
    assert error <= max(5e-6 * size, 10 * plain_error, 1e-9)


@pytest.mark.parametrize("rare", [2, 2500])
@pytest.mark.parametrize("log", [False, True])
def test_float32_gradients_of_a_large_batch(rare, log):
    """What a row says to its own class and to the other all but cancels: 1e-5 in float32 sums."""
    classes = (torch.arange(5000) < rare).long()
    function, inputs = loss(modalities(1, 5000, 20), classes, log=log)
    _, exact = gradients(function, *inputs)
    _, found = gradients(function, *[x.float() for x in inputs])
    error = (torch.cat(found) - torch.cat(exact)).norm() / torch.cat(exact).norm()
    assert error < 5e-6


@pytest.mark.parametrize("n", [1, 3, 40])
def test_oneself_is_taken_off_without_losing_the_others(n):
    """Rows that are nearly one-hot, where few others are: these are 1e-9 of one's own square."""
    apart = 20.0 * torch.eye(8).repeat_interleave(n, dim=0)
    rows = [mm.softmax_normalize(apart + 0.1 * normal(k, 8 * n, 8).float()) for k in range(3)]
    features = {"text": rows[0], "audio": rows[1].flip(0), "vision": rows[2].roll(1, 0)}
    classes = torch.arange(8 * n) // n % 2
    function, inputs = loss(features, classes, log=True, normalize=None)
    with by_pairs():
        value, exact = gradients(function, *[x.double() for x in inputs])
    with sizes():
        found_value, found = gradients(function, *inputs)
    close(found_value, value, rtol=1e-5)
    error = (torch.cat(found) - torch.cat(exact)).norm() / torch.cat(exact).norm()
    assert error < 5e-6


@pytest.mark.parametrize("log", [False, True])
def test_fellows_of_a_heavy_row_are_there_to_the_last_digit_in_the_gradient(log):
    """Its sample's text is pulled by the other rows of audio, who are 1e-6 of the class's sum."""
    features = {name: x.abs() for name, x in modalities(0, 40, 6, ("text", "audio")).items()}
    features["audio"][3] *= 1e6
    options = {"refine": False, "log": log, "normalize": None, "reduction": "none"}

    def of_text(*x):
        moved = dict(zip(features, x, strict=True))
        return mm.inter_modal_contrast(moved, torch.arange(40) % 2, **options)[:, 0].sum()

    inputs = [x.float() for x in features.values()]
    with by_pairs():
        _, (exact, _) = gradients(of_text, *[x.double() for x in inputs])
    with sizes():
        _, (found, _) = gradients(of_text, *inputs)
    assert (found[3] - exact[3]).norm() < 5e-6 * exact[3].norm()


@pytest.mark.parametrize("kind", KINDS)
def test_refinement_is_never_negative(kind):
    x = embeddings(3, 40, 5, kind).float()
    features = {"text": x, "audio": x.clone()}
    options = {"normalize": mm.l2_normalize, "reduction": "none"}
    with sizes():
        values = mm.intra_modal_contrast(features, torch.zeros(40), **options)
    assert values.isfinite().all()
    assert (values >= 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(dtype):
    features = {name: x.to(dtype) for name, x in modalities(6, 300, 5).items()}
    function, inputs = loss(features, labels(6, 300))
    value, exact = gradients(function, *[x.double() for x in inputs])
    found_value, found = gradients(function, *inputs)
    assert found_value.dtype == torch.float32
    close(found_value, value, rtol=1e-6)
    for gradient, reference in zip(found, exact, strict=True):
        assert gradient.dtype == dtype
        error = (gradient.double() - reference).norm() / reference.norm()
        assert error < 4 * torch.finfo(dtype).eps
    with torch.autocast("cpu", dtype=dtype):
        wide = {name: x.float() for name, x in features.items()}
        inside = mm.hybrid_contrast(wide, labels(6, 300)).total
    assert inside == mm.hybrid_contrast(wide, labels(6, 300)).total


@pytest.mark.parametrize("classes", [2, 37])
def test_autocast_around_backward_changes_no_derivative(classes):
    names, given = modalities(6, 300, 5), labels(6, 300, classes)

    def derivatives(autocast):
        x = [leaf(z.float()) for z in names.values()]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = mm.hybrid_contrast(dict(zip(names, x, strict=True)), given).total
            slopes = torch.autograd.grad(value, x, create_graph=True)
            return [*slopes, *torch.autograd.grad(sum(z.sin().sum() for z in slopes), x)]

    for found, expected in zip(derivatives(True), derivatives(False), strict=True):
        assert torch.equal(found, expected)


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 37, 4000])
def test_memory_and_work_grow_with_the_batch_not_with_its_square(classes):
    small, large = entries(2000, classes), entries(8000, classes)
    assert large.largest <= 3 * 8 * 8000
    assert large.all <= 5 * small.all

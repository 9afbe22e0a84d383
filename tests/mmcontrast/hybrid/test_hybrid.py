"""HyCon's losses against float64 loops over anchors and pairs, and their laws."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.hybrid.losses import (
    NORMALIZE,
    SUPERVISED,
    batches,
    every_supervised,
    plain,
    selections,
    split,
)
from tests.mmcontrast.strategies import (
    close,
    gradients,
    labels,
    mask,
    modalities,
    normal,
    nothing_of,
    numpy,
    orthogonal,
    presence,
    rng,
    seeds,
    tol,
)
from tests.ranks import hybrid as on_ranks
from tests.ranks import launch

ORACLES = {"intra": oracles.intra_modal_contrast, "inter": oracles.inter_modal_contrast}


# --- agreement with the equations ----------------------------------------------------------------


@every_supervised
@given(
    batch=batches,
    refine=st.booleans(),
    log=st.booleans(),
    selection=selections,
    refine_on=st.sampled_from(["selected", "all", "weighted"]),
    normalize=st.sampled_from(list(NORMALIZE)),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_supervised_contrast_agrees_with_the_oracle(
    kind, batch, refine, log, selection, refine_on, normalize, reduction
):
    arrays, options = split(batch)
    assume(normalize != "shifted_cosine" or arrays[0]["text"].shape[1] > 1)  # there s is 0 or 1
    assume(refine_on != "weighted" or selection is None or selection.positives)  # no weights
    shared = {"refine": refine, "log": log, "refine_on": refine_on, "reduction": reduction}
    expected = ORACLES[kind](
        *map(numpy, arrays),
        selection=plain(selection),
        normalize=normalize,
        **shared,
        **numpy(options),
    )
    actual = SUPERVISED[kind](
        *arrays, selection=selection, normalize=NORMALIZE[normalize], **shared, **options
    )
    close(actual, expected)


@given(
    batch=batches,
    margin=st.sampled_from([0.5, 0.8, 1.0]),
    weights=st.tuples(*[st.sampled_from([0, 0.5, 1, 2.0])] * 3),
    refine=st.booleans(),
    log=st.booleans(),
    selection=selections,
    refine_on=st.sampled_from(["selected", "all"]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_hybrid_contrast_agrees_with_the_oracle(
    batch, margin, weights, refine, log, selection, refine_on, reduction
):
    arrays, options = split(batch)
    shared = {
        "margin": margin,
        "refine": refine,
        "log": log,
        "refine_on": refine_on,
        "reduction": reduction,
    }
    terms = mm.hybrid_contrast(*arrays, weights=weights, selection=selection, **shared, **options)
    expected = oracles.hybrid_contrast(
        *map(numpy, arrays), selection=plain(selection), **shared, **numpy(options)
    )
    assert list(terms) == ["intra", "inter", "semi"]
    assert tuple(terms.weights.values()) == weights
    total = 0
    for weight, name in zip(weights, terms, strict=True):
        close(terms[name], expected[name] if weight else 0 * expected[name])
        total = total + weight * expected[name]
    close(terms.total, total)


@given(
    batch=batches,
    seed=seeds,
    floating=st.booleans(),
    selection=selections,
    refine_on=st.sampled_from(["selected", "all", "weighted"]),
    log=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_pairs_by_mask_or_weight_instead_of_labels(
    batch, seed, floating, selection, refine_on, log, reduction
):
    (features, ids), options = split(batch)
    n = len(ids)
    pairs = {"positives": mask(seed, n, n), "negatives": mask(seed + 1, n, n)}
    if floating:
        pairs = {name: normal(seed + k, n, n).relu() for k, name in enumerate(pairs)}
        selection, refine_on = None, "selected"
    assume(refine_on != "weighted" or selection is None or selection.positives)
    shared = {"log": log, "refine_on": refine_on, "reduction": reduction}
    terms = mm.hybrid_contrast(features, None, selection=selection, **pairs, **shared, **options)
    expected = oracles.hybrid_contrast(
        numpy(features),
        None,
        selection=plain(selection),
        **numpy(pairs),
        **shared,
        **numpy(options),
    )
    for name in terms:
        close(terms[name], expected[name])


@pytest.mark.parametrize("floating", [False, True])
def test_a_pair_counts_also_where_its_candidate_is_no_anchor(floating):
    """Masks need not be symmetric: sample 0 has a positive and a negative, they have nobody."""
    features = modalities(6, 3, 3)
    positives = torch.tensor([[0, 1, 0], [0, 0, 0], [0, 0, 0]]).bool()
    negatives = torch.tensor([[0, 0, 1], [0, 0, 0], [0, 0, 0]]).bool()
    pairs = {"positives": positives, "negatives": negatives}
    if floating:
        pairs = {name: x.double() for name, x in pairs.items()}
    values = mm.intra_modal_contrast(features, None, **pairs, reduction="none")
    for column, x in enumerate(features.values()):
        s = mm.softmax_normalize(x) @ mm.softmax_normalize(x).T
        expected = (s[0, 1] - 1) ** 2 - s[0, 1] / (s[0, 1] + s[0, 2])
        close(values[0, column], expected)
    assert (values[1:] == 0).all()


@given(batch=batches, selection=selections)
def test_law_48_masks_of_the_labels_are_the_labels(batch, selection):
    (features, ids), options = split(batch)
    same, different = mm.same_label(ids), mm.different_label(ids)
    options["selection"] = selection
    expected = [loss(features, ids, **options) for loss in SUPERVISED.values()]
    masks = {"positives": same, "negatives": different}
    close([f(features, None, **masks, **options) for f in SUPERVISED.values()], expected)
    if selection is None:
        soft = {name: x.double() for name, x in masks.items()}
        close([f(features, None, **soft, **options) for f in SUPERVISED.values()], expected)


CHOICES = {
    "plain": {},
    "log": {"log": True},
    "no refinement": {"refine": False},
    "selection": {"selection": mm.PairSelection(0.5, gamma=0.7)},
    "refine on all": {"selection": mm.PairSelection(0.4), "refine_on": "all"},
    "refine on weighted": {"selection": mm.PairSelection(0.4), "refine_on": "weighted"},
    "negatives only": {"selection": mm.PairSelection(0.4, positives=False, inter_factor=2)},
    "positives only": {"selection": mm.PairSelection(0.4, negatives=False, unselected="sum")},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_gradient_agrees_with_central_differences(choice):
    """Law 38: the weights of eq 14 carry no gradient, so they are held where they are."""
    options = CHOICES[choice]
    features, present = modalities(3, 6, 3), presence(5, 6)
    classes = torch.tensor([0, 1, 0, 1, -100, 0])
    _, found = gradients(
        lambda *x: (
            mm.hybrid_contrast(
                dict(zip(features, x, strict=True)), classes, present=present, **options
            ).total
        ),
        *features.values(),
    )
    frozen = oracles.FrozenWeights()
    base = {**options, "selection": plain(options.get("selection"))}

    def value(moved, name):
        with frozen:
            terms = oracles.hybrid_contrast(
                {**numpy(features), name: moved},
                numpy(classes),
                present=numpy(present),
                **base,
            )
        return sum(terms.values())

    value(numpy(features["text"]), "text")
    for name, gradient in zip(features, found, strict=True):
        expected = oracles.central_differences(
            lambda x, name=name: value(x, name), numpy(features[name])
        )
        close(gradient, expected, atol=1e-8)


def test_defaults_are_the_papers():
    features, classes = modalities(1, 6, 4), labels(1, 6)
    close(mm.semi_contrast(features), oracles.semi_contrast(numpy(features), margin=0.8))
    for kind, loss in SUPERVISED.items():
        expected = ORACLES[kind](numpy(features), numpy(classes), normalize="softmax")
        close(loss(features, classes), expected)
    terms = mm.hybrid_contrast(features, classes)
    assert terms.weights == {"intra": 1, "inter": 1, "semi": 1}
    close(
        terms.total,
        sum(oracles.hybrid_contrast(numpy(features), numpy(classes), margin=0.8).values()),
    )
    assert vars(mm.PairSelection()) == {
        "fraction": 0.2,
        "gamma": 1.0,
        "positives": True,
        "negatives": True,
        "unselected": "mean",
        "inter_factor": 1,
    }


# --- laws ----------------------------------------------------------------------------------------


@given(batch=batches, seed=seeds, selection=selections)
def test_law_4_joint_permutation(batch, seed, selection):
    (features, classes), options = split(batch)
    n = len(classes)
    order = torch.randperm(n, generator=rng(seed))
    moved = {name: x[order] for name, x in features.items()}
    other = {
        "present": options["present"] and {k: v[order] for k, v in options["present"].items()},
        "weight": None if options["weight"] is None else options["weight"][order],
    }
    before = mm.hybrid_contrast(features, classes, selection=selection, reduction="none", **options)
    after = mm.hybrid_contrast(
        moved, classes[order], selection=selection, reduction="none", **other
    )
    for name in before:
        close(before[name][order], after[name])


@given(seed=seeds, selection=selections)
def test_law_26_relabelling_changes_nothing(seed, selection):
    features, classes = modalities(seed, 6, 3), labels(seed, 6, 3)
    renamed = torch.tensor([2**40, -5, 7])[classes]
    close(
        mm.hybrid_contrast(features, classes, selection=selection).total,
        mm.hybrid_contrast(features, renamed, selection=selection).total,
    )


@given(seed=seeds, selection=selections)
def test_the_order_of_modalities_moves_columns_only(seed, selection):
    features, classes = modalities(seed, 5, 3), labels(seed, 5)
    turned = {name: features[name] for name in reversed(features)}
    before = mm.hybrid_contrast(features, classes, selection=selection, reduction="none")
    after = mm.hybrid_contrast(turned, classes, selection=selection, reduction="none")
    for name in before:
        assert before[name].shape == (5, 3)
        close(before[name].flip(1), after[name])


@given(seed=seeds)
def test_law_5_rotation_under_cosine_similarities(seed):
    features, classes, q = modalities(seed, 5, 3), labels(seed, 5), orthogonal(seed, 3)
    turned = {name: x @ q for name, x in features.items()}
    options = {"normalize": mm.shifted_cosine_normalize}
    close(
        mm.hybrid_contrast(features, classes, **options).total,
        mm.hybrid_contrast(turned, classes, **options).total,
    )


@given(batch=batches, selection=selections)
def test_law_21_the_sum_is_the_sum_of_none(batch, selection):
    arrays, options = split(batch)
    shared = {"selection": selection, **options}
    none = mm.hybrid_contrast(*arrays, reduction="none", **shared)
    total = mm.hybrid_contrast(*arrays, reduction="sum", **shared)
    for name in none:
        assert none[name].shape == (len(arrays[1]), len(arrays[0]))
        close(none[name].sum(), total[name])


@given(seed=seeds)
def test_integer_weights_count_anchors_not_pairs(seed):
    """The mean with weights: sum(weight * anchor) / sum(weight), over samples and modalities."""
    features, classes = modalities(seed, 6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
    weight = torch.randint(0, 4, (6,), generator=rng(seed)).double()
    none = mm.hybrid_contrast(features, classes, reduction="none")
    mean = mm.hybrid_contrast(features, classes, weight=weight)
    for name in none:
        expected = (none[name] * weight[:, None]).sum() / max(3 * weight.sum().item(), 1e-9)
        close(mean[name], expected)


@given(seed=seeds, selection=selections)
def test_paper_ratio_range_and_refinement_range(seed, selection):
    """PAPERS 12: the ratio lies in [-1, 0] and the refinement in [0, 1]."""
    features, classes = modalities(seed, 6, 3), labels(seed, 6)
    for loss in SUPERVISED.values():
        ratio = loss(features, classes, refine=False, selection=selection, reduction="none")
        both = loss(features, classes, selection=selection, reduction="none")
        assert ((ratio >= -1) & (ratio <= 0)).all()
        assert (both >= ratio).all()
        assert (both <= ratio + 1).all()


@every_supervised
@given(seed=seeds)
def test_law_46_the_log_form_dominates(seed, kind):
    features, classes = modalities(seed, 6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
    options = {"refine": False, "reduction": "none"}
    ratio = SUPERVISED[kind](features, classes, **options)
    close(SUPERVISED[kind](features, classes, log=True, **options), -(-ratio).log())


@every_supervised
def test_h4_anchors_without_partners_do_not_count(kind):
    """One sample of a class of its own: no refinement, no ratio; the mean goes over the others."""
    features, classes = modalities(9, 5, 3), torch.tensor([0, 0, 1, 1, 2])
    values = SUPERVISED[kind](features, classes, reduction="none")
    assert (values[4] == 0).all()
    close(SUPERVISED[kind](features, classes), values[:4].mean())


@every_supervised
def test_h4_one_class_has_refinement_but_no_ratio(kind):
    features, classes = modalities(10, 4, 3), torch.zeros(4, dtype=torch.int64)
    refined = SUPERVISED[kind](features, classes)
    assert refined > 0
    assert SUPERVISED[kind](features, classes, refine=False).item() == 0
    assert SUPERVISED[kind](features, classes, log=True).item() == refined.item()


# --- absent, unlabelled, empty -------------------------------------------------------------------


@pytest.mark.parametrize("filler", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("selection", [None, mm.PairSelection(0.4)], ids=["all", "selection"])
def test_contract_3_absent_and_unlabelled_rows_reach_nothing(filler, selection):
    features, present = modalities(1, 7, 3), presence(4, 7)
    classes = torch.tensor([0, 1, 0, -100, 1, 0, 1])
    out = {name: ~present[name] | (classes == -100) for name in features}

    def total(*x):
        return mm.hybrid_contrast(
            dict(zip(features, x, strict=True)), classes, present=present, selection=selection
        ).total

    nothing_of(total, features.values(), out.values(), filler)


@given(batch=batches, selection=selections)
def test_law_25_an_unlabelled_sample_is_a_removed_sample(batch, selection):
    (features, classes), options = split(batch)
    stays = classes != -100
    kept = {
        "present": options["present"] and {k: v[stays] for k, v in options["present"].items()},
        "weight": None if options["weight"] is None else options["weight"][stays],
    }
    terms = mm.hybrid_contrast(features, classes, selection=selection, **options)
    smaller = mm.hybrid_contrast(
        {k: v[stays] for k, v in features.items()}, classes[stays], selection=selection, **kept
    )
    for name in terms:
        close(terms[name], smaller[name])


def test_labels_in_several_columns_and_as_floats():
    features = modalities(2, 6, 3)
    several = torch.tensor([[0, 1], [0, 1], [1, 1], [1, 0], [0, -100], [1, 1]])
    ids = torch.tensor([0, 0, 1, 2, -100, 1])
    expected = mm.hybrid_contrast(features, ids).total
    close(mm.hybrid_contrast(features, several).total, expected)
    close(mm.hybrid_contrast(features, ids.float()).total, expected)
    nan = torch.where(ids == -100, torch.nan, ids.double())
    close(mm.hybrid_contrast(features, nan).total, expected)


@pytest.mark.parametrize("selection", [None, mm.PairSelection()], ids=["all", "selection"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("classes", "present"),
    [
        ([-100, -100, -100], {}),
        ([0, 1, 2], {"text": [0, 0, 0], "audio": [0, 0, 0], "vision": [0, 0, 0]}),
        ([0], {"text": [0], "audio": [0]}),
        ([], {}),
    ],
    ids=["unlabelled", "absent", "one modality of one sample", "empty"],
)
def test_nobody_to_contrast_is_zero_with_a_graph(classes, present, reduction, selection):
    classes = torch.tensor(classes, dtype=torch.int64)
    present = {name: torch.tensor(there).bool() for name, there in present.items()}
    features = modalities(3, len(classes), 3)
    value, found = gradients(
        lambda *x: mm.hybrid_contrast(
            dict(zip(features, x, strict=True)),
            classes,
            present=present,
            selection=selection,
            reduction=reduction,
        ).total.sum(),
        *features.values(),
    )
    assert value.item() == 0
    assert all((gradient == 0).all() for gradient in found)


def test_a_term_of_weight_zero_is_not_evaluated():
    """Law 56: its value is zero, and no gradient comes from it."""
    features, classes = modalities(4, 5, 3), labels(4, 5)
    seen = []

    def spy(x):
        seen.append(x.shape)
        return mm.softmax_normalize(x)

    terms = mm.hybrid_contrast(features, classes, weights=(0, 0, 0), normalize=spy)
    assert not seen
    assert [terms[name].item() for name in terms] == [0, 0, 0]
    assert terms.total.item() == 0
    only = mm.hybrid_contrast(features, classes, weights=(0, 0, 2.0))
    close(only.total, 2 * mm.semi_contrast(features))
    zero = mm.hybrid_contrast(features, classes, weights=(0, 1, 1), reduction="none")["intra"]
    assert zero.shape == (5, 3)


def test_law_56_linear_in_the_weights():
    features, classes = modalities(5, 5, 3), labels(5, 5)
    one = mm.hybrid_contrast(features, classes)
    other = mm.hybrid_contrast(features, classes, weights=(0.5, 2.0, 3.0))
    close(other.total, 0.5 * one["intra"] + 2.0 * one["inter"] + 3.0 * one["semi"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("selection", [None, mm.PairSelection(0.4)], ids=["all", "selection"])
def test_law_24_low_precision(dtype, selection):
    features = {name: x.to(dtype) for name, x in modalities(6, 8, 5).items()}
    classes = labels(6, 8)
    value, found = gradients(
        lambda *x: (
            mm.hybrid_contrast(
                dict(zip(features, x, strict=True)), classes, selection=selection
            ).total
        ),
        *features.values(),
    )
    exact, expected = gradients(
        lambda *x: (
            mm.hybrid_contrast(
                dict(zip(features, x, strict=True)), classes, selection=selection
            ).total
        ),
        *[x.double() for x in features.values()],
    )
    assert value.dtype == torch.float32
    assert abs(value - exact) <= tol(torch.float32, n=8)
    for gradient, reference in zip(found, expected, strict=True):
        assert gradient.dtype == dtype
        error = (gradient.double() - reference).norm() / reference.norm()
        assert error < 4 * torch.finfo(dtype).eps


# --- the module ----------------------------------------------------------------------------------


def test_the_module_is_one_call_of_the_function():
    features, classes = modalities(7, 6, 3), labels(7, 6)
    settings = {
        "margin": 0.6,
        "weights": (0.5, 2.0, 0),
        "refine": False,
        "log": True,
        "selection": mm.PairSelection(0.5),
        "refine_on": "all",
        "normalize": mm.shifted_cosine_normalize,
        "reduction": "sum",
    }
    forward = {"present": presence(7, 6), "weight": normal(7, 6).abs()}
    for chosen in ({}, settings, {**settings, "refine": True, "refine_on": "weighted"}):
        terms = mm.HybridContrast(**chosen)(features, classes, **forward)
        expected = mm.hybrid_contrast(features, classes, **chosen, **forward)
        assert terms.weights == expected.weights
        close(terms.total, expected.total)


def test_the_module_takes_masks_in_place_of_labels():
    features, classes = modalities(7, 6, 3), labels(7, 6)
    same = mm.same_label(classes) & mm.off_diagonal(6)
    masks = {"positives": same, "negatives": mm.different_label(classes)}
    terms = mm.HybridContrast(log=True)(features, None, **masks)
    close(terms.total, mm.hybrid_contrast(features, None, log=True, **masks).total)
    close(terms.total, mm.hybrid_contrast(features, classes, log=True).total)


# --- wrong calls ---------------------------------------------------------------------------------

X = torch.ones(3, 2)
PAIR, IDS = {"text": X, "audio": X}, torch.tensor([0, 1, 0])
LOSSES = {
    "semi": lambda features, labels=IDS, **k: mm.semi_contrast(features, **k),
    "intra": mm.intra_modal_contrast,
    "inter": mm.inter_modal_contrast,
    "hybrid": mm.hybrid_contrast,
    "intra pairs": mm.intra_modal_pairs,
    "inter pairs": mm.inter_modal_pairs,
}
EVERYWHERE = [
    (lambda f: f({"text": X}, IDS), "features: expected .*two.*got"),
    (lambda f: f({}, IDS), "features: expected .*two.*got"),
    (
        lambda f: f({"text": X, "audio": X[:2]}, IDS),
        r"features.*audio.*: expected .*3.*got .*\(2, 2\)",
    ),
    (
        lambda f: f({"text": X, "audio": torch.ones(3, 4)}, IDS),
        r"features.*audio.*: expected .*2.*got .*\(3, 4\)",
    ),
    (
        lambda f: f({"text": X, "audio": X.long()}, IDS),
        "features.*audio.*: expected .*float.*got .*int64",
    ),
    (lambda f: f({"text": X[0], "audio": X[0]}, IDS), r"features.*text.*: expected .*got .*\(2,\)"),
    (
        lambda f: f(PAIR, IDS, present={"vision": torch.ones(3).bool()}),
        "present: expected .*got .*vision",
    ),
    (
        lambda f: f(PAIR, IDS, present={"text": torch.ones(3)}),
        "present.*text.*: expected .*bool.*got .*float32",
    ),
    (
        lambda f: f(PAIR, IDS, present={"text": torch.ones(4).bool()}),
        r"present.*text.*: expected .*3.*got .*\(4,\)",
    ),
]
REDUCED = [
    (lambda f: f(PAIR, IDS, reduction="avg"), "reduction: expected .*'mean'.*got 'avg'"),
    (lambda f: f(PAIR, IDS, weight=torch.ones(2)), r"weight: expected .*3.*got .*\(2,\)"),
]
HERE = torch.ones(3, 3).bool()
LABELLED = [
    (lambda f: f(PAIR, None), "labels: expected .*positives and negatives.*got None"),
    (lambda f: f(PAIR, None, positives=HERE), "labels: expected .*got None"),
    (lambda f: f(PAIR, IDS, positives=HERE, negatives=HERE), "positives: expected None.*got"),
    (
        lambda f: f(PAIR, None, positives=HERE, negatives=HERE[:2]),
        r"negatives: expected .*\(3, 3\).*got .*\(2, 3\)",
    ),
    (
        lambda f: f(PAIR, None, positives=HERE.long(), negatives=HERE),
        "positives: expected .*bool.*got .*int64",
    ),
    (lambda f: f(PAIR, IDS[:2]), r"labels: expected .*3.*got .*\(2,\)"),
    (lambda f: f(PAIR, torch.zeros(3, 2, 2)), r"labels: expected .*got .*\(3, 2, 2\)"),
]
REFINED = [
    (
        lambda f: f(
            PAIR, None, positives=HERE.float(), negatives=HERE, selection=mm.PairSelection()
        ),
        "positives: expected .*bool.*got .*float32",
    ),
    (
        lambda f: f(PAIR, IDS, refine_on="hard"),
        "refine_on: expected .*'selected'.*'all'.*'weighted'.*got 'hard'",
    ),
]
WRONG = [
    *[(name, *case) for name in LOSSES for case in EVERYWHERE],
    *[(name, *case) for name in LOSSES if "pairs" not in name for case in REDUCED],
    *[(name, *case) for name in LOSSES if name != "semi" for case in LABELLED],
    *[(name, *case) for name in ("intra", "inter", "hybrid") for case in REFINED],
]


@pytest.mark.parametrize(("name", "call", "message"), WRONG)
def test_wrong_calls(name, call, message):
    with pytest.raises(ValueError, match=message):
        call(LOSSES[name])


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1, 1)])
def test_three_weights(weights):
    with pytest.raises(ValueError, match=r"weights: expected .*three.*got"):
        mm.hybrid_contrast(PAIR, IDS, weights=weights)


N = 5
PART = torch.tensor([True, False, True, True, False])
LABELS = torch.where(PART, torch.tensor([0, 0, 0, 1, 1]), mm.IGNORE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: mm.hybrid_contrast(x, LABELS, weights=1.0), "weights: expected three numbers"),
        (
            lambda x: mm.hybrid_contrast(x, LABELS, selection=0.2),
            "selection: expected a PairSelection or None, got 0.2",
        ),
    ],
)
def test_wrong_calls_with_features(call, message):
    with pytest.raises(ValueError, match=message):
        call({"a": normal(1, N, 3), "b": normal(2, N, 3)})


PROGRAMS = ["by_labels", "selected", "by_masks", "one_loss", "no_rows", "levels"]


@pytest.mark.slow
def test_on_ranks():
    launch(3, "tests.ranks.hybrid", *PROGRAMS)


def test_without_ranks_a_group_changes_nothing():
    for program in PROGRAMS:
        with pytest.MonkeyPatch.context() as patch:
            for module, name in on_ranks.SETTINGS:
                patch.setattr(module, name, getattr(module, name))
            getattr(on_ranks, program)(0, 1)


def test_the_programs_have_uneven_and_empty_ranks():
    assert any(len(set(sizes)) > 1 for sizes in on_ranks.SIZES.values())
    assert any(0 in sizes for sizes in on_ranks.SIZES.values())

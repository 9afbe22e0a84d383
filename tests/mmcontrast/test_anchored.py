"""InfoNCE of several modalities with one of them, against float64 loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.infonce_inputs import reductions
from tests.mmcontrast.strategies import (
    MODALITIES,
    close,
    gradients,
    modalities,
    normal,
    nothing_of,
    numpy,
    presence,
    seeds,
    temperatures,
)


@given(
    seed=seeds,
    n=st.integers(1, 5),
    d=st.integers(1, 4),
    names=st.sampled_from([("text", "audio"), MODALITIES, ("smell", "text", "audio", "vision")]),
    anchor=st.sampled_from(["text", "audio"]),
    direction=st.sampled_from(["from_anchor", "to_anchor", "both"]),
    temperature=temperatures,
    reduction=reductions,
    some_absent=st.booleans(),
    weighted=st.booleans(),
)
def test_anchored_info_nce_agrees_with_the_oracle(
    seed, n, d, names, anchor, direction, temperature, reduction, some_absent, weighted
):
    features = modalities(seed, n, d, names)
    options = {
        "present": presence(seed, n, names) if some_absent else None,
        "weight": normal(seed, n).abs() if weighted else None,
    }
    shared = {
        "anchor": anchor,
        "direction": direction,
        "temperature": temperature,
        "reduction": reduction,
    }
    terms = mm.anchored_info_nce(features, **shared, **options)
    expected = oracles.anchored_info_nce(numpy(features), **shared, **numpy(options))
    assert list(terms) == [f"{anchor}-{name}" for name in names if name != anchor]
    assert set(terms.weights.values()) == {1}
    for name in terms:
        close(terms[name], expected[name])
    close(terms.total, sum(expected.values()))


def test_gradient_of_anchored_info_nce_agrees_with_central_differences():
    features, present = modalities(1, 4, 3), presence(2, 4)
    _, found = gradients(
        lambda *x: (
            mm.anchored_info_nce(
                dict(zip(features, x, strict=True)), present=present, direction="both"
            ).total
        ),
        *features.values(),
    )
    for name, gradient in zip(features, found, strict=True):

        def value(moved, name=name):
            terms = oracles.anchored_info_nce(
                {**numpy(features), name: moved},
                present=numpy(present),
                direction="both",
                temperature=0.1,
            )
            return sum(terms.values())

        close(gradient, oracles.central_differences(value, numpy(features[name])), atol=1e-7)


# --- modalities that are absent ------------------------------------------------------------------


@pytest.mark.parametrize("filler", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("direction", ["from_anchor", "to_anchor", "both"])
def test_contract_3_absent_modalities_reach_nothing(filler, direction):
    features, present = modalities(1, 6, 3), presence(4, 6)
    assert all(0 < there.sum() < 6 for there in present.values())

    def total(*x):
        return mm.anchored_info_nce(
            dict(zip(features, x, strict=True)), present=present, direction=direction
        ).total

    nothing_of(total, features.values(), [~there for there in present.values()], filler)


def test_law_25_an_absent_modality_is_a_sample_removed_from_that_term():
    features, present = modalities(1, 6, 3), presence(4, 6)
    terms = mm.anchored_info_nce(features, present=present)
    for name in ("audio", "vision"):
        both = present["text"] & present[name]
        alone = {"text": features["text"][both], name: features[name][both]}
        close(terms[f"text-{name}"], mm.anchored_info_nce(alone)[f"text-{name}"])


def test_everything_absent_is_zero_with_a_graph():
    features = modalities(1, 3, 2)
    absent = {"text": torch.zeros(3, dtype=torch.bool)}
    value, found = gradients(
        lambda *x: (
            mm.anchored_info_nce(
                dict(zip(features, x, strict=True)), present=absent, direction="both"
            ).total
        ),
        *features.values(),
    )
    assert value.item() == 0
    assert all((gradient == 0).all() for gradient in found)


# --- wrong calls ---------------------------------------------------------------------------------

X, Y = torch.ones(3, 2), torch.ones(4, 2)
PAIR = {"text": X, "audio": X}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.anchored_info_nce({"text": X}), "features: expected .*two.*got"),
        (lambda: mm.anchored_info_nce({}), "features: expected .*two.*got"),
        (
            lambda: mm.anchored_info_nce({"text": X, "audio": Y}),
            r"features.*audio.*: expected .*3.*got .*\(4, 2\)",
        ),
        (
            lambda: mm.anchored_info_nce({"text": X, "audio": X.long()}),
            "features.*audio.*: expected .*float.*got .*int64",
        ),
        (
            lambda: mm.anchored_info_nce(PAIR, anchor="vision"),
            "anchor: expected .*text.*audio.*got 'vision'",
        ),
        (
            lambda: mm.anchored_info_nce(PAIR, direction="up"),
            "direction: expected .*'from_anchor'.*got 'up'",
        ),
        (
            lambda: mm.anchored_info_nce(PAIR, present={"vision": torch.ones(3).bool()}),
            "present: expected .*text.*got .*vision",
        ),
        (
            lambda: mm.anchored_info_nce(PAIR, present={"audio": torch.ones(3)}),
            "present.*audio.*: expected .*bool.*got .*float32",
        ),
        (
            lambda: mm.anchored_info_nce(PAIR, present={"audio": torch.ones(2).bool()}),
            r"present.*audio.*: expected .*3.*got .*\(2,\)",
        ),
        (lambda: mm.anchored_info_nce(PAIR, temperature=0.0), "temperature: expected .*got 0"),
        (lambda: mm.anchored_info_nce(PAIR, reduction="max"), "reduction: expected .*got 'max'"),
        (
            lambda: mm.anchored_info_nce(PAIR, weight=torch.ones(3, 1)),
            r"weight: expected .*3.*got .*\(3, 1\)",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()


N = 5


def test_anchored_info_nce_hands_on_its_row_map():
    features = {"text": normal(1, N, 3), "audio": normal(2, N, 3)}
    value = mm.anchored_info_nce(features, normalize=None, temperature=1.0)["text-audio"]
    close(value, mm.n_pair(features["text"], features["audio"]))

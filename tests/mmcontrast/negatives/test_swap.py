"""CorMulT's strategy A against a loop: swapped negatives."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast import swap
from tests import oracles
from tests.mmcontrast.negatives.batches import (
    ALPHA,
    batches,
    bits,
    check_form,
    full,
    has,
    options,
    originals,
    samples,
)
from tests.mmcontrast.strategies import mask, rng, seeds


@given(
    batch=batches(),
    seed=seeds,
    limited=st.booleans(),
    subset=st.none() | st.sets(st.sampled_from(["text", "audio", "speaker"]), min_size=1),
)
def test_swap_takes_one_modality_from_one_other_sample(batch, seed, limited, subset):
    n = len(batch[0]["text"])
    allowed = mask(seed, n, n) if limited else None
    before = copy.deepcopy(batch)
    found = swap(
        batch[0], modalities=subset, allowed=allowed, **options(batch), generator=rng(seed)
    )
    check_form(found, batch)
    who = {name: w for name, w in has(batch).items() if subset is None or name in subset}
    choices = oracles.swap_choices(who, allowed)
    for i in range(n):
        names = [name for name, altered in found.altered.items() if altered[i]]
        assert len(names) == bool(choices[i])
        for name in names:
            partners = [j for m, j in choices[i] if m == name]
            assert samples(found, name, i) in [originals(batch, name, j) for j in partners]
            assert samples(found, name, i) != originals(batch, name, i)
    for now, then in zip(batch, before, strict=True):
        assert {m: bits(x) for m, x in now.items()} == {m: bits(x) for m, x in then.items()}


def test_swap_draws_modality_and_partner_uniformly():
    """Five samples, somebody lacks something: 4000 draws for each against their probabilities."""
    features = {name: torch.arange(5.0)[:, None] for name in ("text", "audio", "vision")}
    present = {
        "audio": torch.tensor([1, 1, 0, 1, 0]).bool(),
        "vision": torch.tensor([1, 0, 0, 0, 0]).bool(),
    }
    choices = oracles.swap_choices({"text": [True] * 5, "audio": present["audio"].tolist()})
    counts = [dict.fromkeys(choice, 0) for choice in choices]
    generator, rounds = rng(21), 1500
    for _ in range(rounds):
        found = swap(features, present=present, generator=generator)
        for name in ("text", "audio"):
            rows = zip(
                found.altered[name].tolist(), found.features[name][:, 0].tolist(), strict=True
            )
            for i, (altered, j) in enumerate(rows):
                if altered:
                    counts[i][name, int(j)] += 1
    observed = [c for count in counts for c in count.values()]
    expected = [rounds * p for choice in choices for p in choice.values()]
    assert sum(observed) == 5 * rounds
    assert oracles.p_value(observed, expected, len(observed) - 5) > ALPHA


def test_a_lone_sample_has_nobody_to_swap_with():
    for n in (0, 1):
        found = swap(full(n))
        assert not any(altered.any() for altered in found.altered.values())
        assert all(torch.equal(found.features[m], x) for m, x in full(n).items())


def test_swap_respects_who_may_stand_in_for_whom():
    """Labels as a mask: the partner is always of the other class."""
    classes = torch.tensor([0, 0, 1, 1, 1])
    features = {"audio": classes[:, None].double(), "text": torch.rand(5, 2)}
    found = swap(features, modalities=["audio"], allowed=mm.different_label(classes))
    assert found.altered["audio"].all()
    assert torch.equal(found.features["audio"][:, 0], 1.0 - classes)
    assert torch.equal(found.features["text"], features["text"])


# --- wrong calls ---------------------------------------------------------------------------------

F = {"text": torch.tensor([[4, 5], [6, 7]]), "audio": torch.rand(2, 3, 2), "face": torch.rand(2, 2)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: swap(F, allowed=torch.ones(2, 3).bool()),
            r"allowed: expected shape \(2, 2\), got \(2, 3\)",
        ),
        (
            lambda: swap(F, allowed=torch.ones(2, 2)),
            "allowed: expected a bool mask, got torch.float32",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()

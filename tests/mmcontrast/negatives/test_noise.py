"""CorMulT's strategy C against loops: noise on frames, and other token ids."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmcontrast import add_noise, mixed_negatives, replace_tokens, shift, swap
from tests import oracles
from tests.mmcontrast.negatives.batches import (
    ALPHA,
    VOCABULARY,
    batches,
    bits,
    check_form,
    full,
    options,
    real,
)
from tests.mmcontrast.strategies import close, normal, rng, seeds

# --- C: noise ------------------------------------------------------------------------------------


@given(batch=batches(), seed=seeds, relative=st.booleans())
def test_noise_is_on_real_frames_of_floating_modalities_only(batch, seed, relative):
    before = copy.deepcopy(batch)
    found = add_noise(batch[0], std=0.01, relative=relative, **options(batch), generator=rng(seed))
    check_form(found, batch)
    for name, marks in real(*batch).items():
        x, noisy = batch[0][name], found.features[name]
        frames = marks if x.ndim == 3 or not x.is_floating_point() else marks[:, 0]
        if not x.is_floating_point():
            assert torch.equal(noisy, x)
            continue
        assert bits(noisy[~frames]) == bits(x[~frames])
        spread = not relative or marks.sum() > 1
        assert ((noisy != x)[frames] == spread).all()
        assert torch.equal(found.altered[name], marks.any(1) & spread)
        assert noisy[frames].isfinite().all()
        if name in found.masks:
            assert torch.equal(found.masks[name], batch[2][name])
    for now, then in zip(batch, before, strict=True):
        assert {m: bits(x) for m, x in now.items()} == {m: bits(x) for m, x in then.items()}


@given(batch=batches(), seed=seeds, std=st.sampled_from([0.1, 3.0]))
def test_c13_noise_is_relative_to_each_features_deviation_over_the_real_frames(batch, seed, std):
    """The same draws with and without the scale: their quotient is the oracle's deviation."""
    features = {name: x for name, x in batch[0].items() if x.is_floating_point()}
    shared = {
        field: {m: x for m, x in given_.items() if m in features}
        for field, given_ in options(batch).items()
    }
    plain, scaled = (
        add_noise(features, std=std, relative=relative, **shared, generator=rng(seed))
        for relative in (False, True)
    )
    marks = real(features, *shared.values())
    for name, x in features.items():
        if not marks[name].any():
            continue
        frames = x.reshape(*marks[name].shape, -1)
        spread = oracles.deviations(frames.tolist(), marks[name].tolist())
        plain_gap, scaled_gap = (
            (found.features[name] - x).reshape(frames.shape)[marks[name]]
            for found in (plain, scaled)
        )
        close(scaled_gap, plain_gap * torch.tensor(spread, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("std", [0.1, 0.5])
def test_c13_noise_is_gaussian(std):
    """Standardised noise falls into the normal distribution's deciles alike."""
    features = {"audio": 7 * normal(25, 2000, 5, 2) + 3}
    found = add_noise(features, std=std, generator=rng(26))
    deviation = features["audio"].flatten(0, 1).std(0, correction=0)
    draws = (found.features["audio"] - features["audio"]) / deviation / std
    deciles = torch.special.ndtr(draws).mul(10).floor().long()
    counts = torch.bincount(deciles.flatten(), minlength=10).tolist()
    assert oracles.p_value(counts, [2000.0] * 10, 9) > ALPHA
    assert (
        add_noise(features, generator=rng(1))
        .features["audio"]
        .equal(add_noise(features, std=0.1, relative=True, generator=rng(1)).features["audio"])
    )


@pytest.mark.parametrize("n", [0, 1, 3, 7, 100])
@pytest.mark.parametrize("std", [0.1, 1e3])
def test_a_constant_feature_has_no_noise_and_counts_as_unaltered(n, std):
    """However its mean is rounded: that of a hundred times 0.1 is not 0.1 in float32."""
    features = {"audio": torch.full((n, 4, 2), 0.1), "speaker": normal(27, 1, 3).expand(n, 3)}
    features |= {"float32": normal(28, 1, 3).float().expand(n, 3)}
    found = add_noise(features, std=std)
    for name, x in features.items():
        assert torch.equal(found.features[name], x)
        assert not found.altered[name].any()
    assert all(x.all() for x in add_noise(features, relative=False).altered.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_law_24_dtypes_stay(dtype):
    features = {name: x.to(dtype) for name, x in full(4).items()}
    features["ids"] = torch.randint(0, 9, (4, 3), dtype=torch.int32, generator=rng(1))
    for found in (
        swap(features),
        shift(features),
        add_noise(features),
        replace_tokens(features, vocabulary_size=9),
        mixed_negatives(features, vocabulary_size=9),
    ):
        assert {m: x.dtype for m, x in found.features.items()} == {
            m: x.dtype for m, x in features.items()
        }
        assert all(x.isfinite().all() for x in found.features.values())


def test_law_24_the_deviation_is_measured_in_float32():
    """20 000 float16 frames around 100: their sum is beyond the largest float16."""
    x = (100 + normal(28, 20_000, 1)).half()
    noise = add_noise({"audio": x}, std=1.0, generator=rng(2)).features["audio"] - x
    assert abs(noise.double().std().item() / x.double().std().item() - 1) < 0.05


# --- C for token ids -----------------------------------------------------------------------------


@given(
    batch=batches(ids=True),
    seed=seeds,
    probability=st.sampled_from([0.0, 0.3, 1.0]),
    special=st.sets(st.integers(0, VOCABULARY - 1), max_size=3),
)
def test_replaced_tokens_are_real_not_special_and_different(batch, seed, probability, special):
    features = batch[0]
    x = features["text"]
    special |= set(x.flatten()[: len(x)].tolist())
    before = copy.deepcopy(batch)
    found = replace_tokens(
        features,
        vocabulary_size=VOCABULARY,
        probability=probability,
        special=special,
        **options(batch),
        generator=rng(seed),
    )
    check_form(found, batch)
    marks = real(*batch)["text"]
    for i, row in enumerate(x.tolist()):
        free = [t for t, token in enumerate(row) if marks[i, t] and token not in special]
        new = found.features["text"][i].tolist()
        changed = [t for t, (a, b) in enumerate(zip(row, new, strict=True)) if a != b]
        assert set(changed) <= set(free)
        assert all(0 <= new[t] < VOCABULARY and new[t] not in special for t in changed)
        assert found.altered["text"][i] == bool(free) == bool(changed)
        if probability == 0:
            assert len(changed) <= 1
        if probability == 1:
            assert changed == free
    assert all(not a.any() for name, a in found.altered.items() if name != "text")
    for now, then in zip(batch, before, strict=True):
        assert {m: bits(v) for m, v in now.items()} == {m: bits(v) for m, v in then.items()}


def test_new_tokens_are_uniform_without_the_special_ones_and_the_old_one():
    """Of 8 ids, 0, 3 and 7 special: each of the five others becomes each of four."""
    n, special = 20_000, [3, 7, 0, 3]
    old = torch.tensor([1, 2, 4, 5, 6]).repeat(n // 5)
    found = replace_tokens(
        {"text": old[:, None]}, vocabulary_size=8, special=special, generator=rng(29)
    )
    pairs = list(zip(old.tolist(), found.features["text"][:, 0].tolist(), strict=True))
    cells = [(a, b) for a in (1, 2, 4, 5, 6) for b in (1, 2, 4, 5, 6) if a != b]
    counts = [pairs.count(cell) for cell in cells]
    assert sum(counts) == n
    assert oracles.p_value(counts, [n / 20] * 20, 15) > ALPHA


def test_of_two_tokens_each_becomes_the_other():
    text = torch.tensor([[2, 5, 2, 3]])
    found = replace_tokens({"text": text}, vocabulary_size=6, special=[0, 1, 3, 4], probability=1.0)
    assert found.features["text"].tolist() == [[5, 2, 5, 3]]


def test_a_token_outside_the_vocabulary_is_replaced_by_one_inside():
    found = replace_tokens({"text": torch.full((200, 1), 50)}, vocabulary_size=4, special=[1])
    assert set(found.features["text"].flatten().tolist()) <= {0, 2, 3}


@pytest.mark.parametrize("probability", [0.0, 0.15, 0.5])
def test_how_many_tokens_are_replaced(probability):
    """Of three tokens: binomial, but one at least, each as often alone; a fourth is special."""
    n = 20_000
    found = replace_tokens(
        {"text": torch.tensor([0, 1, 0, 0]).expand(n, 4)},
        vocabulary_size=9,
        special=[1],
        probability=probability,
        generator=rng(30),
    )
    assert (found.features["text"][:, 1] == 1).all()
    changed = found.features["text"][:, [0, 2, 3]] != 0
    assert torch.equal(found.altered["text"], torch.ones(n, dtype=torch.bool))
    shares = [math.comb(3, k) * probability**k * (1 - probability) ** (3 - k) for k in range(4)]
    expected = [n * (shares[0] + shares[1]), n * shares[2], n * shares[3]]
    counts = torch.bincount(changed.sum(1), minlength=4).tolist()
    assert counts[0] == 0
    if probability == 0:
        assert counts[1] == n
    else:
        assert oracles.p_value(counts[1:], expected, 2) > ALPHA
    first = changed[changed.sum(1) == 1].long().argmax(1)
    singles = len(first)
    alone = torch.bincount(first, minlength=3).tolist()
    assert oracles.p_value(alone, [singles / 3] * 3, 2) > ALPHA


# --- wrong calls ---------------------------------------------------------------------------------

F = {"text": torch.tensor([[4, 5], [6, 7]]), "audio": torch.rand(2, 3, 2), "face": torch.rand(2, 2)}
IDS, FRAMES, VECTORS = ({name: F[name]} for name in F)


def tokens(features=IDS, **given_):
    return replace_tokens(features, **{"vocabulary_size": 9, **given_})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: add_noise(F, std=0.0), "std: expected a number above 0, got 0.0"),
        (lambda: add_noise(F, std=math.nan), "std: expected a number above 0, got nan"),
        (lambda: add_noise(IDS), r"features: expected a floating modality, got 'text': \(2, 2\) t"),
        (lambda: tokens(FRAMES), "features: expected a modality of token ids, .*got 'audio'"),
        (lambda: tokens(F, modalities=["face"]), "features: expected a modality of token ids, "),
        (lambda: tokens(probability=1.5), r"probability: expected a number in \[0, 1\], got 1.5"),
        (lambda: tokens(probability=-0.5), r"probability: expected a number in \[0, 1\], got -0.5"),
        (lambda: tokens(probability=torch.tensor(0.5)), "probability: .*got tensor"),
        (
            lambda: tokens(vocabulary_size=0),
            "vocabulary_size: expected an int of at least 1, got 0",
        ),
        (lambda: tokens(vocabulary_size=1), "vocabulary_size: expected two ids .*got 1"),
        (lambda: tokens(vocabulary_size=4, special=[0, 1, 2]), "vocabulary_size: .*two ids.*got 1"),
        (lambda: tokens(special=[9]), r"special: expected ids from 0 to 8, got \[9\]"),
        (lambda: tokens(special=[0, -1]), r"special: expected an int of at least 0, got -1"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()

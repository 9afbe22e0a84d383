"""CorMulT's negative strategies against loops: who is altered, by what, and what stays."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import mmcontrast as mm
from mmcontrast import Negatives, add_noise, mixed_negatives, replace_tokens, shift, swap
from tests import oracles
from tests.mmcontrast.strategies import close, leaf, mask, normal, rng, seeds

ALPHA = 1e-6
VOCABULARY = 1000


@st.composite
def batches(draw, most=5, ids=None):
    """(features, present, masks, lengths): text of any kind, frames, vectors; anything where void.

    No two samples share a value, so that it can be told whose a value is.
    """
    seed, n = draw(seeds), draw(st.integers(1, most))
    ids = draw(st.booleans()) if ids is None else ids
    steps = {name: draw(st.integers(1, 5)) for name in ("text", "audio", "vision")}
    features = {name: normal(seed + k, n, t, 2) for k, (name, t) in enumerate(steps.items())}
    if ids:
        order = torch.randperm(VOCABULARY - 2, generator=rng(seed))[: n * steps["text"]] + 2
        features["text"] = order.reshape(n, -1)
    features["speaker"] = normal(seed + 9, n, 3)
    present, masks, lengths = {}, {}, {}
    for name in features:
        if draw(st.booleans()):
            present[name] = mask(seed + len(name), n, share=0.7)
    for name, t in steps.items():
        length = torch.randint(0, t + 1, (n,), generator=rng(seed + t))
        kinds = ["none", "lengths", "masks", "both", "front", "front and lengths", "holes"]
        kind = draw(st.sampled_from(kinds))
        places = torch.arange(t).expand(n, t)
        if kind in ("lengths", "both"):
            lengths[name] = length
        if kind in ("masks", "both"):
            masks[name] = places < length[:, None]
        if kind.startswith("front"):
            masks[name] = places >= length[:, None]
        if kind == "front and lengths":
            lengths[name] = t - length
        if kind == "holes":
            masks[name] = mask(seed + t, n, t)
    void = draw(st.sampled_from([None, 50.0, torch.nan]))
    for name, x in features.items():
        if x.is_floating_point() and void is not None:
            frames = real(features, present, masks, lengths)[name]
            x[~(frames if x.ndim == 3 else frames[:, 0])] = void
    return features, present, masks, lengths


def options(batch):
    return dict(zip(("present", "masks", "lengths"), batch[1:], strict=True))


def real(features, present, masks, lengths):
    """Modality -> (B, T) bool; a vector is one frame."""
    found = {}
    for name, x in features.items():
        shape = x.shape[:1] if x.is_floating_point() and x.ndim == 2 else x.shape[:2]
        marks = oracles.real_frames(shape, present.get(name), masks.get(name), lengths.get(name))
        found[name] = torch.tensor(marks).reshape(len(x), -1)
    return found


def has(batch):
    return {name: marks.any(1).tolist() for name, marks in real(*batch).items()}


def full(n, seed=0, t=4):
    """Three modalities of frames, nothing missing."""
    return {name: normal(seed + k, n, t, 2) for k, name in enumerate(("text", "audio", "vision"))}


def bits(x):
    """Values to compare exactly, NaN with NaN."""
    return x.nan_to_num(nan=1e30).tolist() if x.is_floating_point() else x.tolist()


def sample(batch, name, i):
    """What belongs to one modality of one sample: features, mask, length."""
    features, masks, lengths = batch
    return [bits(m[name][i]) for m in (features, masks, lengths) if name in m]


def samples(negatives, name, i):
    return sample((negatives.features, negatives.masks, negatives.lengths), name, i)


def originals(batch, name, i):
    return sample((batch[0], batch[2], batch[3]), name, i)


def check_form(negatives, batch):
    """Keys, shapes and dtypes as they came; what is not altered is the same to the last bit."""
    features, _, masks, lengths = batch
    assert isinstance(negatives, Negatives)
    for found, given_ in zip(
        (negatives.features, negatives.masks, negatives.lengths),
        (features, masks, lengths),
        strict=True,
    ):
        assert list(found) == list(given_)
        for name, x in found.items():
            assert (x.shape, x.dtype) == (given_[name].shape, given_[name].dtype)
    assert list(negatives.altered) == list(features)
    for name, altered in negatives.altered.items():
        assert altered.dtype == torch.bool
        for i, flag in enumerate(altered.tolist()):
            assert flag or samples(negatives, name, i) == originals(batch, name, i)


# --- A: swap -------------------------------------------------------------------------------------


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


# --- B: shift ------------------------------------------------------------------------------------


@given(
    batch=batches(),
    seed=seeds,
    steps=st.integers(1, 6)
    | st.fixed_dictionaries({"audio": st.integers(1, 3)}, optional={"text": st.just(2)}),
    shift_all=st.booleans(),
    text=st.sampled_from(["text", "vision", "nothing"]),
)
def test_shift_agrees_with_the_oracle(batch, seed, steps, shift_all, text):
    features, _, masks, lengths = batch
    before = copy.deepcopy(batch)
    found = shift(
        features,
        steps=steps,
        shift_all=shift_all,
        text=text,
        padding_id=1,
        **options(batch),
        generator=rng(seed),
    )
    check_form(found, batch)
    marks = real(*batch)
    assert not found.altered["speaker"].any()
    for i in range(len(features["text"])):
        can = [name for name in ("text", "audio", "vision") if marks[name][i].sum() > 1]
        moved = [name for name, altered in found.altered.items() if altered[i]]
        if shift_all:
            assert moved == can
        else:
            others = [name for name in can if name != text]
            assert [name for name in moved if name == text] == [m for m in can if m == text]
            assert len([name for name in moved if name in others]) == bool(others)
        for name in moved:
            if isinstance(steps, dict):
                distance = steps.get(name, 1)
            else:
                distance = steps if shift_all or name != text else 1
            x = features[name]
            end = [0.0, 0.0] if x.is_floating_point() else 1
            expected, kept, ahead = oracles.shifted(
                bits(x[i]), marks[name][i].tolist(), distance, end
            )
            assert bits(found.features[name][i]) == expected
            if name in masks:
                assert found.masks[name][i].tolist() == kept
            if name in lengths:
                assert found.lengths[name][i] == lengths[name][i] - ahead
                assert found.lengths[name][i] >= 1 or name in masks
            assert any(kept)
    for now, then in zip(batch, before, strict=True):
        assert {m: bits(x) for m, x in now.items()} == {m: bits(x) for m, x in then.items()}


def test_c12_one_of_audio_and_vision_runs_ahead_and_the_text_by_one_token():
    features = full(400, t=6)
    found = shift(features, steps=3, generator=rng(22))
    assert found.altered["text"].all()
    assert torch.equal(found.features["text"][:, :5], features["text"][:, 1:])
    assert (found.features["text"][:, 5] == 0).all()
    assert torch.equal(found.altered["audio"], ~found.altered["vision"])
    for name in ("audio", "vision"):
        moved = found.altered[name]
        assert torch.equal(found.features[name][moved, :3], features[name][moved, 3:])
        assert (found.features[name][moved, 3:] == 0).all()


def test_shift_draws_uniformly_among_those_that_can_move():
    n = 20_000
    features = {name: torch.ones(n, 3, 1) for name in ("text", "a", "b", "c")}
    lengths = {"b": torch.full((n,), 3)}
    lengths["b"][: n // 2] = 1
    found = shift(features, lengths=lengths, generator=rng(23))
    counts = [
        int(found.altered[name][rows].sum())
        for rows in (slice(None, n // 2), slice(n // 2, None))
        for name in ("a", "b", "c")
    ]
    assert counts[1] == 0
    expected = [n / 4, n / 4, n / 6, n / 6, n / 6]
    assert oracles.p_value([counts[0], *counts[2:]], expected, 3) > ALPHA


def test_shift_all_draws_nothing_and_keeps_the_modalities_aligned():
    features, generator = full(3), rng(24)
    found = shift(features, steps=2, shift_all=True, generator=generator)
    assert torch.equal(generator.get_state(), rng(24).get_state())
    for name, x in features.items():
        assert torch.equal(found.features[name][:, :2], x[:, 2:])
        assert (found.features[name][:, 2:] == 0).all()


def test_shift_keeps_the_order_of_long_sequences():
    """A sort that is not stable shuffles equals from 17 entries on."""
    x, marks = torch.arange(200.0).reshape(2, 100, 1), mask(35, 2, 100)
    found = shift({"audio": x}, masks={"audio": marks})
    for i in range(2):
        expected, kept, _ = oracles.shifted(bits(x[i]), marks[i].tolist(), 1, [0.0])
        assert bits(found.features["audio"][i]) == expected
        assert found.masks["audio"][i].tolist() == kept


def test_shift_moves_the_named_modalities_only():
    found = shift(full(5), modalities=["vision"])
    assert found.altered["vision"].all()
    assert not found.altered["text"].any()
    assert not found.altered["audio"].any()
    found = shift(full(5), modalities=["text"])
    assert found.altered["text"].all()
    assert not found.altered["vision"].any()


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


def test_a_constant_feature_has_no_noise_and_counts_as_unaltered():
    features = {"audio": torch.full((3, 4, 2), 0.1), "speaker": normal(27, 1, 3).expand(3, 3)}
    found = add_noise(features)
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


# --- D: mixed ------------------------------------------------------------------------------------


@given(batch=batches(), seed=seeds)
def test_each_mixed_sample_is_one_strategys_with_all_that_belongs_to_it(batch, seed):
    """The strategies run before the choice, on the same generator, in the order A, B, C."""
    features, before = batch[0], copy.deepcopy(batch)
    floating = [name for name, x in features.items() if x.is_floating_point()]
    tokens = {"vocabulary_size": VOCABULARY, "probability": 0.5, "special": [3]}
    moves = {"steps": 2, "padding_id": 1}
    found = mixed_negatives(
        features, **moves, **tokens, std=0.5, **options(batch), generator=rng(seed)
    )
    check_form(found, batch)
    generator = rng(seed)
    parts = [
        swap(features, **options(batch), generator=generator),
        shift(features, **moves, **options(batch), generator=generator),
        add_noise(features, std=0.5, **options(batch), generator=generator),
    ]
    if "text" not in floating:
        words = replace_tokens(features, **tokens, **options(batch), generator=generator)
        parts[2].features["text"], parts[2].altered["text"] = (
            words.features["text"],
            words.altered["text"],
        )
    for i in range(len(features["text"])):
        able = [any(part.altered[m][i] for m in features) for part in parts]
        fits = [
            all(
                found.altered[m][i] == part.altered[m][i]
                and samples(found, m, i) == samples(part, m, i)
                for m in features
            )
            for part in parts
        ]
        assert any(a and f for a, f in zip(able, fits, strict=True)) or not any(able)
        assert any(fits)
        assert any(found.altered[m][i] for m in features) == any(able)
    for now, then in zip(batch, before, strict=True):
        assert {m: bits(v) for m, v in now.items()} == {m: bits(v) for m, v in then.items()}


@pytest.mark.parametrize("ids", [False, True])
def test_c14_the_strategies_are_drawn_uniformly(ids):
    """A swap alters one modality, a shift two, noise all three."""
    counts, generator = torch.zeros(4), rng(31)
    features = full(100)
    if ids:
        features["text"] = torch.randint(0, VOCABULARY, (100, 4), generator=generator)
    for _ in range(200):
        found = mixed_negatives(features, vocabulary_size=VOCABULARY, generator=generator)
        counts += torch.bincount(torch.stack(list(found.altered.values())).sum(0), minlength=4)
    assert counts[0] == 0
    assert oracles.p_value(counts[1:].tolist(), [20_000 / 3] * 3, 2) > ALPHA


def test_mixed_negatives_draw_among_the_strategies_that_can_alter():
    alone = mixed_negatives(full(1, t=3))
    assert sum(int(x) for x in alone.altered.values()) >= 2  # shifted or noisy, never swapped
    vectors = {name: x[:, 0] for name, x in full(50).items()}
    counts = torch.stack(list(mixed_negatives(vectors, generator=rng(32)).altered.values())).sum(0)
    assert set(counts.tolist()) == {1, 3}  # swapped or noisy, never shifted
    nobody = mixed_negatives(
        full(3), masks={m: torch.zeros(3, 4, dtype=torch.bool) for m in full(3)}
    )
    assert not any(x.any() for x in nobody.altered.values())


def outcomes(features, name, draws=40, **settings):
    """What `mixed_negatives` makes of one modality, over many draws."""
    return [
        mixed_negatives(features, generator=rng(k), **settings).features[name] for k in range(draws)
    ]


def test_mixed_negatives_hand_on_what_swap_is_told():
    two = {"audio": torch.arange(2.0)[:, None].expand(2, 3)}
    swapped = two["audio"].flip(0)
    assert any(torch.equal(x, swapped) for x in outcomes(two, "audio"))
    nobody = torch.zeros(2, 2, dtype=torch.bool)
    assert not any(torch.equal(x, swapped) for x in outcomes(two, "audio", allowed=nobody))


def test_mixed_negatives_hand_on_what_shift_is_told():
    """A lone sample is shifted or made noisy; the noise is too small to see."""
    x = normal(33, 1, 6, 2)

    def distances(**settings):
        found = outcomes({"audio": x}, "audio", std=1e-9, **settings)
        return {
            next(k for k in range(6) if torch.allclose(y[:, : 6 - k], x[:, k:], atol=1e-6))
            for y in found
        }

    assert distances() == {0, 1}
    assert distances(steps=3) == {0, 3}
    assert distances(steps=3, text="audio") == {0, 1}
    assert distances(steps=3, text="audio", shift_all=True) == {0, 3}
    ids = {"text": torch.tensor([[5, 6]])}
    shared = {"vocabulary_size": 7, "special": [5, 6], "padding_id": 3}
    assert {tuple(y[0].tolist()) for y in outcomes(ids, "text", **shared)} == {(6, 3)}


def test_mixed_negatives_hand_on_what_noise_is_told():
    """A single frame can only be made noisy, where its deviation of zero does not silence it."""
    one = {"audio": torch.ones(1, 1, 1), "text": torch.tensor([[5]])}
    tokens = {"vocabulary_size": 8, "special": [0, 1, 2]}
    relative = outcomes(one, "audio", **tokens)
    absolute = torch.stack(outcomes(one, "audio", **tokens, relative=False, std=5.0)) - 1
    assert all(torch.equal(y, one["audio"]) for y in relative)
    assert (absolute != 0).all()
    assert 3 < absolute.std() < 8
    assert {y.item() for y in outcomes(one, "text", **tokens)} == {3, 4, 6, 7}
    shared = {"vocabulary_size": 99, "special": [7], "masks": {"text": torch.ones(1, 9).bool()}}
    words = {"text": torch.tensor([[7, 5, 5, 5, 5, 5, 5, 5, 5]])}
    for probability, changed in ((0.0, 1), (1.0, 8)):
        found = outcomes(words, "text", probability=probability, **shared)
        assert {int((y != words["text"]).sum()) for y in found if y[0, 0] == 7} == {changed}
    limited = outcomes(full(3), "audio", modalities=["text"])
    assert all(torch.equal(y, full(3)["audio"]) for y in limited)


# --- all of them ---------------------------------------------------------------------------------

STRATEGIES = {
    "swap": swap,
    "shift": shift,
    "add_noise": add_noise,
    "replace_tokens": lambda *f, **o: replace_tokens(*f, vocabulary_size=VOCABULARY, **o),
    "mixed_negatives": lambda *f, **o: mixed_negatives(*f, vocabulary_size=VOCABULARY, **o),
}
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))


def with_ids(n):
    ids = torch.arange(2, 2 + 4 * n).reshape(n, 4)
    return {**full(n), "ids": ids}


@every_strategy
def test_law_65_one_generator_one_outcome(strategy):
    features, state = with_ids(20), torch.get_rng_state()
    first, second, other = (strategy(features, generator=rng(k)) for k in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for field in ("features", "altered"):
        for name in features:
            assert torch.equal(getattr(first, field)[name], getattr(second, field)[name])
    assert any(not torch.equal(first.features[m], other.features[m]) for m in features)


@every_strategy
def test_the_order_of_the_named_modalities_does_not_matter(strategy):
    """A set has no order of its own, and a name that comes twice is not drawn twice as often."""
    features = with_ids(30)
    features["other ids"] = features["ids"] + 200
    names = ["vision", "ids", "audio", "vision"]
    first, second = (
        strategy(features, modalities=chosen, generator=rng(3)) for chosen in (names, set(names))
    )
    for name in features:
        assert torch.equal(first.features[name], second.features[name])
    for name in ("text", "other ids"):
        assert not first.altered[name].any()
        assert torch.equal(first.features[name], features[name])


@every_strategy
@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("t", [0, 1, 2])
def test_law_63_few_samples_and_few_frames(strategy, n, t):
    features = {
        "text": torch.full((n, t), 3),
        "audio": torch.ones(n, t, 2),
        "vision": torch.ones(n, 2),
    }
    masks = {"audio": torch.ones(n, t, dtype=torch.bool)}
    found = strategy(features, masks=masks, lengths={"text": torch.full((n,), t)})
    check_form(found, (features, {}, masks, {"text": torch.full((n,), t)}))


@every_strategy
def test_law_25_absent_and_padded_values_reach_nothing(strategy):
    """NaN and infinity there: every real frame of the result is finite, and so is its gradient."""
    features = {name: leaf(x) for name, x in full(6).items()}
    there = torch.tensor([True, False, True, True, False, True])
    lengths = {"vision": torch.tensor([4, 3, 2, 1, 4, 0])}
    frames = {
        "audio": there[:, None].expand(6, 4),
        "vision": torch.arange(4) < lengths["vision"][:, None],
    }
    void = {m: torch.where(marks[..., None], features[m], torch.nan) for m, marks in frames.items()}
    features |= {"ids": torch.arange(24).reshape(6, 4)}
    found = strategy(features | void, present={"audio": there}, lengths=lengths, generator=rng(5))
    now = {"audio": frames["audio"], "vision": torch.arange(4) < found.lengths["vision"][:, None]}
    total = 0
    for name, marks in now.items():
        chosen = torch.where(marks[..., None], found.features[name], 0)
        assert chosen.isfinite().all()
        total = total + chosen.sum()
    (total + found.features["text"].sum()).backward()
    for name, marks in frames.items():
        assert features[name].grad.isfinite().all()
        assert (features[name].grad[~marks] == 0).all()
    assert torch.equal(found.altered["audio"] & ~there, torch.zeros(6).bool())


def test_gradients_go_to_where_the_values_came_from():
    features = {"audio": leaf(normal(34, 4, 5, 2)), "text": torch.zeros(4, 1)}
    swapped = swap(features, modalities=["audio"], generator=rng(6)).features["audio"]
    (gradient,) = torch.autograd.grad(swapped.sum(), features["audio"])
    sources = [next(j for j in range(4) if torch.equal(x, features["audio"][j])) for x in swapped]
    close(
        gradient, torch.bincount(torch.tensor(sources), minlength=4)[:, None, None].expand(4, 5, 2)
    )
    moved = shift(features, steps=2, text="nothing").features["audio"]
    (gradient,) = torch.autograd.grad(moved.sum(), features["audio"])
    close(gradient, (torch.arange(5) >= 2).double()[:, None].expand(4, 5, 2))
    noisy = add_noise(features, modalities=["audio"]).features["audio"]
    (gradient,) = torch.autograd.grad(noisy.sum(), features["audio"])
    close(gradient, torch.ones(4, 5, 2))


def everything(device):
    """Every strategy on one device, every argument that is a tensor among them."""
    n, t = 5, 4
    features = {
        "text": torch.arange(2, 2 + n * t, device=device).reshape(n, t),
        "audio": torch.randn(n, t, 3, device=device),
        "vision": torch.randn(n, t, 2, device=device),
        "speaker": torch.randn(n, 2, device=device),
    }
    shared = {
        "present": {"audio": torch.arange(n, device=device) != 1},
        "masks": {"vision": torch.rand(n, t, device=device) < 0.8},
        "lengths": {"audio": torch.arange(n, device=device)},
    }
    allowed = torch.rand(n, n, device=device) < 0.7
    tokens = {"vocabulary_size": 40, "special": (0, 1)}
    found = [
        swap(features, allowed=allowed, **shared),
        shift(features, steps={"audio": 2}, **shared),
        shift(features, shift_all=True, **shared),
        add_noise(features, **shared),
        replace_tokens(features, **tokens, **shared),
        mixed_negatives(features, allowed=allowed, **tokens, **shared),
    ]
    return [x for negatives in found for mapping in negatives for x in mapping.values()]


def test_other_devices_need_no_host():
    """Fake tensors hold no values: a branch on one, or a tensor made on the CPU, raises."""
    device = "cuda" if torch.backends.cuda.is_built() else "meta"
    with FakeTensorMode():
        with torch.no_grad():
            assert {x.device.type for x in everything(device)} == {device}
        features = {"text": torch.ones(3, 4, 2, device=device, requires_grad=True)}
        mixed_negatives(features).features["text"].sum().backward()
        assert features["text"].grad.device.type == device


def test_law_60_one_graph():
    compiled = torch.compile(everything, fullgraph=True, backend="eager")
    for state in (1, 2):
        torch.manual_seed(state)
        found = compiled("cpu")
        torch.manual_seed(state)
        for a, b in zip(found, everything("cpu"), strict=True):
            assert torch.equal(a, b)


# --- wrong calls ---------------------------------------------------------------------------------

F = {"text": torch.tensor([[4, 5], [6, 7]]), "audio": torch.rand(2, 3, 2), "face": torch.rand(2, 2)}
IDS, FRAMES, VECTORS = ({name: F[name]} for name in F)


def tokens(features=IDS, **given_):
    return replace_tokens(features, **{"vocabulary_size": 9, **given_})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: swap(torch.rand(2, 3)), "features: expected a mapping .*got Tensor"),
        (lambda: swap({}), "features: expected at least one modality, got none"),
        (lambda: swap({"a": [1.0]}), r"features\['a'\]: expected a tensor, got list"),
        (
            lambda: swap({"a": torch.rand(3)}),
            r"features\['a'\]: expected \(B, T, D\) or \(B, D\) floating.*got \(3,\) torch.float32",
        ),
        (
            lambda: shift({"a": torch.rand(1, 1, 1, 1)}),
            r"features\['a'\]: expected .*got \(1, 1, 1, 1\) torch.float32",
        ),
        (
            lambda: swap({"a": torch.ones(2, 3, 4).long()}),
            r"features\['a'\]: .*integer.*torch.int64",
        ),
        (
            lambda: swap({"a": torch.ones(2, 3).bool()}),
            r"features\['a'\]: .*got \(2, 3\) torch.bool",
        ),
        (
            lambda: swap({"a": torch.ones(2, 3, dtype=torch.complex64)}),
            r"features\['a'\]: .*got \(2, 3\) torch.complex64",
        ),
        (
            lambda: swap({"a": torch.rand(2, 3), "b": torch.rand(3, 3)}),
            r"features\['b'\]: expected 2 samples, got 3",
        ),
        (lambda: swap(F, modalities=["smell"]), "modalities: expected one of 'text', .*'smell'"),
        (lambda: swap(F, modalities="audio"), "modalities: expected one of 'text', .*got 'a'"),
        (lambda: swap(F, modalities=[]), r"modalities: expected some of \['text', .*got none"),
        (
            lambda: swap(F, present={"x": torch.ones(2).bool()}),
            "present: expected one of .*got 'x'",
        ),
        (
            lambda: swap(F, present={"face": torch.ones(3).bool()}),
            r"present\['face'\]: expected shape \(2,\), got \(3,\)",
        ),
        (lambda: swap(F, masks={"x": 1}), "masks: expected one of 'text', 'audio', got 'x'"),
        (lambda: swap(F, masks={"face": 1}), "masks: expected one of 'text', 'audio', got 'face'"),
        (
            lambda: swap(F, masks={"audio": torch.ones(2, 2).bool()}),
            r"masks\['audio'\]: expected shape \(2, 3\), got \(2, 2\)",
        ),
        (
            lambda: add_noise(F, masks={"audio": torch.ones(2, 3)}),
            r"masks\['audio'\]: expected a bool mask, got torch.float32",
        ),
        (
            lambda: swap(F, lengths={"face": 1}),
            "lengths: expected one of 'text', 'audio', .*'face'",
        ),
        (
            lambda: shift(F, lengths={"audio": torch.ones(3).long()}),
            r"lengths\['audio'\]: expected shape \(2,\), got \(3,\)",
        ),
        (
            lambda: swap(F, lengths={"audio": torch.ones(2)}),
            r"lengths\['audio'\]: expected an integer dtype, got torch.float32",
        ),
        (
            lambda: swap(F, lengths={"audio": torch.ones(2).bool()}),
            r"lengths\['audio'\]: expected an integer dtype, got torch.bool",
        ),
        (
            lambda: swap(F, allowed=torch.ones(2, 3).bool()),
            r"allowed: expected shape \(2, 2\), got \(2, 3\)",
        ),
        (
            lambda: swap(F, allowed=torch.ones(2, 2)),
            "allowed: expected a bool mask, got torch.float32",
        ),
        (lambda: shift(VECTORS), r"features: expected a sequence to shift, .*got 'face': \(2, 2\)"),
        (lambda: shift(F, modalities=["face"]), "features: expected a sequence to shift, "),
        (lambda: shift(F, steps=0), "steps: expected an int of at least 1, got 0"),
        (lambda: shift(F, steps=1.5), "steps: expected an int of at least 1, got 1.5"),
        (
            lambda: shift(F, steps={"audio": -1}),
            r"steps\['audio'\]: expected an int of at least 1, got -1",
        ),
        (lambda: shift(F, steps={"face": 1}), "steps: expected one of 'text', 'audio', got 'face'"),
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
        (lambda: tokens(special=[0, -1]), r"special: expected ids from 0 to 8, got \[-1, 0\]"),
        (
            lambda: mixed_negatives(F),
            r"vocabulary_size: expected an int, for the token ids of \['text'\], got None",
        ),
        (lambda: mixed_negatives(F, vocabulary_size=9, steps=0), "steps: expected .*got 0"),
        (lambda: mixed_negatives(F, vocabulary_size=9, std=-1.0), "std: expected .*got -1.0"),
        (lambda: mixed_negatives(F, vocabulary_size=9, modalities=["x"]), "modalities: .*got 'x'"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call()

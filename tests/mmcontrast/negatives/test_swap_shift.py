"""CorMulT's strategies A, B and D against loops: swapped, shifted and mixed negatives."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmcontrast as mm
from mmcontrast import add_noise, mixed_negatives, replace_tokens, shift, swap
from tests import oracles
from tests.mmcontrast.negatives.batches import (
    ALPHA,
    VOCABULARY,
    batches,
    bits,
    check_form,
    full,
    has,
    options,
    originals,
    real,
    samples,
)
from tests.mmcontrast.strategies import mask, normal, rng, seeds

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


# --- wrong calls ---------------------------------------------------------------------------------

F = {"text": torch.tensor([[4, 5], [6, 7]]), "audio": torch.rand(2, 3, 2), "face": torch.rand(2, 2)}
IDS, FRAMES, VECTORS = ({name: F[name]} for name in F)


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
        (lambda: shift(VECTORS), r"features: expected a sequence to shift, .*got 'face': \(2, 2\)"),
        (lambda: shift(F, modalities=["face"]), "features: expected a sequence to shift, "),
        (lambda: shift(F, steps=0), "steps: expected an int of at least 1, got 0"),
        (lambda: shift(F, steps=1.5), "steps: expected an int of at least 1, got 1.5"),
        (
            lambda: shift(F, steps={"audio": -1}),
            r"steps\['audio'\]: expected an int of at least 1, got -1",
        ),
        (lambda: shift(F, steps={"face": 1}), "steps: expected one of 'text', 'audio', got 'face'"),
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

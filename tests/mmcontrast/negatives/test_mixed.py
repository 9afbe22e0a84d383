"""CorMulT's strategy D: each sample is one of the other strategies', drawn uniformly."""

import copy

import pytest
import torch
from hypothesis import given

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
    samples,
)
from tests.mmcontrast.strategies import normal, rng, seeds


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
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

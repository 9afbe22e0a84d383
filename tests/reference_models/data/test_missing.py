"""What is missing: nested masks, independent between modalities; what a sample keeps."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference_models.data.batch import Batch, ModalDataset, collate
from reference_models.data.missing import (
    BERT_BLANKS,
    MODES,
    RATED_MODES,
    STEPS,
    BlankTokens,
    MissingDataset,
    blank_tokens,
    check_mode,
    draw,
    draw_one,
    highest_rate,
    lacking,
    missing_steps,
    only,
    rates,
    subsets,
)
from reference_models.data.text import train_word_tokenizer
from tests.reference_models.data.test_batch import split, two

THREE = ("text", "audio", "vision")
LENGTHS = {"text": 9, "audio": 8, "vision": 6}
FEATURES = {"text": 5, "audio": 4, "vision": 3}


def big(count=400):
    """Samples of full length, in which everything is there."""
    return split({m: [n] * count for m, n in LENGTHS.items()}, FEATURES)


def rows_of(draws, row):
    return {name: values[row] for name, values in draws.items()}


def masks_of(mode, rate, draws, count, lengths=LENGTHS):
    """modality -> (N, length) bool, True where something is missing."""
    found = [missing_steps(mode, rate, rows_of(draws, row), lengths) for row in range(count)]
    return {m: np.stack([each[m] for each in found]) for m in lengths}


@pytest.mark.parametrize("mode", RATED_MODES)
def test_draws_depend_on_data_split_mode_and_seed_alone(mode):
    part = two()
    draws = draw(mode, part, data="a", seed=1)
    changed = replace(
        part, features={m: x + 1 for m, x in part.features.items()}, ids=list("edcba")
    )
    for name, values in draw(mode, changed, data="a", seed=1).items():
        assert np.array_equal(values, draws[name])
    others = [
        draw(mode, part, data="b", seed=1),
        draw(mode, part, data="a", seed=2),
        draw(mode, replace(part, name="test"), data="a", seed=1),
    ]
    for other in others:
        assert other.keys() == draws.keys()
        assert all(not np.array_equal(other[name], draws[name]) for name in draws)


@pytest.mark.parametrize("mode", ["frames", "blocks"])
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_masks_of_modalities_are_independent(mode, rate):
    """Two steps are missing together as often as their shares say, within 5 deviations."""
    count = 3000
    masks = masks_of(mode, rate, draw(mode, big(count), data="a", seed=1), count)
    for one, other in (("text", "audio"), ("audio", "vision"), ("text", "vision")):
        x, y = masks[one][:, 2], masks[other][:, 2]
        expected = x.mean() * y.mean()
        allowed = 5 * np.sqrt(expected * (1 - expected) / count)
        assert abs((x & y).mean() - expected) < allowed
        assert 0 < expected < 1


def test_frames_of_one_modality_are_independent_of_each_other():
    count, rate = 3000, 0.4
    mask = masks_of("frames", rate, draw("frames", big(count), data="a", seed=1), count)["audio"]
    together = np.corrcoef(mask.T)
    assert np.abs(together - np.eye(len(together))).max() < 5 / np.sqrt(count)


@pytest.mark.parametrize("mode", RATED_MODES)
def test_the_share_missing_is_the_rate(mode):
    count, top = 2000, highest_rate(mode, THREE)
    draws = draw(mode, big(count), data="a", seed=3)
    for rate in (0, 0.3, 0.6, top):
        masks = masks_of(mode, rate, draws, count)
        share = np.mean([mask.mean() for mask in masks.values()])
        # A block is a whole number of steps: half a step of the shortest sequence.
        rounding = 0.5 / min(LENGTHS.values()) if mode == "blocks" else 0
        assert share == pytest.approx(rate, abs=0.03 + rounding)
        if rate == 0:
            assert share == 0
        if rate == 1:
            assert share == 1


@pytest.mark.parametrize("mode", RATED_MODES)
@given(data=st.data())
def test_what_is_missing_at_one_rate_is_missing_at_every_higher_one(mode, data):
    lengths = {m: data.draw(st.integers(0, 40), label=m) for m in THREE}
    low, high = sorted(data.draw(st.tuples(*[st.floats(0, 1)] * 2)))
    draws = draw_one(mode, lengths, np.random.default_rng(data.draw(st.integers(0, 99))))
    less, more = (missing_steps(mode, rate, draws, lengths) for rate in (low, high))
    for m, length in lengths.items():
        assert less[m].shape == more[m].shape == (length,)
        assert not (less[m] & ~more[m]).any()


@given(st.integers(2, 40), st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_a_block_is_one_piece_of_the_nearest_number_of_steps(length, rate, number):
    draws = {"audio": np.float32(min(number, 1 - 2**-24))}
    mask = missing_steps("blocks", rate, draws, {"audio": length})["audio"]
    assert abs(mask.sum() - rate * length) <= 0.5
    (places,) = np.nonzero(mask)
    assert not len(places) or places[-1] - places[0] == len(places) - 1


def test_blocks_lie_anywhere_and_reach_both_ends_alike():
    count = 3000
    mask = masks_of("blocks", 0.3, draw("blocks", big(count), data="a", seed=1), count)["audio"]
    shares = mask.mean(0)
    assert shares[0] > 0.1  # of seven places for two of eight steps
    assert np.abs(shares - shares[::-1]).max() < 5 * np.sqrt(0.5 / count)


def test_one_mask_in_time_is_shared():
    draws = draw("shared-frames", big(20), data="a", seed=1)
    assert {name: values.shape for name, values in draws.items()} == {"time": (20, STEPS)}
    lengths = {"text": 8, "audio": 8, "vision": 24}
    for row in range(20):
        mask = missing_steps("shared-frames", 0.5, rows_of(draws, row), lengths)
        assert np.array_equal(mask["text"], mask["audio"])
        # The middle of three frames lies where the one frame of a third of the length does.
        assert np.array_equal(mask["vision"][1::3], mask["text"])
    assert 0 < mask["text"].sum() < 8


@pytest.mark.parametrize("mode", ["frames", "shared-frames", "blocks"])
def test_a_vector_for_the_utterance_is_missing_with_the_rate_s_probability(mode):
    count = 2000
    one = split({"audio": [1] * count, "vision": [1] * count}, {"audio": 4, "vision": 3})
    draws = draw(mode, one, data="a", seed=1)
    for rate in (0.0, 0.2, 0.7, 1.0):
        gone = masks_of(mode, rate, draws, count, {"audio": 1, "vision": 1})
        for mask in gone.values():
            assert mask.mean() == pytest.approx(
                rate, abs=5 * np.sqrt(0.25 / count) * (0 < rate < 1)
            )
    half = masks_of(mode, 0.5, draws, count, {"audio": 1, "vision": 1})
    assert np.array_equal(half["audio"], half["vision"]) == (mode == "shared-frames")


def test_random_modalities_never_go_all():
    count = 500
    part = big(count)
    part.present["text"][::2] = False
    draws = draw("random-modalities", part, data="a", seed=1)
    for rate in rates("random-modalities", THREE):
        masks = masks_of("random-modalities", rate, draws, count)
        left = np.stack([part.present[m] & ~masks[m][:, 0] for m in THREE])
        assert left.any(0).all()
    assert (left.sum(0) == 1).all()  # at the highest rate nothing else is left
    assert all(50 < kept < 350 for kept in left.sum(1))


def test_rates_go_up_by_a_tenth_to_the_highest():
    tenths = [tenth / 10 for tenth in range(11)]
    assert all(rates(mode, THREE) == tenths for mode in ("frames", "shared-frames", "blocks"))
    assert rates("random-modalities", THREE) == [*tenths[:7], pytest.approx(2 / 3)]
    assert rates("random-modalities", THREE[:2]) == tenths[:6]


def test_subsets_are_all_but_the_empty_one():
    assert subsets("abc") == [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), (*"abc",)]
    assert len(subsets(THREE[:2])) == 3


# --- samples -------------------------------------------------------------------------------------

BLANKS = BlankTokens(1, frozenset((0, 2, 3)))
WORDS = [2, 7, 8, 1, 9, 3]


def sample():
    return {
        "features": {"text": torch.tensor(WORDS), "audio": torch.ones(5, 4)},
        "label": torch.tensor(0.5),
        "index": 3,
    }


@pytest.mark.parametrize("mode", ["frames", "shared-frames", "blocks"])
def test_missing_tokens_are_unknown_and_missing_frames_zero(mode):
    given_, draws = sample(), draw_one(mode, {"text": 4, "audio": 5}, np.random.default_rng(1))
    left = lacking(given_, mode, 1.0, draws, BLANKS)
    assert left["features"]["text"].tolist() == [2, 1, 1, 1, 1, 3]
    assert left["features"]["audio"].tolist() == torch.zeros(5, 4).tolist()
    assert (left["label"], left["index"]) == (given_["label"], 3)
    assert given_["features"]["text"].tolist() == WORDS
    assert given_["features"]["audio"].all()
    half = lacking(given_, mode, 0.5, draws, BLANKS)["features"]
    gone = missing_steps(mode, 0.5, draws, {"text": 4, "audio": 5})
    assert half["audio"].any(1).tolist() == [not step for step in gone["audio"]]
    inner = [1 if step else word for word, step in zip(WORDS[1:5], gone["text"], strict=True)]
    assert half["text"].tolist() == [2, *inner, 3]


@pytest.mark.parametrize("mode", RATED_MODES)
def test_nothing_changes_at_the_rate_0(mode):
    draws = draw_one(mode, {"text": 4, "audio": 5}, np.random.default_rng(1))
    left = lacking(sample(), mode, 0.0, draws, BLANKS)
    for m, x in sample()["features"].items():
        assert torch.equal(left["features"][m], x)


def test_a_missing_modality_is_absent_in_the_batch():
    source = two()
    full = ModalDataset(source, ("audio", "vision"))
    draws = {"audio": np.float32(2), "vision": np.float32(0.1)}
    without = partial(lacking, mode="random-modalities", rate=0.5, draws=draws, blanks=BERT_BLANKS)
    part = MissingDataset(full, without)
    assert len(part) == 5
    batch = Batch(**collate([part[row] for row in range(5)]))
    assert batch.present["vision"].tolist() == [False] * 5
    assert batch.present["audio"].tolist() == source.present["audio"].tolist()
    assert batch.index.tolist() == list(range(5))
    lone = MissingDataset(full, partial(only, modalities=("vision",)))
    batch = Batch(**collate([lone[row] for row in range(5)]))
    assert batch.present["audio"].tolist() == [False] * 5
    assert batch.present["vision"].tolist() == source.present["vision"].tolist()


def test_a_sentence_of_special_tokens_alone_can_be_missing_as_a_whole():
    empty = {**sample(), "features": {"text": torch.tensor([2, 3]), "audio": torch.ones(5, 4)}}
    draws = {"text": np.float32(0.1), "audio": np.float32(2)}
    left = lacking(empty, "random-modalities", 0.5, draws, BLANKS)
    assert [len(x) for x in left["features"].values()] == [0, 5]
    draws = draw_one("frames", {"text": 0, "audio": 5}, np.random.default_rng(1))
    assert lacking(empty, "frames", 1.0, draws, BLANKS)["features"]["text"].tolist() == [2, 3]


def test_a_tokenizer_s_unknown_token_stands_for_a_missing_one():
    tokenizer = train_word_tokenizer(["a good film"] * 2)
    assert blank_tokens(tokenizer) == BlankTokens(1, frozenset((0, 2, 3)))
    assert blank_tokens(None) == BERT_BLANKS
    assert BlankTokens(100, frozenset((0, 101, 102))) == BERT_BLANKS


def test_a_mask_token_stands_in_for_an_unknown_one_that_ends_sentences():
    tokenizer = train_word_tokenizer(["a good film"] * 2)
    tokenizer.unk_token = "[SEP]"
    with pytest.raises(ValueError, match=r"^--text-encoder: expected a tokenizer with an unknown"):
        blank_tokens(tokenizer)
    tokenizer.mask_token = "good"
    found = blank_tokens(tokenizer)
    assert found.unknown == tokenizer.convert_tokens_to_ids("good")
    assert found.special == {0, 2, 3}


def test_an_unknown_mode_is_refused():
    message = r"^--missing: expected one of fixed-modalities, random-.*, blocks, got 'words'$"
    with pytest.raises(ValueError, match=message):
        check_mode("words", THREE)
    for mode in MODES:
        check_mode(mode, THREE[:2])


@pytest.mark.parametrize("mode", ["random-modalities", "fixed-modalities"])
def test_of_a_single_modality_none_can_be_missing(mode):
    message = rf"^--missing: expected a file with two modalities or more for {mode}, .* got text$"
    with pytest.raises(ValueError, match=message):
        check_mode(mode, ["text"])
    check_mode("frames", ["text"])

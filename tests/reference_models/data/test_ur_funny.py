"""UR-FUNNY's folder: its samples, and each fault by name."""

import math

import numpy as np
import pytest

from reference_models.data import load_corpus
from reference_models.data.pickles import DataError
from tests.reference_models.data.test_mag_bert import NAMES, real
from tests.reference_models.files import (
    same_corpus,
    ur_funny_content,
    write_folder,
)


def funny(tmp_path, files, **options):
    return load_corpus(write_folder(tmp_path / "x", files), **options)


def parts_of(files, key, context):
    """By hand: the sentence, and each modality's frames, of a sample."""
    language = files["language_sdk"][key]
    indexes = [*language["context_embedding_indexes"], language["punchline_embedding_indexes"]]
    spoken = [*language["context_sentences"], language["punchline_sentence"]]
    frames = {"text": [[files["word_embedding_list"][i] for i in part] for part in indexes]}
    for modality, file in (("audio", "covarep"), ("vision", "openface")):
        entry = files[f"{file}_features_sdk"][key]
        frames[modality] = [*entry["context_features"], entry["punchline_features"].tolist()]
    start = 0 if context else -1
    joined = {m: [frame for part in x[start:] for frame in part] for m, x in frames.items()}
    return " ".join(spoken[start:]), joined


@pytest.mark.parametrize("context", [False, True])
def test_ur_funny(tmp_path, context):
    files = ur_funny_content()
    corpus = funny(tmp_path, files, context=context)
    assert corpus.modalities == ("text", "audio", "vision")
    assert corpus.dropped == {"train": 0, "valid": 0, "test": 0}
    assert corpus.notes == ()
    for fold, keys in files["data_folds"].items():
        split = corpus.splits[NAMES[fold]]
        assert split.ids == [str(key) for key in keys]
        assert split.labels.dtype == np.int64
        assert split.labels.tolist() == [files["humor_label_sdk"][key] for key in keys]
        for row, key in enumerate(keys):
            sentence, frames = parts_of(files, key, context)
            assert split.raw_text[row] == sentence
            for modality, expected in frames.items():
                assert real(split, modality, row).tolist() == np.float32(expected).tolist()


def test_long_sequences_of_ur_funny_keep_the_punchline(tmp_path):
    files = ur_funny_content()
    split = funny(tmp_path, files, context=True, max_steps=3).splits["train"]
    for row, key in enumerate(files["data_folds"]["train"]):
        sentence, frames = parts_of(files, key, True)
        assert split.raw_text[row] == sentence
        for modality, expected in frames.items():
            assert real(split, modality, row).tolist() == np.float32(expected[-3:]).tolist()


def test_ur_funny_by_its_own_scale(tmp_path):
    files = ur_funny_content()
    for entry in files["covarep_features_sdk"].values():
        entry["punchline_features"][:, 1] = 0.1  # a constant, and no binary fraction
        entry["punchline_features"][:, 2] += 1000
    corpus = funny(tmp_path, files, normalize=True)
    plain = funny(tmp_path, files)
    split = corpus.splits["train"]
    for row, key in enumerate(files["data_folds"]["train"]):
        _, frames = parts_of(files, key, False)
        for modality in ("audio", "vision"):
            expected = []
            for column in zip(*np.float32(frames[modality]).tolist(), strict=True):
                mean = math.fsum(column) / len(column)
                std = math.sqrt(math.fsum((x - mean) ** 2 for x in column) / len(column))
                varies = max(column) > min(column)
                expected.append([(x - mean) / std if varies else 0.0 for x in column])
            found = real(split, modality, row)
            assert found.T.tolist() == [pytest.approx(column, abs=1e-6) for column in expected]
            # A single frame becomes zero, and is still a frame.
            assert split.masks[modality][row].sum() == len(frames[modality])
            assert split.present[modality][row]
    assert np.array_equal(split.features["text"], plain.splits["train"].features["text"])


def test_samples_whose_counts_differ_are_left_out(tmp_path):
    files = ur_funny_content()
    language = files["language_sdk"]
    files["covarep_features_sdk"][4]["punchline_features"] = np.ones((30, 3))
    files["openface_features_sdk"][9]["punchline_features"] = np.ones((30, 4))
    language[6]["punchline_embedding_indexes"] = [1] * 30
    language[35]["context_embedding_indexes"].append([1])
    corpus = funny(tmp_path, files)
    assert corpus.dropped == {"train": 2, "valid": 1, "test": 0}
    assert corpus.splits["train"].ids == ["3", "1", "15", "2"]
    assert corpus.splits["valid"].ids == ["5"]
    assert [note[:31] for note in corpus.notes] == [
        "2 samples of train are left out",
        "1 samples of valid are left out",
    ]
    # Sample 35 has a sentence of its context too much.
    assert funny(tmp_path, files, context=True).dropped == {"train": 2, "valid": 1, "test": 1}


@pytest.mark.parametrize("context", [False, True])
def test_padding_in_the_files_is_no_word(tmp_path, context):
    files = ur_funny_content()
    expected = funny(tmp_path, files, context=context)
    for key, entry in files["language_sdk"].items():
        for part in (*entry["context_embedding_indexes"], entry["punchline_embedding_indexes"]):
            part[:0] = [0, 0]
        for kind, features in (("covarep", 3), ("openface", 4)):
            other = files[f"{kind}_features_sdk"][key]
            empty = np.zeros((2, features))
            other["punchline_features"] = np.concatenate([empty, other["punchline_features"]])
            for part in other["context_features"]:
                part[:0] = empty.tolist()
    same_corpus(funny(tmp_path, files, context=context), expected)
    # A word that is not 0, or a sound, is real.
    files["language_sdk"][3]["punchline_embedding_indexes"][0] = 7
    files["covarep_features_sdk"][1]["punchline_features"][0, 0] = 1
    more = funny(tmp_path, files, context=context).splits["train"].masks["text"].sum(axis=1)
    fewer = expected.splits["train"].masks["text"].sum(axis=1)
    assert (more - fewer).tolist() == [1, 1, 0, 0, 0, 0]


def test_counts_have_to_agree_sentence_by_sentence(tmp_path):
    files = ur_funny_content()
    entry = files["openface_features_sdk"][4]
    frame = entry["punchline_features"][:1]
    entry["punchline_features"] = np.concatenate([entry["punchline_features"], frame])
    entry["context_features"][0] = entry["context_features"][0][1:]
    assert funny(tmp_path, files, context=True).dropped["train"] == 1


def test_the_punchline_may_stand_elsewhere_and_in_words(tmp_path):
    files = ur_funny_content()
    expected = funny(tmp_path, files)
    for key, entry in files["language_sdk"].items():
        sentence = entry.pop("punchline_sentence")
        entry["punchline_features"] = sentence if key % 2 else sentence.split(" ")
    files["language_sdk"][3]["punchline_features"] = np.array(
        files["language_sdk"][3]["punchline_features"].split(" ")
    )
    same_corpus(funny(tmp_path, files), expected)


def test_samples_of_ur_funny_without_a_modality(tmp_path):
    files = ur_funny_content()
    files["covarep_features_sdk"][1]["punchline_features"] *= 0
    files["language_sdk"][4]["punchline_sentence"] = ""
    files["language_sdk"][15]["punchline_embedding_indexes"] = []
    for kind in ("covarep", "openface"):
        files[f"{kind}_features_sdk"][15]["punchline_features"] = []
    split = funny(tmp_path, files).splits["train"]
    assert np.flatnonzero(~split.present["audio"]).tolist() == [1, 3]
    assert np.flatnonzero(~split.present["vision"]).tolist() == [3]
    assert np.flatnonzero(~split.present["text"]).tolist() == [2]
    assert split.masks["text"][3].sum() == 0


def entry_of(file, key, **changes):
    return lambda files: files[file][key].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.update(data_folds=[1]), "data_folds: expected a dict, got list"),
        (lambda f: f["data_folds"].pop("dev"), r"data_folds: expected the splits .*; add valid"),
        (
            lambda f: f["language_sdk"].pop(15),
            "'train', sample 15: .*as in UR-FUNNY V2, got KeyErr",
        ),
        (lambda f: f["openface_features_sdk"].pop(15), "sample 15: .*got KeyError: 15"),
        (lambda f: f["humor_label_sdk"].pop(15), "sample 15: .*got KeyError: 15"),
        (lambda f: f["language_sdk"].update({15: 3}), "sample 15: .*got TypeError"),
        (
            lambda f: f["language_sdk"][15].pop("punchline_sentence"),
            "sample 15: expected punchline_sentence, .*got NoneType",
        ),
        (
            entry_of("language_sdk", 15, punchline_sentence=[3, 4]),
            "sample 15: expected punchline_sentence, .*got list",
        ),
        (lambda f: f["humor_label_sdk"].update({15: 2}), "humor_label_sdk: expected 0 or 1, got 2"),
        (lambda f: f["humor_label_sdk"].update({15: "1"}), "expected 0 or 1, got '1'"),
        (lambda f: f["humor_label_sdk"].update({15: b"1"}), "expected 0 or 1, got b'1'"),
        (lambda f: f["humor_label_sdk"].update({15: [0, 1]}), r"expected 0 or 1, got \[0, 1\]"),
        (lambda f: f.update(word_embedding_list=[1.0, 2.0]), r"a vector for each word, got \(2,\)"),
        (lambda f: f.update(word_embedding_list=["a"]), "word_embedding_list: expected numbers"),
        (lambda f: f["word_embedding_list"].__delitem__(slice(3, None)), "numbers of 3 words"),
    ],
)
def test_a_fault_of_ur_funny_is_named(tmp_path, change, words):
    files = ur_funny_content()
    change(files)
    with pytest.raises(DataError, match=rf"/x.*{words}"):
        funny(tmp_path, files)


@pytest.mark.parametrize("index", [-1, 20, 1.5, math.nan, [1]])
def test_numbers_of_words_that_there_are_not(tmp_path, index):
    files = ur_funny_content()
    part = files["language_sdk"][15]["punchline_embedding_indexes"]
    part[:] = [index] * len(part)
    with pytest.raises(DataError, match="sample 15: expected numbers of 20 words, got others"):
        funny(tmp_path, files)


def test_frames_of_another_width(tmp_path):
    files = ur_funny_content()
    entry = files["covarep_features_sdk"][15]
    entry["punchline_features"] = entry["punchline_features"][:, :2]
    with pytest.raises(
        DataError, match=r"'train', audio: .*for every sample, got \[\(2,\), \(3,\)\]"
    ):
        funny(tmp_path, files)
    with pytest.raises(DataError, match=r"sample 15, audio: expected one frame \(D,\) a word"):
        funny(tmp_path, files, context=True)
    entry["punchline_features"] = entry["punchline_features"][:, 0]
    with pytest.raises(DataError, match=r"sample 15, audio: expected one frame .*got the shapes"):
        funny(tmp_path, files)


def test_nothing_left(tmp_path):
    files = ur_funny_content()
    for key in (6, 5):
        files["covarep_features_sdk"][key]["punchline_features"] = np.ones((30, 3))
    with pytest.raises(DataError, match="'valid': expected samples, got 2 whose counts differ"):
        funny(tmp_path, files)

"""The synthetic corpus has the structure that it documents."""

import os
import pickle

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reference_models.data.mmsa import load_mmsa
from reference_models.data.synthetic import ADJECTIVES, TOPICS, generate, synthesize


@pytest.fixture(scope="module")
def corpus():
    """Large, so that what is measured on it hardly varies with the seed."""
    return generate(sizes=(1500, 1, 1000), seed=7)


def means(columns, modality):
    """(N, D) mean over the real frames; zeros for who has none."""
    x = columns[modality]
    count = x.any(axis=2).sum(axis=1)
    return x.sum(axis=1) / np.maximum(count, 1)[:, None]


def words(train, test):
    vectorizer = CountVectorizer(token_pattern=r"\w+")
    return (
        vectorizer.fit_transform(train["raw_text"]).toarray(),
        vectorizer.transform(test["raw_text"]).toarray(),
    )


def correlation(x, y, x_test, y_test):
    probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 16)))
    return np.corrcoef(probe.fit(x, y).predict(x_test), y_test)[0, 1]


def test_every_modality_carries_the_score_and_together_they_carry_more(corpus):
    train, test = corpus["train"], corpus["test"]
    inputs = {m: (means(train, m), means(test, m)) for m in ("audio", "vision")}
    inputs["text"] = words(train, test)
    inputs["all"] = tuple(np.hstack(parts) for parts in zip(*inputs.values(), strict=True))
    reached = {
        name: correlation(x, train["regression_labels"], x_test, test["regression_labels"])
        for name, (x, x_test) in inputs.items()
    }
    assert 0.7 < reached["text"] < 0.9
    assert 0.35 < reached["vision"] < reached["text"] - 0.1
    assert 0.35 < reached["audio"] < reached["text"] - 0.1
    assert reached["all"] > reached["text"] + 0.01


def test_a_small_corpus_suffices_for_a_bag_of_words():
    small = generate()
    train, test = small["train"], small["test"]
    x, x_test = words(train, test)
    assert correlation(x, train["regression_labels"], x_test, test["regression_labels"]) > 0.6


def test_shuffled_sentences_carry_nothing(corpus):
    train, test = corpus["train"], corpus["test"]
    x, x_test = words(train, test)
    shuffled = np.random.default_rng(0).permutation(train["regression_labels"])
    assert abs(correlation(x, shuffled, x_test, test["regression_labels"])) < 0.2


def topic_of(sentence):
    """The topic whose nouns the sentence names; None for an empty one."""
    found = [
        number
        for number, nouns in enumerate(TOPICS.values())
        if any(f"the {noun} " in sentence for noun in nouns)
    ]
    return found[0] if found else None


def test_the_topic_is_shared_and_says_nothing_about_the_score(corpus):
    train, test = corpus["train"], corpus["test"]
    topics = {name: np.array([topic_of(s) for s in corpus[name]["raw_text"]]) for name in corpus}
    labels = train["regression_labels"]
    for number in range(len(TOPICS)):
        mine = labels[topics["train"] == number]
        assert abs(mine.mean() - labels.mean()) < 5 * labels.std() / len(mine) ** 0.5
    for modality in ("audio", "vision"):
        seen = {
            name: np.not_equal(topics[name], None) & columns[modality].any(axis=(1, 2))
            for name, columns in (("train", train), ("test", test))
        }
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        probe.fit(means(train, modality)[seen["train"]], topics["train"][seen["train"]].astype(int))
        right = probe.score(
            means(test, modality)[seen["test"]], topics["test"][seen["test"]].astype(int)
        )
        assert right > 2 / len(TOPICS)


def test_sentences_are_about_one_topic_and_carry_opinions(corpus):
    for sentence in corpus["train"]["raw_text"]:
        if sentence:
            named = [
                name
                for name, nouns in TOPICS.items()
                if any(f" the {noun} " in f" {sentence} " for noun in nouns)
            ]
            assert len(named) == 1
            assert set(sentence.split()) & set(ADJECTIVES)
            assert "  " not in sentence


def test_labels_are_thirds_in_range(corpus):
    labels = corpus["train"]["regression_labels"].astype(np.float64)
    assert np.abs(labels * 3 - np.round(labels * 3)).max() < 1e-5
    assert labels.min() == -3
    assert labels.max() == 3
    assert len(np.unique(labels)) == 19
    names = dict(zip(np.sign(labels), corpus["train"]["annotations"], strict=True))
    assert names == {-1: "Negative", 0: "Neutral", 1: "Positive"}


def test_lengths_vary_and_follow_the_sentence(corpus):
    train = corpus["train"]
    counts = np.array([len(sentence.split()) for sentence in train["raw_text"]])
    for modality, fewest, most in (("audio", 6, 20), ("vision", 8, 24)):
        present = train[modality].any(axis=(1, 2)) & (counts > 0)
        lengths = np.array(train[f"{modality}_lengths"])
        real = train[modality].any(axis=2)
        assert np.array_equal(real.sum(axis=1)[present], lengths[present])
        assert np.array_equal(real[present], (np.arange(most) < lengths[:, None])[present])
        assert fewest <= lengths[present].min() < lengths[present].max() <= most
        assert np.corrcoef(lengths[present], counts[present])[0, 1] > 0.3
    assert len(set(counts)) > 8


def test_features_have_scales_of_their_own(corpus):
    for modality in ("audio", "vision"):
        x = corpus["train"][modality]
        deviations = x[x.any(axis=2)].std(axis=0)
        assert deviations.max() / deviations.min() > 10


def test_some_samples_lack_one_modality():
    train = generate(sizes=(4000, 1, 1), absent=0.2)["train"]
    gone = {m: ~train[m].any(axis=(1, 2)) for m in ("audio", "vision")}
    gone["text"] = np.array([sentence == "" for sentence in train["raw_text"]])
    for modality, share in (("audio", 0.2), ("vision", 0.2), ("text", 0.05)):
        assert abs(gone[modality].mean() - share) < 0.03
    assert sum(gone.values()).max() == 1
    lengths = np.array(train["audio_lengths"])
    assert (lengths[gone["audio"]] == 1).all()


def near_twins(columns, modality):
    """How many samples have another at a tenth of the typical distance."""
    x = columns[modality].reshape(len(columns[modality]), -1)
    x = x / np.maximum(x.std(axis=0), 1e-9)
    distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    return nearest < 0.1 * np.median(nearest), distances.argmin(axis=1)


def test_near_duplicates():
    train = generate(sizes=(200, 1, 1), absent=0, duplicates=0.1)["train"]
    twins, whose = near_twins(train, "audio")
    assert 10 < twins.sum() < 70  # a tenth of the samples, and those that they repeat
    assert np.array_equal(twins, near_twins(train, "vision")[0])
    for row in np.flatnonzero(twins):
        other = whose[row]
        assert train["regression_labels"][row] == train["regression_labels"][other]
        assert not np.array_equal(train["audio"][row], train["audio"][other])
        # The same but for the opening, of three words at most.
        endings = [" ".join(train["raw_text"][r].split()[3:]) for r in (row, other)]
        assert endings[0][-30:] == endings[1][-30:]
    none = generate(sizes=(200, 1, 1), absent=0, duplicates=0)["train"]
    assert not near_twins(none, "audio")[0].any()


def test_the_file_loads(tmp_path):
    path = synthesize(tmp_path / "new" / "x.pkl", sizes=(30, 5, 7), absent=0.3)
    assert path == tmp_path / "new" / "x.pkl"
    corpus = load_mmsa(path, nan="raise")
    assert {name: len(split) for name, split in corpus.splits.items()} == {
        "train": 30,
        "valid": 5,
        "test": 7,
    }
    assert corpus.modalities == ("text", "audio", "vision")
    train = corpus.splits["train"]
    assert not train.present["audio"].all()
    assert len(set(train.ids)) == 30
    assert not set(train.ids) & set(corpus.splits["test"].ids)
    assert train.features["audio"].shape == (30, 20, 16)
    assert train.features["vision"].shape == (30, 24, 20)
    written = pickle.loads(path.read_bytes())
    assert np.array_equal(written["train"]["audio"], train.features["audio"])


def test_the_default_sizes(tmp_path):
    corpus = load_mmsa(synthesize(tmp_path / "x.pkl"))
    assert [len(split) for split in corpus.splits.values()] == [400, 100, 200]


def test_the_seed_decides_everything(tmp_path):
    first, second, other = (
        synthesize(tmp_path / name, sizes=(20, 2, 2), seed=seed).read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == second
    assert first != other


def test_one_sample_each():
    tiny = generate(sizes=(1, 1, 1), duplicates=0.4, absent=0.4)
    assert all(len(columns["raw_text"]) == 1 for columns in tiny.values())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = synthesize(tmp_path / "x.pkl", sizes=(3, 1, 1))
    before = path.read_bytes()

    def full(*_arguments, **_options):
        raise OSError("no space left")

    monkeypatch.setattr(pickle, "dump", full)
    with pytest.raises(OSError, match="no space left"):
        synthesize(path, sizes=(4, 1, 1))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.pkl"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": (1, 2)}, r"sizes: expected three numbers from 1 up, got \(1, 2\)"),
        ({"sizes": (1, 0, 2)}, "sizes: expected three numbers"),
        ({"absent": 0.5}, r"absent: expected a share in \[0, 0.4\], got 0.5"),
        ({"duplicates": -0.1}, r"duplicates: expected a share in \[0, 0.4\], got -0.1"),
        ({"absent": float("nan")}, "absent: expected a share"),
    ],
)
def test_wrong_arguments(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        synthesize(tmp_path / "x.pkl", **options)
    assert not list(tmp_path.iterdir())


def test_a_pickle_is_not_named_as_safetensors(tmp_path):
    """Nothing would read it: a file is read by its name."""
    with pytest.raises(ValueError, match=r"path: expected a name for a pickle.*'x\.safetensors'"):
        synthesize(tmp_path / "x.safetensors", sizes=(3, 1, 1))
    assert not list(tmp_path.iterdir())

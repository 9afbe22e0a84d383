"""Any layout through one door: which it is, which options it reads, what the errors say."""

import pickle

import numpy as np
import pytest

from reference_models.__main__ import main
from reference_models.data import LAYOUTS, load_corpus
from reference_models.data.converted import save_corpus
from reference_models.data.corpus import TASKS, file_sha256
from reference_models.data.loading import DEFAULTS, OPTIONS, read, recognise
from reference_models.data.mmsa import load_mmsa
from reference_models.data.pickles import DataError
from tests.reference_models.files import (
    content,
    iemocap_content,
    mag_bert_content,
    mult_content,
    same_corpus,
    ur_funny_content,
    write,
    write_every_layout,
    write_folder,
)
from tests.reference_models.odd import odd_content

TASK_OF = {
    "mmsa": "sentiment",
    "sims": "sims",
    "mult": "sentiment",
    "iemocap": "iemocap",
    "mag-bert": "sentiment",
    "ur-funny": "humor",
}


@pytest.mark.parametrize("name", TASK_OF)
def test_the_layout_is_seen_from_the_content(tmp_path, name):
    path = write_every_layout(tmp_path)[name]
    corpus = load_corpus(path)
    assert corpus.layout == ("mmsa" if name == "sims" else name)
    assert corpus.task == TASK_OF[name]
    assert corpus.path == str(path)
    assert corpus.sha256 == file_sha256(path)
    assert corpus.origin is None
    assert list(corpus.splits) == ["train", "valid", "test"]
    assert [len(split) for split in corpus.splits.values()] == [6, 2, 3]
    same_corpus(load_corpus(str(path), layout=corpus.layout), corpus)
    for split in corpus.splits.values():
        assert len(split.labels) == len(split)
        for modality, frames in split.features.items():
            mask = split.masks[modality]
            assert frames.dtype == np.float32
            assert not frames[~mask].any()
            assert np.array_equal(np.sort(~mask, axis=1), ~mask)  # real frames first


def test_every_task_and_layout_is_met():
    assert set(TASK_OF.values()) == set(TASKS)
    assert set(LAYOUTS) == set(OPTIONS) == {*TASK_OF, "converted"} - {"sims"}
    assert {name for names in OPTIONS.values() for name in names} == set(DEFAULTS)


def test_the_mmsa_layout_is_what_its_own_loader_reads(tmp_path):
    path = write(tmp_path / "x.pkl", content())
    same_corpus(load_corpus(path), load_mmsa(path))


@pytest.mark.parametrize("name", TASK_OF)
def test_a_file_as_python_2_wrote_it(tmp_path, name):
    """Protocol 2, numpy's old module names, and bytes as text to encode."""
    paths = write_every_layout(tmp_path)
    expected = load_corpus(paths[name])
    old = 0
    for file in paths[name].iterdir() if paths[name].is_dir() else [paths[name]]:
        data = pickle.dumps(pickle.loads(file.read_bytes()), protocol=2)
        assert b"_codecs\nencode" in data or b"numpy" not in data
        old += data.count(b"numpy._core.")
        file.write_bytes(data.replace(b"numpy._core.", b"numpy.core."))
    assert old
    same_corpus(load_corpus(paths[name]), expected)


def test_dev_is_valid(tmp_path):
    for data in (content(), mult_content(), iemocap_content()):
        expected = load_corpus(write(tmp_path / "x.pkl", data))
        data["dev"] = data.pop("valid")
        same_corpus(load_corpus(write(tmp_path / "x.pkl", data)), expected)
    data = mag_bert_content()
    expected = load_corpus(write(tmp_path / "x.pkl", data))
    data["valid"] = data.pop("dev")
    same_corpus(load_corpus(write(tmp_path / "x.pkl", data)), expected)


def test_nothing_outside_the_list_is_read(tmp_path):
    data = mag_bert_content()
    data["train"].append(pickle.PickleError)
    with pytest.raises(DataError, match="nothing was executed"):
        load_corpus(write(tmp_path / "x.pkl", data))
    files = ur_funny_content() | {"humor_label_sdk": pickle.PickleError}
    with pytest.raises(DataError, match=r"humor_label_sdk\.pkl: .*nothing was executed"):
        load_corpus(write_folder(tmp_path / "x", files))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1, 2], "got a list"),
        ({"happy": 1, "sad": 2}, r"got one with the keys \['happy', 'sad'\]"),
        ({"train": 5}, r"keys \['train'\]"),
        (("a",) * 9, "got a tuple"),
    ],
)
def test_an_unknown_layout_is_described(tmp_path, data, words):
    with pytest.raises(DataError, match=rf"x\.pkl: expected a dict with the splits .*{words}") as e:
        load_corpus(write(tmp_path / "x.pkl", data))
    assert all(f"{name}: {text}" in str(e.value) for name, text in LAYOUTS.items())


def test_ragged_labels_are_no_emotions():
    data = {"train": {"labels": [[1.0], [2.0, 3.0]], "audio": []}}
    assert recognise(data, "x.pkl") == "mult"


def test_a_folder_that_is_not_whole(tmp_path):
    with pytest.raises(DataError, match="got a folder with nothing; add data_folds"):
        load_corpus(tmp_path)
    write(tmp_path / "data_folds.pkl", {})
    with pytest.raises(DataError, match=r"got a folder with data_folds.pkl; add language_sdk.pkl,"):
        load_corpus(tmp_path)


def test_no_file(tmp_path):
    with pytest.raises(DataError, match="got nothing there"):
        load_corpus(tmp_path / "absent.pkl")
    with pytest.raises(DataError, match=r"absent\.safetensors: expected a whole safetensors file"):
        load_corpus(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_is_not_the_files(tmp_path, layout):
    paths = write_every_layout(tmp_path)
    paths["converted"] = save_corpus(load_corpus(paths["mmsa"]), tmp_path / "x.safetensors")
    for name, path in paths.items():
        if name not in (layout, "sims"):
            with pytest.raises(DataError, match="expected"):
                load_corpus(path, layout=layout)


GIVEN = {
    "labels": "x.csv",
    "label_range": (-1, 1),
    "nan": "raise",
    "present_index": 0,
    "max_steps": 2,
    "context": True,
    "normalize": True,
}


@pytest.mark.parametrize("option", GIVEN)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_option_that_the_layout_does_not_read(tmp_path, layout, option):
    paths = write_every_layout(tmp_path)
    paths["converted"] = save_corpus(load_corpus(paths["mmsa"]), tmp_path / "x.safetensors")
    if option in OPTIONS[layout]:
        return
    with pytest.raises(ValueError, match=rf"^{option}: expected .*layout '{layout}' does not read"):
        load_corpus(paths[layout], **{option: GIVEN[option]})


def test_wrong_options(tmp_path):
    path = write(tmp_path / "x.pkl", content())
    for options, words in (
        ({"layout": "csv"}, "layout: expected one of mmsa, mult, .*, got 'csv'"),
        ({"nan": "drop"}, "nan: expected 'zero' or 'raise', got 'drop'"),
        ({"max_steps": 0}, "max_steps: expected a number from 1 up, got 0"),
        ({"label_range": (1, -1)}, r"label_range: expected \(lowest, highest\), got"),
    ):
        with pytest.raises(ValueError, match=words):
            load_corpus(path, **options)
    emotions = write(tmp_path / "y.pkl", iemocap_content())
    with pytest.raises(ValueError, match="present_index: expected 0 or 1, got 2"):
        load_corpus(emotions, present_index=2)


def test_the_label_range_reaches_the_mmsa_layout(tmp_path):
    path = write(tmp_path / "x.pkl", content())
    with pytest.raises(DataError, match=r"expected scores in \[-0.5, 0.5\]"):
        load_corpus(path, label_range=(-0.5, 0.5))


@pytest.mark.parametrize("name", TASK_OF)
def test_infinite_numbers_in_every_layout(tmp_path, name):
    data, where = {
        "mmsa": (content(), lambda d: d["train"]["audio"]),
        "sims": (content(), lambda d: d["train"]["audio"]),
        "mult": (mult_content(), lambda d: d["train"]["audio"]),
        "iemocap": (iemocap_content(), lambda d: d["train"]["audio"]),
        "mag-bert": (mag_bert_content(), lambda d: [s[0][2] for s in d["train"]]),
        "ur-funny": (
            ur_funny_content(),
            lambda d: [d["covarep_features_sdk"][k]["punchline_features"] for k in (3, 1)],
        ),
    }[name]
    for row, value in ((0, -np.inf), (1, np.nan)):
        where(data)[row][-1, 0] = value
    save = write_folder if name == "ur-funny" else write
    path = save(tmp_path / "x.pkl", data)
    audio = load_corpus(path).splits["train"].features["audio"]
    assert np.isfinite(audio).all()
    with pytest.raises(DataError, match="expected finite numbers, got 2 NaN or infinite in 2"):
        load_corpus(path, nan="raise")


def test_reading_a_folder_and_a_file(tmp_path):
    paths = write_every_layout(tmp_path)
    assert set(read(paths["ur-funny"])) == set(ur_funny_content())
    assert set(read(paths["mag-bert"])) == {"train", "dev", "test"}


def test_the_real_files(data_folder):
    for name, modalities in (
        ("mosi_standard_text_audio", ("text", "audio")),
        ("mosi_speaker_split_trimodal", ("text", "audio", "vision")),
        ("ict_mmmo_aligned_20", ("text", "audio", "vision")),
    ):
        path = data_folder / f"{name}.pkl"
        corpus = load_corpus(path)
        assert (corpus.task, corpus.layout) == ("sentiment", "mmsa")
        assert corpus.modalities == modalities
        same_corpus(corpus, load_mmsa(path))


@pytest.mark.parametrize("start", range(0, 120, 20))
def test_odd_content_is_loaded_or_refused_in_one_line(tmp_path, capsys, start):
    """Either what is loaded keeps every promise, or the error is one line; nothing else happens."""
    for seed in range(start, start + 20):
        layout, data = odd_content(seed)
        path, out = tmp_path / f"{seed}.pkl", tmp_path / f"{seed}.safetensors"
        if layout == "ur-funny" and isinstance(data, dict):
            write_folder(path, {f"{name}": values for name, values in data.items()})
        else:
            write(path, data)
        problem = main(["data", "inspect", str(path)])
        printed = capsys.readouterr()
        assert printed.out.replace("\n", "").isprintable()
        assert printed.err.count("\n") == (problem != 0)
        refused = main(["data", "convert", str(path), str(out)])
        printed = capsys.readouterr().err
        assert refused == problem
        if refused:
            assert f"{seed}.pkl" in printed
            assert printed[:-1].isprintable()
            assert len(printed) < 800
        else:
            same_corpus(load_corpus(out), load_corpus(path))

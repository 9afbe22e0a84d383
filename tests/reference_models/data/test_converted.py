"""The converted file: exact, safe, whole or refused."""

import json
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from reference_models.__main__ import main
from reference_models.data import converted, load_corpus
from reference_models.data.batch import ModalDataset
from reference_models.data.converted import is_converted, load_converted, save_corpus
from reference_models.data.corpus import FEATURES, KNOWN_FILES, SPLITS, TASKS, Corpus, Split
from reference_models.data.pickles import DataError
from tests.reference_models.files import (
    content,
    iemocap_content,
    mag_bert_content,
    mult_content,
    same_corpus,
    sims_content,
    ur_funny_content,
    write,
    write_every_layout,
    write_folder,
    write_transcripts,
)

LAYOUTS = {
    "mmsa": content,
    "sims": sims_content,
    "mult": mult_content,
    "iemocap": iemocap_content,
    "mag-bert": mag_bert_content,
    "ur-funny": ur_funny_content,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@given(seed=st.integers(0, 10**6))
def test_a_file_of_any_layout_comes_back_exactly(tmp_path_factory, layout, seed):
    folder = tmp_path_factory.mktemp("x")
    save = write_folder if layout == "ur-funny" else write
    source = load_corpus(save(folder / "source", LAYOUTS[layout](seed)))
    path = save_corpus(source, folder / "x.safetensors")
    again = load_corpus(path)
    same_corpus(again, source)
    assert again.path == str(path)
    assert again.origin == ("source", source.sha256)
    assert again.sha256 != source.sha256


# Whatever a string can hold: other scripts, line ends, and halves of characters.
WORDS = st.text(max_size=8) | st.sampled_from(["", "\udc80", "\x00", "线\u2028"])


@st.composite
def corpora(draw):
    """Corpora as loaders make them, of any task, with any columns; text may be all there is."""
    task = draw(st.sampled_from(TASKS))
    modalities = draw(st.lists(st.sampled_from(FEATURES), unique=True, min_size=1))
    words = draw(st.lists(WORDS, min_size=4, max_size=4))
    has_words, has_tokens = draw(st.booleans()), draw(st.booleans())
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = [m for m in modalities if random.random() < 0.8]
    unimodal = modalities[:2] if task == "sims" else []
    splits = {}
    for name in SPLITS:
        count, total, width = random.integers(1, 5, 3)

        def prefix(count=count, total=total):
            return np.arange(total) < random.integers(0, total + 1, count)[:, None]

        masks = {m: prefix() for m in features}
        frames = {m: np.zeros((count, total, width), np.float32) for m in features}
        for m, mask in masks.items():
            frames[m][mask] = random.normal(size=(mask.sum(), width))
        token_mask = prefix() if has_tokens else None
        tokens = random.integers(1, 30_000, (count, total)) * token_mask if has_tokens else None
        labels = {
            "iemocap": random.integers(0, 2, (count, 4)),
            "humor": random.integers(0, 2, count),
        }.get(task, random.normal(size=count).astype(np.float32))
        splits[name] = Split(
            name,
            words[:count],
            labels,
            words[::-1][:count] if has_words else None,
            tokens,
            token_mask,
            frames,
            masks,
            {m: random.random(count) < 0.5 for m in modalities},
            {m: random.normal(size=count).astype(np.float32) for m in unimodal},
        )
    layout = draw(st.sampled_from(list(LAYOUTS)))
    dropped = {name: int(random.integers(9)) for name in SPLITS}
    return Corpus("/x/ü.pkl", "ab" * 32, None, splits, task, layout, dropped, tuple(words[:2]))


@given(source=corpora())
def test_any_corpus_comes_back_exactly(tmp_path_factory, source):
    path = tmp_path_factory.mktemp("x") / "x.safetensors"
    same_corpus(load_corpus(save_corpus(source, path)), source)


def test_padding_is_not_stored(tmp_path):
    data = mult_content()
    for columns in data.values():
        padding = np.zeros((len(columns["audio"]), 5000, 3), np.float32)
        columns["audio"] = np.concatenate([padding, columns["audio"]], axis=1)
    path = write(tmp_path / "x.pkl", data)
    copy = save_corpus(load_corpus(path), tmp_path / "x.safetensors")
    assert copy.stat().st_size < path.stat().st_size / 20
    assert load_corpus(copy).splits["train"].features["audio"].shape == (6, 5007, 3)


def test_what_is_loaded_can_be_trained_on(tmp_path):
    path = write_every_layout(tmp_path)["sims"]
    corpus = load_corpus(save_corpus(load_corpus(path), tmp_path / "x.safetensors"))
    for split in corpus.splits.values():
        sample = ModalDataset(split, FEATURES)[0]
        assert sample["unimodal_labels"]["audio"] == split.unimodal_labels["audio"][0]
        split.features["audio"][:] = 1  # the arrays are one's own


def test_a_copy_of_a_copy_knows_the_first(tmp_path):
    first = load_corpus(write(tmp_path / "x.pkl", content()))
    second = load_corpus(save_corpus(first, tmp_path / "y.safetensors"))
    third = load_corpus(save_corpus(second, tmp_path / "z.safetensors"))
    assert third.origin == second.origin == ("x.pkl", first.sha256)
    assert (tmp_path / "y.safetensors").read_bytes() == (tmp_path / "z.safetensors").read_bytes()


def test_the_same_corpus_gives_the_same_file(tmp_path):
    for layout, path in write_every_layout(tmp_path).items():
        files = [
            save_corpus(load_corpus(path), tmp_path / f"{layout}{place}.safetensors")
            for place in range(3)
        ]
        assert len({file.read_bytes() for file in files}) == 1


def test_a_public_file_is_known_by_its_copy(tmp_path, monkeypatch):
    source = load_corpus(write(tmp_path / "x.pkl", content()))
    path = save_corpus(source, tmp_path / "x.safetensors")
    assert load_corpus(path).known_as is None
    monkeypatch.setitem(KNOWN_FILES, source.sha256, "MMSA something")
    assert load_corpus(path).known_as == "MMSA something"


def test_sentences_of_a_csv_are_in_the_copy(tmp_path):
    data = mult_content()
    table = write_transcripts(tmp_path / "x.csv", data)
    source = load_corpus(write(tmp_path / "x.pkl", data), labels=table)
    path = save_corpus(source, tmp_path / "x.safetensors")
    table.unlink()
    same_corpus(load_corpus(path), source)


@pytest.fixture
def copy(tmp_path):
    source = load_corpus(write(tmp_path / "source.pkl", sims_content()))
    return save_corpus(source, tmp_path / "x.safetensors")


def test_a_copy_is_known_by_its_content_or_its_name(tmp_path, copy):
    assert is_converted(copy)
    assert is_converted(tmp_path / "absent.safetensors")
    assert not is_converted(tmp_path / "absent.pkl")
    other = tmp_path / "other.name"
    other.write_bytes(copy.read_bytes())
    same_corpus(load_corpus(other), load_corpus(copy))
    for path in write_every_layout(tmp_path).values():
        assert not is_converted(path)


def test_a_truncated_file_is_refused(tmp_path, copy):
    whole = copy.read_bytes()
    for length in {*range(0, len(whole), 97), 7, 8, 9, len(whole) - 1}:
        copy.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"x\.safetensors: expected a whole safetensors file"):
            load_corpus(copy)
    copy.write_bytes(whole + b"\x00")
    with pytest.raises(DataError, match="expected a whole safetensors file"):
        load_corpus(copy)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_changed_bit_is_refused(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("x")
    source = load_corpus(write(folder / "source.pkl", sims_content()))
    path = save_corpus(source, folder / "x.safetensors")
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.safetensors: expected"):
        load_corpus(path)


def forged(path, change):
    """The file with other tensors or other metadata, whole as safetensors."""
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    safetensors.numpy.save_file(tensors, path, metadata)


def one_label_more(tensors, _):
    tensors["train/labels"][0] += 0.2


def another_name(tensors, _):
    tensors["train/features/audio"] = tensors.pop("train/frames/audio")


def another_shape(tensors, _):
    tensors["train/labels"] = tensors["train/labels"][:, None]


def another_type(tensors, _):
    tensors["train/labels"] = tensors["train/labels"].view(np.int32)


def noted(metadata, change):
    (entry,) = metadata
    note = json.loads(metadata[entry])
    change(note)
    metadata[entry] = json.dumps(note)


def another_sentence(_, metadata):
    noted(metadata, lambda note: note["header"]["splits"]["train"]["raw_text"].insert(0, "other"))


def another_checksum(_, metadata):
    noted(metadata, lambda note: note.update(checksum="ab" * 32))


def no_tensor(tensors, _):
    del tensors["test/present/text"]


@pytest.mark.parametrize(
    "change",
    [
        one_label_more,
        another_name,
        another_shape,
        another_type,
        another_sentence,
        another_checksum,
        no_tensor,
    ],
)
def test_a_forged_file_is_refused(copy, change):
    forged(copy, change)
    with pytest.raises(DataError, match="expected the content that its checksum states, got"):
        load_corpus(copy)


def test_an_unchanged_file_is_not(copy):
    source = load_corpus(copy)
    forged(copy, lambda *_: None)
    same_corpus(load_corpus(copy), source)


def test_another_version(copy):
    forged(copy, lambda _, metadata: noted(metadata, lambda note: note.update(version=2)))
    with pytest.raises(DataError, match="expected version 1 of the format, got 2; convert the"):
        load_corpus(copy)


def test_another_safetensors_file(tmp_path):
    path = tmp_path / "model.safetensors"
    for metadata in (None, {"format": "pt"}, {"mmcontrast corpus": "{"}):
        safetensors.numpy.save_file({"weight": np.zeros(3)}, path, metadata)
        with pytest.raises(DataError, match="expected a corpus, got another safetensors file"):
            load_corpus(path)


def test_a_header_of_a_thousand_billion_bytes(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 10**12) + b"{}")
    with pytest.raises(DataError, match="expected a whole safetensors file"):
        load_corpus(path)


def test_a_copy_that_fails_leaves_the_old_one_and_nothing_else(tmp_path, copy, monkeypatch):
    before = copy.read_bytes()
    source = replace(load_converted(copy), task="humor")

    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="no space left"):
        save_corpus(source, copy)
    monkeypatch.undo()

    def half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(converted.safetensors.numpy, "save_file", half)
    with pytest.raises(OSError, match="no space left"):
        save_corpus(source, copy)
    assert copy.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.pkl", "x.safetensors"]


def test_names_and_folders(tmp_path):
    source = load_corpus(write(tmp_path / "x.pkl", content()))
    with pytest.raises(ValueError, match=r"ends in \.safetensors, got 'x\.pkl'"):
        save_corpus(source, tmp_path / "x.pkl")
    path = save_corpus(source, str(tmp_path / "a" / "b" / "x.safetensors"))
    same_corpus(load_corpus(str(path)), source)
    old = path.read_bytes()
    save_corpus(replace(source, notes=("a note",)), path)
    assert path.read_bytes() != old


def test_the_command(tmp_path, capsys):
    data = mult_content()
    table = write_transcripts(tmp_path / "x.csv", data)
    source, out = write(tmp_path / "x.pkl", data), tmp_path / "x.safetensors"
    command = ["data", "convert", str(source), str(out), "--labels", str(table)]
    assert main(command) == 0
    same_corpus(load_corpus(out), load_corpus(source, labels=table))
    printed = capsys.readouterr().out
    assert "note: the sentences are those of x.csv" in printed
    assert f"wrote {out} (6 train, 2 valid, 3 test)" in printed
    before = out.read_bytes()
    assert main(command) == 2
    assert "x.safetensors: expected a new file, got one that exists" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert main(["data", "inspect", str(out)]) == 0
    assert "made of   x.pkl" in capsys.readouterr().out


def test_the_options_of_the_command(tmp_path):
    paths, out = write_every_layout(tmp_path), tmp_path / "x.safetensors"
    for layout, options, expected in (
        ("ur-funny", ["--context", "--normalize"], {"context": True, "normalize": True}),
        ("iemocap", ["--present-index", "0"], {"present_index": 0}),
    ):
        assert main(["data", "convert", str(paths[layout]), str(out), *options]) == 0
        same_corpus(load_corpus(out), load_corpus(paths[layout], **expected))
        out.unlink()


def test_the_real_files(data_folder, tmp_path):
    for name in ("mosi_standard_text_audio", "mosi_speaker_split_trimodal", "ict_mmmo_aligned_20"):
        source = load_corpus(data_folder / f"{name}.pkl")
        path = save_corpus(source, tmp_path / f"{name}.safetensors")
        again = load_corpus(path)
        same_corpus(again, source)
        assert again.origin == (f"{name}.pkl", source.sha256)
        assert path.stat().st_size < (data_folder / f"{name}.pkl").stat().st_size

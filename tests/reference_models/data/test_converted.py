"""The converted file: exact, safe, whole or refused."""

import hashlib
import json
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
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


# Whatever a string can hold, but halves of characters: other scripts, line ends, nothing.
WORDS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["", "\x00", "线\u2028"]
)


@st.composite
def corpora(draw):
    """Corpora as loaders make them, of any task, with any columns; text may be all there is."""
    task = draw(st.sampled_from(TASKS))
    modalities = draw(st.sets(st.sampled_from(FEATURES), min_size=1))
    modalities = [m for m in FEATURES if m in modalities]
    words = draw(st.lists(WORDS, min_size=4, max_size=4, unique=True))
    has_words, has_tokens = draw(st.booleans()), draw(st.booleans())
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = [m for m in modalities if random.random() < 0.8]
    unimodal = modalities[:2] if task == "sims" else []
    splits, width = {}, random.integers(1, 5)
    for name in SPLITS:
        count, total = random.integers(1, 5, 2)

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
        }.get(task, random.uniform(-1, 1, count).astype(np.float32))
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
            {m: random.uniform(-1, 1, count).astype(np.float32) for m in unimodal},
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
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
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


def test_a_file_with_types_that_numpy_lacks(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3, dtype=torch.bfloat16)}, path)
    with pytest.raises(DataError, match="expected a corpus, got another safetensors file"):
        load_corpus(path)
    assert main(["data", "inspect", str(path)]) == 2
    printed = capsys.readouterr()
    assert "expected a corpus, got another safetensors file" in printed.out
    assert "expected a file that loads; the problem is named above" in printed.err
    noted_file = {"mmcontrast corpus": json.dumps({"version": 1, "checksum": "", "header": {}})}
    safetensors.torch.save_file({"weight": torch.zeros(3).bfloat16()}, path, noted_file)
    with pytest.raises(DataError, match="expected a corpus, got another safetensors file"):
        load_corpus(path)


def stated(tensors, header):
    """The checksum of a file, as the module's docstring says."""
    digest = hashlib.sha256(json.dumps(header).encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def crafted(path, change):
    """The file with other content, and the checksum of that."""

    def both(tensors, metadata):
        note = json.loads(metadata["mmcontrast corpus"])
        change(tensors, note["header"])
        note["checksum"] = stated(tensors, note["header"])
        metadata["mmcontrast corpus"] = json.dumps(note)

    forged(path, both)


def refusal(path):
    with pytest.raises(DataError) as caught:
        load_corpus(path)
    words = str(caught.value)
    assert "checksum" not in words
    assert words.startswith(str(path))
    assert words.isprintable()
    assert len(words) < len(str(path)) + 300
    return words


def test_a_crafted_file_without_a_change_is_read(copy):
    source = load_corpus(copy)
    crafted(copy, lambda *_: None)
    same_corpus(load_corpus(copy), source)


def put(array, value):
    array = array.copy()
    array.flat[0] = value
    return array


# Each must be refused for every tensor of a kind.
EVERY = {
    "another type": lambda x: x.astype(np.float64 if x.dtype != np.float64 else np.int8),
    "one of int8": lambda x: x.astype(np.int8),
    "an axis more": lambda x: x[None],
    "one axis": lambda x: np.repeat(x.reshape(-1), 2),
    "a row less": lambda x: x[:-1],
    "no row": lambda x: x[:0],
}
SOME = {
    "labels": (np.nan, np.inf, -np.inf, -1.5, 1.5, 1e30),
    "unimodal/audio": (np.nan, np.inf, -1.5, 1e30),
    "frames/audio": (np.nan, np.inf),
    "frames/token_ids": (-1, 2**31, 10**12),
    "lengths/audio": (-1, 0, 8, 2**62),
    "lengths/token_ids": (-1, 6, 2**62),
    "present/text": (),
    "lengths/text": (),
}


@pytest.mark.parametrize("part", SOME)
@pytest.mark.parametrize("split", SPLITS)
def test_a_tensor_of_another_form_is_refused_by_name(copy, split, part):
    whole, name = copy.read_bytes(), f"{split}/{part}"
    changes = [*EVERY.values(), *(lambda x, v=value: put(x, v) for value in SOME[part])]
    for change in changes:
        copy.write_bytes(whole)
        crafted(copy, lambda tensors, _, f=change: tensors.update({name: f(tensors[name])}))
        words = refusal(copy)
        assert f"split '{split}'" in words
        assert part.split("/")[-1] in words
    copy.write_bytes(whole)
    crafted(copy, lambda tensors, _: tensors.pop(name))
    assert f"split '{split}', {part}: expected a tensor of that name" in refusal(copy)


def test_a_width_of_nothing(copy):
    crafted(
        copy,
        lambda tensors, _: tensors.update(
            {f"{name}/frames/audio": tensors[f"{name}/frames/audio"][:, :0] for name in SPLITS}
        ),
    )
    assert "features audio: expected float32 of shape (6, any, any)" in refusal(copy)


def test_a_tensor_more(copy):
    crafted(copy, lambda tensors, _: tensors.update(other=np.zeros(3)))
    assert "tensors: expected those of the splits, got ['other']" in refusal(copy)


WRONG = (None, 3, -1, 1.5, True, 1e300, "x", [], [3], [None], ["x"], {}, {"x": 1}, [[["x"]]])
LEGAL = {
    ("layout",): ("x",),
    ("notes",): ([], ["x"]),
    ("dropped",): ({},),
    ("splits", "train", "raw_text"): (None,),
    ("splits", "train", "steps", "audio"): (),
}
PLACES = [
    (field,) for field in ("task", "layout", "dropped", "notes", "origin", "splits")
] + [
    *LEGAL,
    ("splits", "valid"),
    *(("splits", "test", name) for name in ("ids", "raw_text", "modalities", "unimodal", "steps")),
    *(("splits", "train", "steps", kind) for kind in ("text", "token_ids")),
    ("splits", "train", "ids", 0),
    ("splits", "train", "modalities", 0),
]  # fmt: skip


@pytest.mark.parametrize("place", sorted(set(PLACES), key=str), ids=str)
def test_a_field_of_another_type_is_refused(copy, place):
    whole = copy.read_bytes()
    *way, last = place
    field = next(name for name in reversed(place) if isinstance(name, str))
    for value in WRONG:
        if value in LEGAL.get(place, ()) and not isinstance(value, bool):
            continue
        if last == 0 and field == "ids" and value == "x":
            continue

        def change(_, header, value=value):
            for name in way:
                header = header[name]
            header[last] = value

        copy.write_bytes(whole)
        crafted(copy, change)
        refusal(copy)

    def gone(_, header):
        for name in way:
            header = header[name]
        del header[last]

    if place != ("splits", "train", "raw_text"):
        copy.write_bytes(whole)
        crafted(copy, gone)
        refusal(copy)


def set_in(*place):
    """A change of a header: all but the last are where, the last is what."""

    def change(_, header):
        *way, last, value = place
        for name in way:
            header = header[name]
        header[last] = value

    return change


def renamed(tensors, header):
    header["splits"]["dev"] = header["splits"].pop("valid")
    for name in [name for name in tensors if name.startswith("valid/")]:
        tensors[name.replace("valid", "dev")] = tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed, "splits: expected ('train', 'valid', 'test'), got ['train', 'test', 'dev']"),
        (set_in("task", "humor"), "'train', labels: expected int64 of shape (6), got float32"),
        (set_in("task", "iemocap"), "'train', labels: expected int64 of shape (6, 4)"),
        (set_in("task", "other"), "task: expected one of sentiment, sims"),
        (set_in("splits", "test", "ids", ["a", "b", "a"]), "'test', ids: expected every name once"),
        (set_in("splits", "test", "ids", ["a", "b"]), "'test', lengths/"),
        (set_in("splits", "test", "ids", ["a", "b", "\ud800"]), "ids: expected text of whole"),
        (set_in("splits", "test", "raw_text", ["a", "b", "\udc80"]), "raw_text: expected text of"),
        (set_in("splits", "test", "raw_text", ["a"]), "raw_text: expected a list of 3 sentences"),
        (set_in("splits", "test", "raw_text", None), "raw_text: expected True as in 'train'"),
        (set_in("splits", "test", "modalities", ["text"] * 2), "present/text: expected a tensor"),
        (set_in("splits", "test", "modalities", ["vision", "audio", "text"]), "in this order"),
        (set_in("splits", "test", "steps", "audio", 10**12), "steps/audio: expected a number from"),
        (set_in("splits", "test", "steps", "audio", 2**30), "steps/audio: expected most steps in"),
        (set_in("splits", "test", "steps", "audio", 0), "steps/audio: expected a number from 1"),
        (set_in("splits", "test", "steps", "../x", 1), "'test', steps: expected some of text"),
        (set_in("dropped", {"train": -1}), "dropped: expected numbers from 0 up, got [-1]"),
        (set_in("dropped", {"dev": 1}), "dropped: expected numbers of samples by split"),
        (set_in("notes", ["\ud800"]), "notes: expected text of whole characters"),
        (set_in("origin", ["a"]), "origin: expected a name and a SHA-256, got ['a']"),
        (set_in("layout", "\ud800"), "layout: expected text of whole characters"),
    ],
)
def test_a_promise_that_a_crafted_file_breaks(copy, change, words):
    crafted(copy, change)
    assert words in refusal(copy)


def test_a_header_of_a_thousand_billion_bytes(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 10**12) + b"{}")
    with pytest.raises(DataError, match="expected a whole safetensors file"):
        load_corpus(path)


def test_a_copy_that_fails_leaves_the_old_one_and_nothing_else(tmp_path, copy, monkeypatch):
    before = copy.read_bytes()
    source = replace(load_converted(copy), notes=("another",))

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


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(converted.safetensors.numpy, "save_file", full)
    source, out = write(tmp_path / "x.pkl", content()), tmp_path / "x.safetensors"
    assert main(["data", "convert", str(source), str(out)]) == 2
    printed = capsys.readouterr().err
    assert f"{out}: could not be written: I/O error: No space left" in printed
    assert printed.count("\n") == 1
    assert list(tmp_path.iterdir()) == [source]


def test_what_could_not_be_read_again_is_not_written(tmp_path, copy):
    source = load_converted(copy)
    with pytest.raises(ValueError, match="labels: expected int64 of shape"):
        save_corpus(replace(source, task="humor"), tmp_path / "y.safetensors")


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

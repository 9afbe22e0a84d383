"""What every corpus has: three splits that agree, and the identity of its file."""

import numpy as np
import pytest

from reference_models.data.corpus import Corpus, Split, check_agreement, file_sha256, splits_of
from reference_models.data.pickles import DataError
from tests.reference_models.files import (
    ur_funny_content,
    write_folder,
)


def test_the_splits_of_a_file():
    parts = {"train": [1], "valid": "no list", "dev": [2], "test": [3], "more": [4]}
    assert splits_of(dict(parts), "x", list) == {"train": [1], "valid": [2], "test": [3]}
    assert splits_of(parts | {"valid": [5]}, "x", list)["valid"] == [5]
    with pytest.raises(
        DataError, match=r"x: expected the splits .*each a dict, .*add train, valid"
    ):
        splits_of(parts, "x", dict)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([[-2.6, 0.0], [1.0], [3.0]], (7, 5)),  # no split reaches both ends, all of them do
        ([[-3.0, 2.4], [1.0], [0.0]], (5,)),
        ([[-2.0, 0.0], [2.0], [0.0]], (5,)),
        ([[-1.0, 0.0], [1.0], [0.0]], ()),
        ([[0.0, 3.0], [1.0], [0.0]], ()),
    ],
)
def test_the_classes_of_rounded_scores_are_those_that_the_labels_reach(labels, classes):
    splits = {
        name: Split(name, ["a"], np.array(scores, np.float32), None, None, None, {}, {}, {})
        for name, scores in zip(("train", "valid", "test"), labels, strict=True)
    }
    assert Corpus("x", "0", None, splits).classes == classes


def test_splits_agree_on_their_scores_of_single_modalities():
    def split(name, **unimodal):
        scores = {m: np.zeros(1, np.float32) for m in unimodal}
        return Split(name, ["a"], np.zeros(1), ["b"], None, None, {}, {}, {}, scores)

    same = {name: split(name, audio=1) for name in ("train", "valid", "test")}
    check_agreement(same, "x")
    with pytest.raises(DataError, match=r"x, split 'test', unimodal labels: expected \('audio',\)"):
        check_agreement(same | {"test": split("test")}, "x")


def test_a_folders_hash_is_over_its_files(tmp_path):
    path = write_folder(tmp_path / "x", ur_funny_content())
    first = file_sha256(path)
    (path / "notes.txt").write_text("no data")
    assert file_sha256(path) == first
    file = path / "humor_label_sdk.pkl"
    other = path / "data_folds.pkl"
    one, two = file.read_bytes(), other.read_bytes()
    file.write_bytes(two)
    other.write_bytes(one)
    assert file_sha256(path) != first

"""Stored masks: drawn once, read by all, and never mistaken for others."""

import shutil

import numpy as np
import pytest

from reference_models.data.loading import load_corpus
from reference_models.data.missing import draw
from reference_models.running import mask_files
from reference_models.running.mask_files import stored_draws


def test_masks_are_drawn_once_and_then_read(file, tmp_path, monkeypatch):
    corpus = load_corpus(file)
    drawn, digest = stored_draws(tmp_path / "m", "frames", corpus, "test", 2)
    expected = draw("frames", corpus.splits["test"], data=corpus.sha256, seed=2)
    assert drawn.keys() == expected.keys() == {"text", "audio", "vision"}

    def no_drawing(*arguments, **options):
        raise AssertionError("they are stored")

    monkeypatch.setattr(mask_files, "draw", no_drawing)
    read, same = stored_draws(tmp_path / "m", "frames", corpus, "test", 2)
    assert same == digest
    assert all(np.array_equal(read[name], expected[name]) for name in expected)


def test_masks_of_other_data_under_the_name_are_refused(file, tmp_path):
    corpus = load_corpus(file)
    stored_draws(tmp_path, "blocks", corpus, "test", 1)
    [path] = tmp_path.iterdir()
    shutil.copy(path, tmp_path / path.name.replace("seed1", "seed2"))
    with pytest.raises(ValueError, match=r"seed2.safetensors: expected masks of .*\"seed\": 2"):
        stored_draws(tmp_path, "blocks", corpus, "test", 2)


def test_a_cut_file_is_refused(file, tmp_path):
    corpus = load_corpus(file)
    stored_draws(tmp_path, "frames", corpus, "test", 1)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"seed1.safetensors: .* cut or changed"):
        stored_draws(tmp_path, "frames", corpus, "test", 1)

"""Stored masks: drawn once, read by all, and never mistaken for others."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reference_models.data.loading import load_corpus
from reference_models.data.missing import draw
from reference_models.running import mask_files
from reference_models.running.mask_files import stored_draws
from reference_models.running.sealed import read_sealed, write_sealed


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
    [path] = tmp_path.glob("*.safetensors")
    shutil.copy(path, tmp_path / path.name.replace("seed1", "seed2"))
    with pytest.raises(ValueError, match=r"seed2.safetensors: expected masks of .*\"seed\": 2"):
        stored_draws(tmp_path, "blocks", corpus, "test", 2)


def test_a_cut_file_is_refused(file, tmp_path):
    corpus = load_corpus(file)
    stored_draws(tmp_path, "frames", corpus, "test", 1)
    [path] = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"seed1.safetensors: .* cut or changed"):
        stored_draws(tmp_path, "frames", corpus, "test", 1)


@pytest.mark.parametrize(
    ("mode", "change"),
    [
        ("frames", lambda draws: {name: x[:3] for name, x in draws.items()}),
        ("frames", lambda draws: {name: x[:, :0] for name, x in draws.items()}),
        ("frames", lambda draws: {name: x[..., None] for name, x in draws.items()}),
        ("frames", lambda draws: {name: x * np.nan for name, x in draws.items()}),
        ("frames", lambda draws: {name: (9 * x).astype(np.int64) for name, x in draws.items()}),
        ("frames", lambda draws: {"text": draws["text"]}),
        ("frames", lambda draws: {"x": np.zeros(0, np.float32)}),
        ("shared-frames", lambda draws: {"time": draws["time"][:, :-1].copy()}),
        ("blocks", lambda draws: {name: np.stack([x, x], 1) for name, x in draws.items()}),
    ],
)
def test_numbers_of_another_shape_or_kind_are_refused(file, tmp_path, mode, change):
    corpus = load_corpus(file)
    stored_draws(tmp_path, mode, corpus, "test", 1)
    [path] = tmp_path.glob("*.safetensors")
    draws, about, _ = read_sealed(path)
    write_sealed(path, change(draws), about)
    words = r"seed1.safetensors: expected a row of numbers for each of 14 samples, by .*, got"
    with pytest.raises(ValueError, match=words):
        stored_draws(tmp_path, mode, corpus, "test", 1)


def test_two_at_once_draw_once(file, tmp_path, monkeypatch):
    corpus, calls = load_corpus(file), []

    def drawing(*arguments, **options):
        calls.append(pool.submit(stored_draws, tmp_path, "blocks", corpus, "test", 1))
        return draw(*arguments, **options)

    monkeypatch.setattr(mask_files, "draw", drawing)
    with ThreadPoolExecutor(1) as pool:
        _, digest = stored_draws(tmp_path, "blocks", corpus, "test", 1)
        [other] = calls
        assert other.result()[1] == digest
    assert len(calls) == 1

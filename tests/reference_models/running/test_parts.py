"""What a run is made of: modalities, text, its encoder, the scale of features; what cannot be."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from reference_models import registry
from reference_models.data.mmsa import load_mmsa
from reference_models.running import runs
from reference_models.running.description import describe
from reference_models.running.parts import BERT_VOCABULARY, build
from tests.reference_models.running.test_runs import (
    SHORT,
    SMALL,
    corpus_file,
    drop,
    pretrained_folder,
    stored_tokens,
    text_features,
    train,
)


def test_modalities_are_chosen_and_ordered(file):
    corpus = load_mmsa(file)
    parts = build("hycon", SMALL, SHORT, corpus, seed=1, modalities=["vision", "audio"])
    assert parts.config["modalities"] == ["audio", "vision"]
    assert parts.config["text"] == {"column": None, "encoder": None}
    assert parts.config["left_out"][0].startswith("text is left out: ")
    assert (parts.tokenizer, parts.text_encoder) == (None, None)
    text = describe(parts, Path("somewhere"))
    assert "audio 16, vision 20" in text
    assert "text is left out" in text


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["audio"], r"two or more for hycon, got audio \(--modalities asks for no more\)"),
        (["audio", "smell"], "expected some of text, audio, vision, .*, got 'smell' from --mod"),
    ],
)
def test_modalities_that_cannot_be(file, modalities, message):
    with pytest.raises(ValueError, match=message):
        build("hycon", SMALL, SHORT, load_mmsa(file), seed=1, modalities=modalities)


def test_a_file_of_one_modality_is_too_little(tmp_path):
    gone = drop("audio", "vision", "audio_lengths", "vision_lengths")
    file = corpus_file(tmp_path / "one.pkl", gone)
    with pytest.raises(
        ValueError, match=r"expected two or more for hycon, got text .*one\.pkl has"
    ):
        build("hycon", SMALL, SHORT, load_mmsa(file), seed=1)


def test_a_model_of_three_modalities_says_so(file, monkeypatch):
    three = replace(registry.find("hycon"), fewest=3)
    monkeypatch.setitem(registry.MODELS, "hycon", three)
    two = ["text", "audio"]
    with pytest.raises(ValueError, match="expected three or more for hycon, got text, audio"):
        build("hycon", SMALL, SHORT, load_mmsa(file), seed=1, modalities=two)


def test_a_pretrained_encoder_starts_from_its_weights(file, tmp_path):
    corpus = load_mmsa(file)
    encoder = pretrained_folder(tmp_path / "encoder", corpus.splits["train"].raw_text)
    parts = build("hycon", SMALL, SHORT, corpus, seed=1, text_encoder=encoder)
    stored = load_file(tmp_path / "encoder" / "model.safetensors")
    for name, value in parts.model.text_encoder.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), stored[name])


def test_an_encoder_for_text_that_takes_no_part(file):
    two = ["audio", "vision"]
    with pytest.raises(ValueError, match=r"^text_encoder: expected none, .* got 'scratch'$"):
        build(
            "hycon", SMALL, SHORT, load_mmsa(file), seed=1, text_encoder="scratch", modalities=two
        )


def test_an_encoder_that_reads_less_than_asked_for(file, tmp_path):
    corpus = load_mmsa(file)
    texts = corpus.splits["train"].raw_text
    encoder = pretrained_folder(tmp_path / "encoder", texts, max_length=8)
    with pytest.raises(ValueError, match=r"^max_text_length: expected at most 8, .* got 12$"):
        build("hycon", SMALL, SHORT, corpus, seed=1, text_encoder=encoder)


def test_an_encoder_that_is_not_there(file):
    with pytest.raises(ValueError, match=r"got 'no/such-encoder', .*.scratch. is a small encoder"):
        build("hycon", SMALL, SHORT, load_mmsa(file), seed=1, text_encoder="no/such-encoder")


@pytest.mark.parametrize(
    ("change", "column", "size"),
    [(stored_tokens, "text_bert", 128), (text_features, "features", 7)],
)
def test_text_in_other_columns(tmp_path, change, column, size):
    file = corpus_file(tmp_path / "corpus.pkl", change)
    results = train(file, tmp_path / "run", training=replace(SHORT, epochs=1, max_text_length=4))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["text"]["column"] == column
    assert config["sizes"]["text"] == size
    assert not (tmp_path / "run" / "tokenizer").exists()
    assert runs.evaluate(tmp_path / "run") == results["test"]


def test_stored_tokens_have_a_place_each_in_an_encoder_from_scratch(tmp_path):
    corpus = load_mmsa(corpus_file(tmp_path / "corpus.pkl", stored_tokens))
    parts = build("hycon", SMALL, SHORT, corpus, seed=1, text_encoder="scratch")
    assert parts.text_encoder.config.vocab_size == BERT_VOCABULARY
    corpus.splits["valid"].token_ids[0, 1] = BERT_VOCABULARY + 9  # in one split alone
    parts = build("hycon", SMALL, SHORT, corpus, seed=1, text_encoder="scratch")
    assert parts.text_encoder.config.vocab_size == BERT_VOCABULARY + 10


def test_a_single_modality_is_enough_where_the_model_says_so(file):
    config = replace(registry.find("mfon").config, hidden_size=10, heads=2)
    parts = build("mfon", config, SHORT, load_mmsa(file), seed=1, modalities=["audio"])
    assert parts.config["modalities"] == ["audio"]


def test_stored_tokens_need_the_vocabulary_that_they_are_of(tmp_path):
    file = corpus_file(tmp_path / "corpus.pkl", stored_tokens)
    encoder = pretrained_folder(tmp_path / "encoder", ["a few words are a few words"])
    with pytest.raises(
        ValueError, match=r"^text_encoder: expected more than 30000 words, .* got 7;"
    ):
        build("hycon", SMALL, SHORT, load_mmsa(file), seed=1, text_encoder=encoder)


def test_features_are_scaled_unless_told_otherwise(file, tmp_path):
    corpus = load_mmsa(file)
    scaled = build("hycon", SMALL, SHORT, corpus, seed=1).dataset(corpus, "train")
    plain = build("hycon", SMALL, replace(SHORT, standardize=False), corpus, seed=1)
    frames = np.concatenate([sample["features"]["audio"] for sample in scaled])
    assert np.abs(frames.mean(0)).max() < 0.1
    first = plain.dataset(corpus, "train")[0]["features"]["audio"].numpy()
    real = corpus.splits["train"].masks["audio"][0]
    np.testing.assert_array_equal(first, corpus.splits["train"].features["audio"][0][real])


@pytest.mark.skipif(torch.accelerator.is_available(), reason="fp16 has a device here")
def test_half_precision_needs_a_device(file):
    with pytest.raises(
        ValueError, match=r"^precision: expected float32 or bf16 on a cpu, got 'fp16'$"
    ):
        build("hycon", SMALL, replace(SHORT, precision="fp16"), load_mmsa(file), seed=1)


def test_what_does_not_run_fails_before_there_is_a_folder(file):
    with pytest.raises(ValueError, match=r"head: expected regression .* got 'iemocap'"):
        build("hycon", replace(SMALL, head="iemocap"), SHORT, load_mmsa(file), seed=1)

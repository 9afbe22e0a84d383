"""A run in words."""

from dataclasses import replace

import pytest

from reference_models.data.mmsa import load_mmsa
from reference_models.running.description import describe, rate_words
from reference_models.running.parts import build
from reference_models.training_config import TrainingConfig
from tests.reference_models.running.test_runs import SHORT, SMALL


def test_a_run_is_described_line_by_line(file, tmp_path):
    corpus = load_mmsa(file)
    parts = build("hycon-v2", SMALL, SHORT, corpus, seed=3, modalities=["text", "audio"])
    text = describe(parts, tmp_path / "run")
    lines = {line[:12].strip(): line[12:] for line in text.splitlines()}
    assert lines["model"].startswith("hycon-v2, ")
    assert lines["model"].endswith(" parameters, seed 3")
    assert lines["samples"] == "40 train, 12 valid, 14 test"
    assert lines["modalities"] == "text (raw_text, text encoder scratch) 128, audio 16"
    assert lines["left out"].startswith("vision is left out")
    assert lines["training"].startswith("up to epoch 2, batches of 16, learning rate 0.001; keeps")
    assert lines["run folder"] == str(tmp_path / "run")


@pytest.mark.parametrize(
    ("encoder", "head_rate", "words"),
    [
        (None, 1e-3, "0.001"),
        ("scratch", 1e-3, "0.001"),
        ("scratch", None, "2e-05"),
        ("bert-base-uncased", 1e-3, "2e-05 in the text encoder, 0.001 elsewhere"),
    ],
)
def test_a_pretrained_encoder_has_its_own_rate(encoder, head_rate, words):
    assert rate_words(replace(TrainingConfig(), head_learning_rate=head_rate), encoder) == words

"""MFON's settings: rows of the tables, presets, and what is refused."""

import math
from dataclasses import fields

import pytest
import torch

from reference_models.mfon.settings import CHOICES, PRESETS, TABLES, MFONConfig
from reference_models.training_config import TrainingConfig
from tests.reference_models.batches import (
    THREE,
    without_dropout,
)
from tests.reference_models.mfon.test_network import DROPOUTS, batch_of, network

CHANGED = {
    "T": {"modalities"},
    "V": {"modalities"},
    "A": {"modalities"},
    "wo_L_va": {"distill_weight"},
    "wo_L_ICL": {"contrast_weight"},
    "wo_L_ICL_L_va": {"distill_weight", "contrast_weight"},
    "wo_prompt": {"prompt"},
    "visual_as_query": {"query"},
    "acoustic_as_query": {"query"},
    "full": set(),
}


ROWS = [(table, row) for table, rows in TABLES.items() for row in rows]


def test_every_row_of_the_tables_has_its_settings():
    assert {row: set(changes) for row, changes in TABLES["ablation"].items()} == CHANGED
    assert TABLES["headline"] == {"MFON": {}}
    assert TABLES["contrast"] == {"full": {}, "wo_contrast": TABLES["ablation"]["wo_L_ICL"]}
    rows = TABLES["ablation"]
    kept = {row: rows[row]["modalities"] for row in "TVA"}
    assert kept == {"T": ("text",), "V": ("vision",), "A": ("audio",)}
    assert rows["visual_as_query"]["query"] == "vision"
    assert rows["acoustic_as_query"]["query"] == "audio"
    defaults = {field.name: field.default for field in fields(MFONConfig)}
    for changes in rows.values():
        assert all(value != defaults.get(name) for name, value in changes.items())


@pytest.mark.parametrize(("table", "row"), ROWS)
@pytest.mark.parametrize("encoded", [False, True])
def test_every_row_of_the_tables_trains(table, row, encoded):
    changes = dict(TABLES[table][row])
    modalities = changes.pop("modalities", THREE)
    encoded = encoded and "text" in modalities
    model = network(modalities, encoded=encoded, **changes)
    without_dropout(model)
    batch = batch_of(modalities=modalities, encoded=encoded)
    for stage in model.stages():
        stage.network.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(3):
        output = model(batch)
        assert list(output.terms) == ["task", "distill", "contrast"]
        optimizer.zero_grad()
        output.terms.total.backward()
        optimizer.step()
        losses.append(output.terms.total.item())
    assert losses[-1] < losses[0]
    for name, p in model.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
    if not encoded:  # a scratch BERT has dropout
        usual = network()(batch_of()).terms.total.item()
        assert (losses[0] == usual) == (not TABLES[table][row])


def test_presets_are_the_papers():
    """Section 3.3 of the recipe: layers, dropouts, weights and rates by data set."""
    config_fields = {field.name for field in fields(MFONConfig)}
    found = {}
    for name, preset in PRESETS.items():
        config = MFONConfig(**{k: v for k, v in preset.items() if k in config_fields})
        training = TrainingConfig(**{k: v for k, v in preset.items() if k not in config_fields})
        assert (training.learning_rate, training.head_learning_rate) == (5e-5, 1e-3)
        assert (training.batch_size, training.epochs, training.max_text_length) == (128, 25, 256)
        assert (training.schedule, training.max_grad_norm) == ("constant", 0)
        found[name] = [
            (config.vision_layers, config.audio_layers),
            (config.teacher_vision_layers, config.teacher_audio_layers),
            (config.teacher_vision_dropout, config.teacher_audio_dropout),
            (config.dropout, config.text_dropout),
            (config.distill_weight, config.contrast_weight),
            (config.teacher_vision_rate, config.teacher_audio_rate),
        ]
    assert found == {
        "mosi": [(2, 5), (4, 3), (0.3, 0), (0.1, 0.3), (0.5, 0.5), (1e-3, 1e-3)],
        "mosei": [(2, 3), (4, 2), (0, 0), (0.1, 0.3), (0.3, 0.001), (1e-4, 1e-4)],
        "sims": [(5, 2), (5, 3), (0.1, 0.5), (0.6, 0.5), (0.5, 0.005), (1e-4, 1e-3)],
    }
    # CH-SIMS alone has labels of each modality.
    assert [name for name, x in PRESETS.items() if x.get("teacher_label") == "own"] == ["sims"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden_size", 4, "a whole number from 8"),
        ("hidden_size", 768.0, "a whole number from 8"),
        ("heads", 7, "a divisor of hidden_size=768"),
        *[
            (name, value, "a whole number from 1")
            for name in (
                "heads",
                "mlp_layers",
                "text_layers",
                "audio_layers",
                "vision_layers",
                "prompt_steps",
                "teacher_audio_layers",
                "teacher_vision_layers",
                "teacher_epochs",
            )
            for value in (0, 2.0, True)
        ],
        *[
            (name, value, "a number from 0, below 1")
            for name in DROPOUTS
            for value in (1.0, -0.1, "0.5")
        ],
        *[
            (name, value, "a number from 0")
            for name in ("distill_weight", "contrast_weight")
            for value in (-1.0, math.nan, None)
        ],
        *[
            (name, value, "a number above 0")
            for name in (
                "distill_temperature",
                "contrast_temperature",
                "teacher_text_rate",
                "teacher_audio_rate",
                "teacher_vision_rate",
            )
            for value in (0, -1.0, math.inf)
        ],
        *[(name, 1, "true or false") for name in ("prompt", "symmetric")],
        *[(name, "other", f"one of {', '.join(values)}") for name, values in CHOICES.items()],
    ],
)
def test_the_config_refuses(name, value, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared below)
        MFONConfig(**{name: value})
    assert str(caught.value) == f"{name}: expected {expected}, got {value!r}"


@pytest.mark.parametrize("head", ["iemocap", "humor"])
def test_own_labels_are_scores(head):
    with pytest.raises(ValueError, match=f"teacher_label: expected joint with head='{head}'"):
        MFONConfig(head=head, teacher_label="own")


def test_every_field_is_checked():
    """The checks go by the fields' names; a new field must not slip through."""
    for field in fields(MFONConfig):
        with pytest.raises(ValueError, match=f"{field.name}: expected"):
            MFONConfig(**{field.name: object()})

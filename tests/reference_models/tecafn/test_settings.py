"""TeCaFN's settings: rows of the tables, presets, and what is refused."""

import math
from dataclasses import fields
from itertools import product

import pytest
import torch

from reference_models.layers.inputs import MODALITIES
from reference_models.layers.transformer import DROPOUTS
from reference_models.tecafn.settings import CHOICES, PRESETS, TABLES, TeCaFNConfig
from reference_models.training_config import TrainingConfig
from tests.reference_models.batches import (
    batch_of,
)
from tests.reference_models.tecafn.test_network import network

ROWS = {
    ("headline", "TeCaFN"): set(),
    ("contrast", "full"): set(),
    ("contrast", "wo_contrast"): {"contrast_weight", "pair_weight", "gate"},
    ("ablation", "full"): set(),
    **{("ablation", f"wo_L_{row}"): {"unimodal_contrast"} for row in ("ta", "tv", "ta_L_tv")},
    ("ablation", "wo_L_bicon"): {"bimodal_contrast"},
    **{("ablation", f"wo_L_{row}"): {"gate"} for row in ("tap", "tvp", "tap_tvp")},
    **{("ablation", f"wo_Hardneg_{row}"): {"hard_mining"} for row in ("ta", "tv", "ta_tv")},
    **{("ablation", f"wo_{row}"): {"modalities"} for row in ("V", "A", "V_A")},
    **{
        ("sweep_p", f"0.{n}"): {"probability"} - ({"probability"} if n == 7 else set())
        for n in range(1, 10)
    },
    **{
        ("sweep_num", n): {"pool_size"} if n != "3" else set() for n in ("3", "5", "10", "15", "30")
    },
    ("centre_modality", "TeCaFN"): set(),
    ("centre_modality", "AeCaFN"): {"center"},
    ("centre_modality", "VeCaFN"): {"center"},
}


LEFT = {
    "wo_L_ta": ("vision",),
    "wo_L_tv": ("audio",),
    "wo_L_ta_L_tv": (),
    "wo_L_tap": ("vision",),
    "wo_L_tvp": ("audio",),
    "wo_L_tap_tvp": (),
    "wo_Hardneg_ta": ("vision",),
    "wo_Hardneg_tv": ("audio",),
    "wo_Hardneg_ta_tv": (),
    "wo_V": ("text", "audio"),
    "wo_A": ("text", "vision"),
    "wo_V_A": ("text",),
}


def test_every_row_of_the_tables_has_its_settings():
    found = {(table, row) for table, rows in TABLES.items() for row in rows}
    assert found == set(ROWS)
    for (table, row), expected in ROWS.items():
        overrides = dict(TABLES[table][row])
        for name, modalities in LEFT.items():
            if row == name:
                assert list(overrides.values()) == [modalities]
        changed = {"modalities"} if overrides.pop("modalities", None) else set()
        config = TeCaFNConfig(**overrides)
        changed |= {f.name for f in fields(config) if getattr(config, f.name) != f.default}
        assert changed == expected, (table, row)
    assert [TABLES["sweep_p"][f"0.{n}"]["probability"] for n in (1, 5, 9)] == [0.1, 0.5, 0.9]
    assert [v["pool_size"] for v in TABLES["sweep_num"].values()] == [3, 5, 10, 15, 30]
    assert TABLES["centre_modality"]["VeCaFN"] == {"center": "vision"}


@pytest.mark.parametrize(("table", "row"), list(ROWS))
def test_every_row_of_the_tables_trains_a_step(table, row):
    overrides = dict(TABLES[table][row])
    modalities = overrides.pop("modalities", MODALITIES)
    settings = {"seed": 1, "probability": 0.7, **overrides}
    model, batch = network(modalities, **settings).train(), batch_of(12, modalities)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    before = model.eval()(batch).terms.total.item()
    output = model.train()(batch)
    output.terms.total.backward()
    optimizer.step()
    assert output.terms.total.isfinite()
    assert model.eval()(batch).terms.total.item() != before
    # What the row changes reaches the total: only what changes nothing has the default's.
    usual = network(seed=1).train()(batch_of(12))
    assert (output.terms.total.item() == usual.terms.total.item()) == (not ROWS[table, row])


def test_presets_are_settings():
    model, training = ({f.name for f in fields(c)} for c in (TeCaFNConfig, TrainingConfig))
    for preset in PRESETS.values():
        assert set(preset) <= model | training
        TeCaFNConfig(**{k: v for k, v in preset.items() if k in model})
        config = TrainingConfig(**{k: v for k, v in preset.items() if k in training})
        assert (config.learning_rate, config.head_learning_rate) == (5e-5, 1e-3)
        assert (config.weight_decay, config.max_grad_norm, config.batch_size) == (1e-4, 1.0, 32)
    assert [PRESETS[name]["probability"] for name in ("mosi", "mosei")] == [0.7, 0.4]
    assert PRESETS["ur_funny"]["head"] == "humor"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *product(
            ("hidden_size", "layers", "heads", "contrast_size", "pool_size"),
            (0, 2.0, True),
            ("a whole number from 1",),
        ),
        ("heads", 7, "a divisor of hidden_size=30"),
        *product((*DROPOUTS, "head_dropout"), (1.0, -0.1, "0.5"), ("a number from 0, below 1",)),
        *product(
            ("contrast_weight", "pair_weight"), (-1.0, math.nan, math.inf), ("a number from 0",)
        ),
        *product(("temperature",), (0.0, -1.0, math.nan), ("a number above 0",)),
        *product(("probability",), (-0.1, 1.1, None), ("a number from 0 to 1",)),
        *product(("lstm", "normalize", "bimodal_contrast"), (1, "true"), ("true or false",)),
        *product(
            ("unimodal_contrast", "gate", "hard_mining"),
            ("audio", ["audio"], ("smell",), None, True),
            ("a tuple of some of text, audio, vision",),
        ),
        *[
            (name, "other", "one of " + ", ".join("none" if v is None else v for v in values))
            for name, values in CHOICES.items()
        ],
    ],
)
def test_the_config_refuses(name, value, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared below)
        TeCaFNConfig(**{name: value})
    assert str(caught.value) == f"{name}: expected {expected}, got {value!r}"

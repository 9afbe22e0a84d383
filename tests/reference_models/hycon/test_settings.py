"""HyCon's settings: rows of the tables, presets, and what is refused."""

import math
from dataclasses import fields

import pytest

from reference_models.hycon.settings import CHOICES, TABLES, HyConConfig
from tests.reference_models.batches import (
    THREE,
    batch_of,
)
from tests.reference_models.hycon.test_network import SMALL, STILL, network

ROWS = {
    "wo_contrastive": {"intra_weight", "inter_weight", "semi_weight"},
    "wo_refinement": {"refine"},
    "wo_margin_alpha": {"margin"},
    "wo_IAMCL": {"intra_weight"},
    "wo_IEMCL": {"inter_weight"},
    "wo_SCL": {"semi_weight"},
    "HyCon": set(),
    "v2_wo_positive_selection": {"supervised_loss", "select_positives"},
    "v2_wo_negative_selection": {"supervised_loss", "select_negatives"},
    "HyCon-v2": {"supervised_loss"},
    "concatenation": {"fusion"},
    "addition": set(),
    "tensor": {"fusion"},
    "graph": {"fusion"},
    "0.5": {"margin"},
    "0.7": {"margin"},
    "0.8": set(),
    "0.9": {"margin"},
    "triplet": {"supervised_loss"},
    "hard_triplet": {"supervised_loss"},
    "n_pair": {"supervised_loss"},
    "classical_contrastive": {"supervised_loss"},
    "full": set(),
    "wo_contrast": {"intra_weight", "inter_weight", "semi_weight"},
}


SETTINGS = {row: overrides for rows in TABLES.values() for row, overrides in rows.items()}


def test_a_row_is_the_same_in_every_table():
    for rows in TABLES.values():
        for row, overrides in rows.items():
            assert overrides == SETTINGS[row]


def test_every_row_of_the_tables_has_its_settings():
    assert set(SETTINGS) == set(ROWS)
    for row, overrides in SETTINGS.items():
        config = HyConConfig(**overrides)
        changed = {
            field.name for field in fields(config) if getattr(config, field.name) != field.default
        }
        assert changed == ROWS[row]


@pytest.mark.parametrize("row", list(ROWS))
@pytest.mark.parametrize("modalities", [("audio", "vision"), THREE], ids=len)
def test_every_row_of_the_tables_runs(row, modalities):
    config = HyConConfig(**{**SMALL, **STILL, **SETTINGS[row]})
    model, batch = network(config, modalities).train(), batch_of(12, modalities)
    output = model(batch)
    output.terms.total.backward()
    assert output.terms.total.isfinite()
    assert list(output.terms) == ["task", "intra", "inter", "semi"]
    for p in model.parameters():
        assert p.grad.isfinite().all()
    off = {name for name, weight in output.terms.weights.items() if weight == 0}
    assert off == {field.removesuffix("_weight") for field in ROWS[row] if "weight" in field}
    for name in off:
        assert output.terms[name].item() == 0
    # What the row changes reaches the total: no other row than the default's gives its value.
    usual = network(HyConConfig(**SMALL, **STILL), modalities).train()(batch)
    assert (output.terms.total.item() == usual.terms.total.item()) == (not ROWS[row])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("hidden_size", 0, "a whole number from 1"),
        ("hidden_size", 50.0, "a whole number from 1"),
        ("heads", 7, "a divisor of hidden_size=50"),
        ("heads", 0, "a whole number from 1"),
        ("layers", -1, "a whole number from 0"),
        ("layers", True, "a whole number from 0"),
        ("kernel_size", 4, "an odd number from 1"),
        ("kernel_size", -1, "an odd number from 1"),
        ("inter_factor", 0, "a whole number from 1"),
        *[
            (name, value, "a number from 0, below 1")
            for name in STILL
            for value in (1.0, -0.1, "0.5")
        ],
        *[
            (name, value, "a number from 0")
            for name in ("intra_weight", "inter_weight", "semi_weight")
            for value in (-1.0, math.nan, math.inf)
        ],
        ("margin", 1.1, "a number from -1 to 1"),
        ("margin", None, "a number from -1 to 1"),
        ("selection_fraction", 0, "a number above 0, up to 1"),
        ("selection_fraction", 1.5, "a number above 0, up to 1"),
        ("selection_gamma", 0.0, "a number above 0"),
        *[
            (name, 1, "true or false")
            for name in ("refine", "log", "select_positives", "select_negatives")
        ],
        *[(name, "other", f"one of {', '.join(values)}") for name, values in CHOICES.items()],
    ],
)
def test_the_config_refuses(name, value, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared below)
        HyConConfig(**{name: value})
    assert str(caught.value) == f"{name}: expected {expected}, got {value!r}"

"""CorMulT's settings: rows of the tables, presets, and what is refused."""

import math
from dataclasses import fields

import pytest
import torch

from reference_models.cormult.settings import CHOICES, PRESETS, TABLES, CorMulTConfig
from reference_models.training_config import TrainingConfig
from tests.reference_models.batches import (
    THREE,
    batch_of,
)
from tests.reference_models.cormult.test_network import network

ROWS = {
    "headline": {"CorMulT": {}},
    "strategy": {"A": "negative_strategy", "B": "negative_strategy", "C": "negative_strategy"}
    | {"D": None},
    "distance": dict.fromkeys(("euclidean", "manhattan", "chebyshev", "mahalanobis"), "distance")
    | {"cosine": None},
    "pretrained_modalities": {
        "comb": "pretrain",
        "A+T": "pretrain_modalities",
        "V+T": "pretrain_modalities",
        "V+A+T": None,
    },
    "contrast": {"full": None, "wo_contrast": "use_correlation"},
}


EVERY_ROW = [(table, row) for table, rows in TABLES.items() for row in rows]


def test_every_row_of_the_tables_has_its_setting():
    assert {table: set(rows) for table, rows in TABLES.items()} == {
        table: set(rows) for table, rows in ROWS.items()
    }
    for table, row in EVERY_ROW:
        config = CorMulTConfig(**TABLES[table][row])
        changed = [f.name for f in fields(config) if getattr(config, f.name) != f.default]
        assert changed == ([ROWS[table][row]] if ROWS[table][row] else []), row


@pytest.mark.parametrize("modalities", [("text", "vision"), THREE], ids=len)
@pytest.mark.parametrize(("table", "row"), EVERY_ROW)
def test_every_row_of_the_tables_trains_a_step(table, row, modalities):
    model, batch = network(modalities, **TABLES[table][row]), batch_of(8, modalities)
    for part in [*(stage.network for stage in model.stages()), model]:
        before = [p.clone() for p in part.parameters()]
        terms = part.train()(batch).terms
        assert terms.total.isfinite()
        terms.total.backward()
        torch.optim.SGD(part.parameters(), lr=0.1).step()
        moved = [not torch.equal(p, q) for p, q in zip(before, part.parameters(), strict=True)]
        assert any(moved)
        part.requires_grad_(part is model).eval()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_fields_of_the_two_configs(name):
    own = {field.name for field in fields(CorMulTConfig)}
    preset = PRESETS[name]
    CorMulTConfig(**{k: v for k, v in preset.items() if k in own})
    TrainingConfig(**{k: v for k, v in preset.items() if k not in own})
    assert not own & {field.name for field in fields(TrainingConfig)}


WHOLE = [field.name for field in fields(CorMulTConfig) if field.type is int]
SHARES = [field.name for field in fields(CorMulTConfig) if field.name.endswith("dropout")]
SAID = [field.name for field in fields(CorMulTConfig) if field.type is bool]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *[(name, value, "a whole number from 1") for name in WHOLE for value in (0, 2.0, True)],
        *[(name, value, "a number from 0, below 1") for name in SHARES for value in (1.0, -0.1)],
        *[(name, 1, "true or false") for name in SAID],
        *[(name, "other", f"one of {', '.join(values)}") for name, values in CHOICES.items()],
        ("heads", 4, "a divisor of hidden_size=30"),
        ("evaluator_heads", 3, "a divisor of evaluator_size=128"),
        ("noise", 0.0, "a number above 0"),
        ("noise", math.inf, "a number above 0"),
        ("pretrain_learning_rate", 0, "a number above 0"),
        ("margin", -0.1, "a number from 0"),
        ("margin", math.nan, "a number from 0"),
        ("replaced_tokens", 1.1, "a number from 0 to 1"),
        ("replaced_tokens", -0.1, "a number from 0 to 1"),
        *[
            ("pretrain_modalities", value, f"two or more of {THREE}")
            for value in (("text",), ("text", "text"), ("text", "smell"), ["text", "audio"], "text")
        ],
    ],
)
def test_the_config_refuses(name, value, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared below)
        CorMulTConfig(**{name: value})
    assert str(caught.value) == f"{name}: expected {expected}, got {value!r}"

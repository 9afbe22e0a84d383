"""The training's settings: impossible values are refused by name."""

import math

import pytest

from reference_models.training_config import TrainingConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", "fast"),
        ("head_learning_rate", -1.0),
        ("head_learning_rate", True),
        ("weight_decay", -0.1),
        ("batch_size", 0),
        ("batch_size", 2.0),
        ("gradient_accumulation", 0),
        ("epochs", 0),
        ("epochs", True),
        ("patience", -1),
        ("schedule", "cosine"),
        ("warmup_ratio", 1.0),
        ("max_grad_norm", -1.0),
        ("max_grad_norm", math.inf),
        ("max_text_length", 2),
        ("standardize", 1),
        ("precision", "fp8"),
        ("missing_rate", 1.1),
        ("missing_rate", -0.1),
        ("missing_mode", "fixed-modalities"),
        ("selection", "best"),
    ],
)
def test_an_impossible_value_names_the_field(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .*, got {value!r}$"):
        TrainingConfig(**{name: value})

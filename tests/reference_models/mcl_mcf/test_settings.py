"""MCL-MCF's settings: rows of the tables, presets, and what is refused."""

import math
from dataclasses import fields

import pytest
import torch

from reference_models.mcl_mcf.image_fusion import BACKBONES
from reference_models.mcl_mcf.levels import LEVELS
from reference_models.mcl_mcf.settings import CHOICES, PRESETS, TABLES, MclMcfConfig
from reference_models.registry import find
from reference_models.training_config import TrainingConfig
from tests.reference_models.mcl_mcf.test_network import _own_fields, batch_of, network, single


def test_presets_are_settings_that_there_are():
    training = {field.name for field in fields(TrainingConfig)}
    configs = {}
    for name, preset in PRESETS.items():
        assert set(preset) <= _own_fields() | training
        configs[name] = MclMcfConfig(**{k: v for k, v in preset.items() if k in _own_fields()})
        TrainingConfig(**{k: v for k, v in preset.items() if k in training})
    assert [configs[k].channels for k in ("mosi", "mosei", "sims")] == [
        (4, 6, 1),
        (2, 4, 1),
        (4, 7, 1),
    ]
    assert [configs[k].third_weight for k in ("mosi", "mosei")] == [0.05, 0.02]


def test_every_published_row_has_its_settings():
    for table, by_set in find("mcl-mcf").printed["tables"].items():
        for published in by_set.values():
            assert set(published["rows"]) == set(TABLES[table]), table
    rows = [row for table in TABLES.values() for row in table.values()]
    assert all(set(row) <= _own_fields() for row in rows)


@pytest.mark.parametrize(
    ("table", "row", "missing"),
    [
        ("ablation", "full", []),
        ("ablation", "wo_MCL_F", ["first"]),
        ("ablation", "wo_MCL_S", ["second"]),
        ("ablation", "wo_MCL_T", ["third"]),
        ("ablation", "wo_MCL", LEVELS),
        ("ablation", "wo_MCF", []),
        ("pair_design", "A", []),
        ("pair_design", "B", []),
        ("pair_design", "C", []),
        ("contrast", "wo_contrast", LEVELS),
        *(("multimodal_image", row, LEVELS) for row in TABLES["multimodal_image"]),
    ],
)
def test_every_row_of_the_tables_trains_a_step(table, row, missing):
    side = 48 if table == "multimodal_image" else 8
    model = network(**{**TABLES[table][row], "tcf_size": side}).train()
    batch = single(batch_of(6))
    before = model(batch).terms
    before.total.backward()
    trained = [p for p in model.parameters() if p.grad is not None]
    # A step that lowers the total by a thousandth, where the loss is a plane.
    step = 1e-3 * before.total / sum(p.grad.square().sum() for p in trained)
    with torch.no_grad():
        for parameter in trained:
            parameter -= step * parameter.grad
    after = model(batch).terms
    assert after.total.item() == pytest.approx(0.999 * before.total.item(), rel=2e-4)
    assert [level for level in LEVELS if before.weights[level] == 0] == list(missing)
    # What the row changes reaches the total: no other row than the default's gives its value.
    usual = network(tcf_size=side).train()(batch).terms.total
    assert (usual == before.total) == ((table, row) in {("ablation", "full"), ("pair_design", "A")})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *[
            (name, value, "a whole number from 1")
            for name in ("hidden_size", "fusion_size", "head_size", "contrast_size")
            for value in (0, 2.0, True)
        ],
        ("tcf_size", 6, "a whole number from 7"),
        ("tcf_size", 64.0, "a whole number from 7"),
        *[
            ("channels", value, "three whole numbers from 1")
            for value in ((4, 6), (4, 0, 1), (4, 6, 1.0), 4, [4, 6, 1])
        ],
        *[
            (name, value, "a number from 0, below 1")
            for name in ("head_dropout", "image_mask")
            for value in (1.0, -0.1, "0.5")
        ],
        *[
            (f"{level}_weight", value, "a number from 0")
            for level in LEVELS
            for value in (-1.0, math.nan, None)
        ],
        ("temperature", 0.0, "a number above 0"),
        *[
            (name, 1, "true or false")
            for name in ("learnable_temperature", "symmetric", "share_tcf_mcf")
        ],
        *[(name, "other", f"one of {', '.join(values)}") for name, values in CHOICES.items()],
        ("image_backbone", "vgg", f"none or {', '.join(BACKBONES)}"),
        ("image_layers", 0, "none or a whole number from 1"),
        ("image_heads", 1.0, "none or a whole number from 1"),
    ],
)
def test_the_config_refuses(name, value, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared below)
        MclMcfConfig(**{name: value})
    assert str(caught.value) == f"{name}: expected {expected}, got {value!r}"


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_a_learned_temperature_starts_within_its_bounds(temperature):
    MclMcfConfig(temperature=temperature)
    with pytest.raises(
        ValueError, match=f"^temperature: expected between 0.01 and 1, to learn, got {temperature}$"
    ):
        MclMcfConfig(temperature=temperature, learnable_temperature=True)


@pytest.mark.parametrize(("name", "side"), [("resnet18", 32), ("mae", 40)])
def test_a_side_that_the_backbone_cannot_read_is_refused(name, side):
    with pytest.raises(ValueError, match=f"^tcf_size: expected .* for {name}, got {side}$"):
        MclMcfConfig(image_backbone=name, tcf_size=side)

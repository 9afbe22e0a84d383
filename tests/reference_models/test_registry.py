"""The models by name, and ``key=value`` settings."""

from dataclasses import fields

import pytest

from reference_models.keys import configure, override
from reference_models.registry import MODELS, find


def test_an_unknown_model_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"^model: expected one of hycon, hycon-v2.*, got 'bert'$"):
        find("bert")


def test_the_second_version_is_the_first_with_selected_pairs():
    first, second = find("hycon").config, find("hycon-v2").config
    differing = [f.name for f in fields(first) if getattr(first, f.name) != getattr(second, f.name)]
    assert differing == ["supervised_loss"]
    assert second.supervised_loss == "hycon_v2"


def test_models_that_predict_from_one_modality_take_one():
    """Contrast across modalities, or a fusion, needs two."""
    assert {name for name, model in MODELS.items() if model.fewest == 1} == {
        *("tecafn", "mfon", "text-only")
    }


@pytest.mark.parametrize("name", MODELS)
def test_presets_and_rows_are_made_of_known_fields(name):
    entry = MODELS[name]
    for preset in entry.presets:
        model, training = configure(entry, preset=preset)
        assert {"head_learning_rate", "epochs"} <= vars(training).keys()
        assert model != entry.config or training != entry.training
    for rows in entry.tables.values():
        for overrides in rows.values():
            changes = {k: v for k, v in overrides.items() if k != "modalities"}
            model, training = override(entry.config, entry.training, changes)
            for key, value in changes.items():
                assert getattr(model if hasattr(model, key) else training, key) == value

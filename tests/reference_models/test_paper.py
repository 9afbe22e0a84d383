"""The record of a paper: defaults, and the numbers in its folder."""

import json
from dataclasses import dataclass

import pytest

from reference_models.layers.inputs import MODALITIES
from reference_models.paper import Paper
from reference_models.registry import MODELS
from reference_models.training_config import FINE_TUNING


@dataclass(frozen=True)
class Settings:
    head: str = "regression"


def paper(**changes):
    return Paper("toy", "a toy", "none", Settings(), build=None, **changes)


def test_without_tables_there_is_one_row_of_the_settings_as_they_are():
    assert paper().tables == {"headline": {"toy": {}}}
    tables = {"ablation": {"full": {}}}
    assert paper(tables=tables).tables == tables
    assert paper().training == FINE_TUNING


@pytest.mark.parametrize(("fewest", "reads"), [(2, ("text",)), (0, ("text",)), (4, MODALITIES)])
def test_a_model_runs_on_no_more_modalities_than_it_reads(fewest, reads):
    expected = f"^fewest of toy: expected 1 to {len(reads)}, as many .* got {fewest}$"
    with pytest.raises(ValueError, match=expected):
        paper(fewest=fewest, reads=reads)
    assert paper(fewest=len(reads), reads=reads).fewest == len(reads)


def test_without_a_file_nothing_is_published():
    assert paper().printed == {"setting": {}, "measured_as": {}, "tables": {}}


def test_the_file_is_read_when_it_is_asked_for(tmp_path):
    found = paper(published=tmp_path / "published.json")
    content = {"setting": {"runs": "one"}, "measured_as": {}, "tables": {"headline": {}}}
    (tmp_path / "published.json").write_text(json.dumps(content))
    assert found.printed == content


@pytest.mark.parametrize("name", MODELS)
def test_every_folder_says_all_of_its_models(name):
    found = MODELS[name]
    assert found.name == name
    assert found.summary
    assert found.citation, 'citation: give it, or "none"'
    assert type(found.config)().head == "regression"
    assert found.build.__module__.startswith("reference_models.")
    if found.citation == "none":
        assert found.published is None
    else:
        assert found.published is not None, f"add published= to {name}: the paper's numbers"
        assert found.published.is_file(), f"add {found.published}"

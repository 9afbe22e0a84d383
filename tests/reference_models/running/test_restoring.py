"""A run's network comes back from its folder whole, or not at all; without checksums, too."""

import json
import shutil

import pytest
import safetensors.torch
import torch

from mmcontrast import LearnableTemperature
from reference_models.running import restoring, runs, storage
from reference_models.running.restoring import load
from tests.reference_models.layers.test_text_encoder import MODULE


@pytest.fixture
def copy(finished, tmp_path):
    """A finished run as an earlier version left it: no checksums, so that all is looked at."""
    folder = shutil.copytree(finished[0], tmp_path / "run")
    results = storage.read_json(folder / "metrics.json")
    del results["sha256"]
    storage.write(folder / "metrics.json", storage.json_text(results))
    return folder


def test_a_run_without_checksums_is_evaluated(copy):
    assert runs.evaluate(copy) == storage.read_json(copy / "metrics.json")["test"]


PARTS = ("standardizer.json", "tokenizer", "text_encoder", "model.safetensors")


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_missing_is_not_done_without(name, copy):
    """Without its scale, the features were read as they are, and other numbers came out."""
    storage.remove(copy / name)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"{name}: expected a f"):
        load(copy)


@pytest.mark.parametrize("name", ["tokenizer", "text_encoder"])
def test_a_file_in_the_place_of_a_folder(name, copy):
    storage.remove(copy / name)
    (copy / name).write_text("a name on the hub?")
    with pytest.raises(ValueError, match=f"{name}: expected a folder, got a file"):
        load(copy)


ODD = {
    "another model": {"model": "of tomorrow"},
    "text for a size": {"model_config": {"hidden_size": "10"}},
    "an enormous size": {"model_config": {"hidden_size": 10**17}},
    "a size that fits in no memory": {"model_config": {"hidden_size": 2_000_000}},
    "heads that do not divide": {"model_config": {"heads": 3}},
    "a list for a size": {"model_config": {"layers": [1]}},
    "another network": {"model_config": {"hidden_size": 20}},
    "an odd training": {"training": {"learning_rate": "fast"}},
    "a list in the training": {"training": {"schedule": ["linear"]}},
    "another column": {"text": {"column": "smell"}},
    "sizes of text": {"sizes": {"audio": "16"}},
    "no sizes": {"sizes": None},
    "no path": {"data": {"path": None}},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD)
def test_settings_of_no_network_are_one_line(changes, copy):
    config = storage.read_json(copy / "config.json")
    for section, values in changes.items():
        merged = isinstance(values, dict) and isinstance(config[section], dict)
        config[section] = config[section] | values if merged else values
    storage.write(copy / "config.json", json.dumps(config))
    with pytest.raises(ValueError, match="expected") as caught:
        load(copy)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_an_encoder_of_another_size_is_not_even_allocated(copy):
    path = copy / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 2**40}))
    with pytest.raises(ValueError, match=r"model\.safetensors: expected the weights of the netw"):
        load(copy)


@pytest.mark.parametrize("content", ["[]", "{}", '{"mean": 3}', '{"mean": {"a": "b"}, "std": {}}'])
def test_a_scale_of_another_kind(content, copy):
    (copy / "standardizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"standardizer\.json: expected means and deviations"):
        load(copy)


def test_code_in_a_run_folder_never_runs(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    for place in ("text_encoder", "tokenizer"):
        (copy / place / "code.py").write_text(MODULE.format(mark=str(tmp_path / "mark")))
    path = copy / "text_encoder" / "config.json"
    words = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    content = json.loads(path.read_text()) | {"auto_map": words, "model_type": "of_its_own"}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="Python code of its own, which never runs here"):
        load(copy)
    assert not (tmp_path / "mark").exists()


def test_the_data_file_must_still_be_the_one_of_the_run(copy, file, tmp_path):
    other = shutil.copy(file, tmp_path / "corpus.pkl")
    config = storage.read_json(copy / "config.json")
    config["data"] |= {"path": str(other), "sha256": "0" * 64}
    storage.write(copy / "config.json", json.dumps(config))
    with pytest.raises(ValueError, match=r"corpus\.pkl: expected the file that the run .* --data$"):
        runs.evaluate(copy)
    assert runs.evaluate(copy, data=str(other))


def test_a_temperature_without_a_dimension_is_restored(copy, monkeypatch):
    """As a run of an older version saved it, in which learned temperatures were 0-d."""
    network = restoring._network

    def with_temperature(*arguments):
        model, encoder = network(*arguments)
        model.temperature = LearnableTemperature()
        return model, encoder

    monkeypatch.setattr(restoring, "_network", with_temperature)
    weights = storage.read_tensors(copy / "model.safetensors")
    for theta in (torch.tensor(0.7), torch.tensor([0.7])):
        weights["temperature.theta"] = theta
        weights["temperature._extra_state"] = torch.tensor([0.02, 5.0], dtype=torch.float64)
        safetensors.torch.save_file(weights, copy / "model.safetensors")
        assert load(copy).model.temperature.theta.tolist() == pytest.approx([0.7])

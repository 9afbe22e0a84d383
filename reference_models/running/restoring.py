"""A finished run's network, restored from its folder alone."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from reference_models import keys, registry
from reference_models.data.batch import Standardizer
from reference_models.layers.text_encoder import load_tokenizer, rebuild_text_encoder
from reference_models.running import folders, records, storage
from reference_models.running.parts import Parts
from reference_models.training_config import TrainingConfig

# What evaluation reads of config.json beyond what every reader does.
NEEDED = {"data.path": str, "data.task": str, "sizes": dict}
COLUMNS = (None, "features", "raw_text", "text_bert")


def load(folder: Path) -> Parts:
    """A finished run from its folder alone, with its best weights.

    Raises:
        ValueError: a folder that holds no finished run; a file in it that is missing, cut, changed
            or makes no sense.
    """
    check_finished(folder)
    config, path = records.run_config(folder), folder / "config.json"
    records.expect_fields(config, NEEDED, path)
    training = keys.rebuild(TrainingConfig, config["training"])
    column = config["text"].setdefault("column", None)
    if column not in COLUMNS:
        raise ValueError(f"{path}: expected one of {COLUMNS} as text.column, got {column!r:.60}")
    tokenizer = standardizer = None
    if column == "raw_text":
        tokenizer = load_tokenizer(_folder_of(folder, "tokenizer"))
    if training.standardize:
        standardizer = _standardizer(records.written(folder, "standardizer.json"))
    weights = records.written(folder, "model.safetensors")
    with torch.device("meta"):  # sizes alone: forged ones could take all of the memory
        sizes = _network(folder, config)[0].state_dict()
    # Learned temperatures of shape (1,) were 0-d in older releases; they load either way.
    found = {name: shape or (1,) for name, shape in storage.read_shapes(weights).items()}
    if {name: value.shape or (1,) for name, value in sizes.items()} != found:
        raise ValueError(
            f"{weights}: expected the weights of the network of config.json, got others;"
            f" {records.REPAIR}"
        )
    model, encoder = _network(folder, config)
    load_weights(model, weights)
    return Parts(config, model, tokenizer, encoder, standardizer)


def check_finished(folder: Path) -> None:
    """Refuse what is no finished run; a folder of runs has one of them named.

    Raises:
        ValueError: says what it is.
    """
    if folders.state(folder) != "finished":
        below = sorted(folder.glob("*/metrics.json")) + sorted(folder.glob("*/*/metrics.json"))
        hint = f"; {below[0].parent} is one" if below else ""
        raise ValueError(f"{folder}: expected a finished run, got {folders.in_words(folder)}{hint}")


def _network(folder: Path, config: dict[str, Any]) -> tuple[nn.Module, PreTrainedModel | None]:
    """The network of a run's config, and the text encoder in it; the weights are random."""
    paper, encoder = registry.find(config["model"]), None
    if config["text"]["column"] in ("raw_text", "text_bert"):
        encoder = rebuild_text_encoder(_folder_of(folder, "text_encoder"))
    try:
        model_config = keys.rebuild(type(paper.config), config["model_config"])
        return paper.build(model_config, config["sizes"], encoder), encoder
    except Exception as error:  # settings from elsewhere: wrong in ways that no check foresees
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{folder / 'config.json'}: expected the settings of a network, got some of which none"
            f" can be built ({words})"
        ) from error


def _folder_of(run: Path, name: str) -> Path:
    """A folder in a run's; a path that is none would be taken for a name on the hub."""
    folder = records.written(run, name)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder, got a file; {records.REPAIR}")
    return folder


def _standardizer(path: Path) -> Standardizer:
    try:
        return Standardizer.from_dict(storage.read_json(path))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected means and deviations by modality, got something else ({error})"
        ) from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights of a network, all of them.

    Raises:
        ValueError: no file, a damaged one, or one of another network.
    """
    tensors = storage.read_tensors(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected the weights of this network, got others ({words:.200})"
        ) from error

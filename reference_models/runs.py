"""One run: its training into a folder, and its evaluation from there."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
from transformers import AutoConfig, AutoModel

from reference_models import folders, registry
from reference_models.data.batch import Standardizer
from reference_models.data.mmsa import Corpus, load_mmsa
from reference_models.encoders import load_tokenizer
from reference_models.metrics import regression_metrics
from reference_models.parts import Parts
from reference_models.training import SELECTION, device, fit, predict


def train(parts: Parts, corpus: Corpus, folder: Path) -> dict[str, Any]:
    """Train into a run folder, or go on with the run in it, and return what ``metrics.json`` holds.

    Raises:
        ValueError: a folder that holds a finished run, another run or other files; a loss that is
            not finite any more.
    """
    sets = {split: parts.dataset(corpus, split) for split in corpus.splits}
    folders.open_run(folder, parts.config)
    if parts.tokenizer is not None:
        folders.write_folder(folder / "tokenizer", parts.tokenizer.save_pretrained)
    if parts.text_encoder is not None:
        folders.write_folder(folder / "text_encoder", parts.text_encoder.config.save_pretrained)
    if parts.standardizer is not None:
        scales = folders.json_text(parts.standardizer.to_dict())
        folders.write(folder / "standardizer.json", scales)
    best_epoch, history = fit(
        parts.model,
        sets["train"],
        sets["valid"],
        parts.training,
        checkpoints=folder.resolve() / folders.CHECKPOINTS,
        seed=parts.config["seed"],
        pretrained=parts.config["text"]["encoder"] not in (None, "scratch"),
        on_epoch=lambda rows: folders.write_history(folder, rows),
    )
    folders.write_history(folder, history)
    results, lines, fused = {}, [], {}
    for split in ("valid", "test"):
        part = corpus.splits[split]
        predictions, features = predict(
            parts.model, sets[split], batch_size=parts.training.batch_size
        )
        results[split] = metrics(predictions, part.labels)
        fused[split] = features
        rows = zip(part.ids, part.labels.tolist(), predictions.tolist(), strict=True)
        lines += [{"split": split, "id": i, "label": y, "prediction": p} for i, y, p in rows]
    folders.write(folder / "predictions.csv", folders.csv_text(lines))
    folders.write(folder / "fused.safetensors", safetensors.numpy.save(fused))
    weights = {name: value.cpu().contiguous() for name, value in parts.model.state_dict().items()}
    folders.write(folder / "model.safetensors", safetensors.torch.save(weights, {"format": "pt"}))
    results |= {"best_epoch": best_epoch, "epochs": len(history), "selection": SELECTION}
    folders.write(folder / "metrics.json", folders.json_text(results))
    shutil.rmtree(folder / folders.CHECKPOINTS)
    return results


def metrics(predictions: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """All regression metrics, those of the MAG-BERT protocol under ``"mag_bert"``."""
    own = regression_metrics(predictions, labels, protocol="mag_bert")
    return {**regression_metrics(predictions, labels), "mag_bert": own}


def load(folder: Path) -> Parts:
    """A finished run out of its folder, with its best weights; nothing else is needed.

    Raises:
        ValueError: a folder that holds no finished run.
    """
    found = folders.state(folder)
    if found != "finished":
        raise ValueError(f"{folder}: expected a finished run, got {folders.WORDS[found]}")
    config = folders.read_json(folder / "config.json")
    tokenizer = encoder = standardizer = None
    if (folder / "tokenizer").is_dir():
        tokenizer = load_tokenizer(folder / "tokenizer")
    if (folder / "text_encoder").is_dir():
        encoder = AutoModel.from_config(AutoConfig.from_pretrained(folder / "text_encoder"))
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None
    if (folder / "standardizer.json").is_file():
        standardizer = Standardizer.from_dict(folders.read_json(folder / "standardizer.json"))
    entry = registry.find(config["model"])
    model_config = registry.rebuild(type(entry.config), config["model_config"])
    model = entry.build(model_config, config["sizes"], encoder)
    model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    return Parts(config, model, tokenizer, encoder, standardizer)


def evaluate(folder: Path, *, data: str | None = None, split: str = "test") -> dict[str, Any]:
    """The metrics of a finished run on a split of its own data file, or of another.

    Raises:
        ValueError: no finished run; DataError: no such file, or not what the network reads.
    """
    parts = load(folder)
    corpus = load_mmsa(data or parts.config["data"]["path"])
    parts.model.to(device())
    dataset = parts.dataset(corpus, split)
    predictions, _ = predict(parts.model, dataset, batch_size=parts.training.batch_size)
    return metrics(predictions, corpus.splits[split].labels)

"""A run in words, before it starts."""

from pathlib import Path

from reference_models.running.checkpoints import epochs_done
from reference_models.running.devices import device
from reference_models.running.parts import Parts
from reference_models.training_config import SELECTIONS, TrainingConfig


def describe(parts: Parts, folder: Path) -> str:
    """Model, data, training and device of a run, in a few lines."""
    config, training = parts.config, parts.training
    data, text = config["data"], config["text"]
    known = "" if data["known_as"] is None else f"{data['known_as']}, "
    source = {
        None: "",
        "features": " (its precomputed features)",
    }.get(text["column"], f" ({text['column']}, text encoder {text['encoder']})")
    used = [f"{m}{source if m == 'text' else ''} {size}" for m, size in config["sizes"].items()]
    parameters = sum(p.numel() for p in parts.model.parameters())
    rates = rate_words(training, text["encoder"])
    done = epochs_done(folder)
    lines = {
        "model": f"{config['model']}, {parameters:,} parameters, seed {config['seed']}",
        "data": f"{data['path']} ({known}SHA-256 {data['sha256'][:12]}...)",
        "samples": ", ".join(f"{n} {split}" for split, n in data["samples"].items()),
        "modalities": ", ".join(used),
        "left out": "; ".join(config["left_out"]),
        "training": f"up to epoch {training.epochs}, batches of {training.batch_size},"
        f" learning rate {rates}; keeps {SELECTIONS[training.selection]}",
        "missing": f"{training.missing_rate:g} of each training batch, {training.missing_mode}"
        if training.missing_rate
        else "",
        "device": str(device()),
        "run folder": f"{folder}" + (f", which goes on after epoch {done}" if done else ""),
    }
    return "\n".join(f"{name:<12}{line}" for name, line in lines.items() if line)


def rate_words(training: TrainingConfig, encoder: str | None) -> str:
    """The learning rate, or both where a pretrained text encoder has its own."""
    fresh = f"{training.head_learning_rate or training.learning_rate:g}"
    if encoder in (None, "scratch"):
        return fresh
    return f"{training.learning_rate:g} in the text encoder, {fresh} elsewhere"

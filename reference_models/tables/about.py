"""What a page is about: model, data, encoder, epochs, seeds, versions and date of its runs."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from reference_models.tables.finished import Run
from reference_models.tables.pages import html_table

PACKAGES = ("python", "torch", "mmcontrast", "transformers")


def data_name(runs: Sequence[Run]) -> str:
    """The file's name, for a title: "mosi.pkl"; of several, all of them."""
    return _each(Path(run.config["data"].get("path", "")).name for run in runs)


def model_name(runs: Sequence[Run]) -> str:
    """The model, or the models."""
    return _each(run.config["model"] for run in runs)


def facts_table(runs: Sequence[Run]) -> list[str]:
    """The facts as a table of a page; no runs, no table."""
    return [html_table(["", "these runs"], facts(runs), words=True)] if runs else []


def facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Pairs of a topic and what runs say about it, in the order of a page; no runs, no pairs.

    Where runs differ, a topic has what each of them says. The date is that of the last run.
    """
    if not runs:
        return []
    kept = sorted({run.metrics["best_epoch"] for run in runs})
    most = _each(str(run.config["training"].get("epochs", "?")) for run in runs)
    last = max((run.folder / "metrics.json").stat().st_mtime for run in runs)
    topics = {
        "Model": model_name(runs),
        "Data": _each(data_words(run.config["data"]) for run in runs),
        "Modalities": _each(", ".join(run.config["modalities"]) for run in runs),
        "Text encoder": _each(encoder_words(run.config["text"]) for run in runs),
        "Epochs": f"at most {most}; kept: {kept[0]}" + (f" to {kept[-1]}" if len(kept) > 1 else ""),
        "Seeds": ", ".join(map(str, sorted({run.config["seed"] for run in runs}))),
        "Versions": _each(version_words(run.config.get("versions", {})) for run in runs),
        "Date": f"{date.fromtimestamp(last).isoformat()}, of the last run",
    }
    return [(topic, words) for topic, words in topics.items() if words]


def data_words(data: Mapping[str, Any]) -> str:
    """The file's name, what it is known as, its samples where they are given, and its SHA-256."""
    sizes = "/".join(map(str, data.get("samples", {}).values()))
    words = [
        Path(data.get("path", "")).name,
        data.get("known_as"),
        sizes and f"{sizes} samples",
        f"SHA-256 {data['sha256']}",
    ]
    return ", ".join(word for word in words if word)


def encoder_words(text: Mapping[str, Any]) -> str:
    """The text encoder: a folder by its name, as where it lay on a machine says nothing."""
    if text.get("encoder") is None:
        return "precomputed features" if text.get("column") == "features" else "none"
    return Path(text["encoder"]).name if Path(text["encoder"]).is_absolute() else text["encoder"]


def version_words(versions: Mapping[str, str]) -> str:
    """Python and the packages that numbers depend on."""
    return ", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions)


def _each(words: Any) -> str:
    """What differs, each once, in the order in which it comes."""
    return "; ".join(dict.fromkeys(word for word in words if word))

"""Finished runs, found below folders and grouped: a group differs in nothing but the seed."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reference_models.running import folders, records
from reference_models.tables.statistics import Summary, summaries
from reference_models.training_config import NEWER


class Group(NamedTuple):
    """Runs that differ in nothing but the seed: name, distinguishing settings, folders, metrics."""

    name: str
    settings: dict[str, Any]
    folders: list[Path]
    metrics: dict[str, Summary]


def find_runs(places: Sequence[Path]) -> list[Path]:
    """The finished runs at or below some folders, each once, in order.

    Raises:
        ValueError: a place without a finished run, or with one whose config.json is damaged.
    """
    found: dict[Path, None] = {}
    for place in places:
        here = [place, *sorted(path.parent for path in place.rglob("metrics.json"))]
        finished = [path for path in here if folders.state(path) == "finished"]
        for path in here[1:]:  # passed over, it would be missing from a mean without a word
            if path not in finished and (path / "predictions.csv").exists():
                raise ValueError(f"{path}: expected a finished run, got {folders.in_words(path)}")
        if not finished:
            raise ValueError(f"{place}: expected finished runs in or below it, got none")
        found |= dict.fromkeys(path.resolve() for path in finished)
    return list(found)


def group(runs: Sequence[Path]) -> list[Group]:
    """Group runs with equal settings, the seed aside; find the settings that distinguish groups."""
    members: dict[str, list[Path]] = {}
    settings: dict[str, dict[str, Any]] = {}
    seeds: dict[Path, int] = {}
    for run in runs:
        config = records.run_config(run)
        seeds[run] = config["seed"]
        flat = _flat_settings(config)
        members.setdefault(str(flat), []).append(run)
        settings[str(flat)] = flat
    above = Path(os.path.commonpath([run.parent for run in runs]))
    groups: list[Group] = []
    members = {key: sorted(some, key=lambda run: seeds[run]) for key, some in members.items()}
    names = {key: str(ordered[0].relative_to(above)) for key, ordered in members.items()}
    for key, ordered in members.items():
        results = [records.run_metrics(run)["test"] for run in ordered]
        row = ordered[0].parent
        if ordered[0].name.startswith("seed-"):
            short = row.name if row == above else str(row.relative_to(above))
            names[key] = names[key] if short in names.values() else short
        apart = _apart(settings[key], list(settings.values()))
        groups.append(Group(names[key], apart, ordered, summaries(results)))
    return groups


def swept(groups: Sequence[Group]) -> str | None:
    """The setting in which the groups differ, if it is a single, numeric one."""
    fields = {field for g in groups for field in g.settings}
    values = [value for g in groups for value in g.settings.values()]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return fields.pop() if len(fields) == 1 and numeric else None


def _flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, flat; names of a model's own fields begin with a dot."""
    flat = {"model": config["model"], "modalities": " + ".join(config["modalities"])}
    flat["data"] = config["data"]["sha256"][:12]
    flat |= {f"text {name}": value for name, value in config["text"].items()}
    flat |= {f".{name}": value for name, value in config["model_config"].items()}
    return flat | NEWER | config["training"]


def _apart(own: Mapping[str, Any], every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings that distinguish a run; a model's own fields among runs of that model."""
    apart = {}
    for name, value in own.items():
        peers = [o for o in every if not name.startswith(".") or o["model"] == own["model"]]
        if any(other.get(name) != value for other in peers):
            apart[name.removeprefix(".")] = value
    return apart

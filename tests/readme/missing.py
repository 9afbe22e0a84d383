"""What contrast is worth where modalities are missing: of ``reproduce --missing``."""

import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from reference_models.data.missing import FIXED
from reference_models.running.storage import json_text, write
from reference_models.tables.paired import Difference
from tests.readme.measured import ROWS, in_words, mean_in_words, short
from tests.readme.tables import SPACE, table

FILE = Path(__file__).with_suffix(".json")
MODES = ("random-modalities", FIXED)
MODELS = ("hycon", "tecafn", "mcl-mcf", "mfon", "cormult")
WITH, WITHOUT = "full", "wo_contrast"
METRIC = "mae"
HEAD = ("", "nothing missing", "at random", "subsets")


def add(folder: Path) -> list[str]:
    """Keep the curves of models below a folder, MODEL/table.json and MODEL/missing/MODE.json.

    Those of which both modes are there, in the place of older ones.

    Raises:
        KeyError, StopIteration: a file lacks a row, or the difference of the two.
        ValueError: a file of another model or mode, of another split than the test's, of other
            seeds, or with differences from another row than the one without contrast.
    """
    found = {
        model: _of(folder / model, model)
        for model in MODELS
        if all((folder / model / "missing" / f"{mode}.json").exists() for mode in MODES)
    }
    now = kept() | found
    write(FILE, json_text({model: now[model] for model in MODELS if model in now}))
    kept.cache_clear()
    return list(found)


def _of(folder: Path, model: str) -> dict[str, Any]:
    whole = json.loads((folder / "table.json").read_text())
    runs = {row["name"]: row["measured"] for row in whole["rows"]}
    curves = {m: json.loads((folder / "missing" / f"{m}.json").read_text()) for m in MODES}
    for mode, each in curves.items():
        wanted = {"mode": mode, "split": "test", "against": WITHOUT, "model": model}
        wanted |= {"seeds": ", ".join(map(str, whole["seeds"]))}
        for key, value in wanted.items():
            if each.get(key, value) != value:  # older files name no seeds
                raise ValueError(
                    f"{folder}, {mode}: expected {value!r} as {key}, got {each[key]!r}"
                )
    if (whole["model"], whole["against"]) != (model, WITHOUT):
        raise ValueError(f"{folder}: expected a table of {model} against {WITHOUT}")
    shown = [({row: runs[row][METRIC] for row in (WITH, WITHOUT)}, whole["paired"])]
    for each in curves.values():
        areas = {row: each["rows"][row]["areas"][METRIC] for row in (WITH, WITHOUT)}
        shown.append((areas, each["paired"]))
    subsets = {row: curves[FIXED]["rows"][row]["points"][METRIC] for row in (WITH, WITHOUT)}
    return {
        "values": [means[WITH]["values"] for means, _ in shown],
        "differences": [_difference(paired) for _, paired in shown],
        "subsets": {
            place: [subsets[row][place]["mean"] for row in (WITH, WITHOUT)]
            for place in subsets[WITH]
        },
    }


def _difference(paired: list[dict[str, Any]]) -> dict[str, Any]:
    found = next(each for each in paired if (each["row"], each["metric"]) == (WITH, METRIC))
    return {field.name: found[field.name] for field in fields(Difference)}


@cache
def kept() -> dict[str, Any]:
    """Model -> what :func:`add` has kept of it."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def worth() -> str:
    """Each model's error with contrast, and that minus the one without, under three protocols."""
    lines = []
    for model, found in kept().items():
        cells = [
            f"{mean_in_words(values, METRIC)}; {in_words(Difference(**difference))}"
            for values, difference in zip(found["values"], found["differences"], strict=True)
        ]
        lines.append([ROWS[f"{model}/{WITH}"], *cells])
    return table(HEAD, lines)


def by_subset() -> str:
    """Of every subset of the modalities, each model's error with contrast / without."""
    models = kept()
    places = next(iter(models.values()), {"subsets": {}})["subsets"]
    lines = [
        [place, *(_both(found["subsets"][place]) for found in models.values())] for place in places
    ]
    return table(["", *(ROWS[f"{model}/{WITH}"] for model in models)], lines)


def _both(means: list[float]) -> str:
    return f"{SPACE}/{SPACE}".join(short(f"{mean:.3f}") for mean in means)

"""What the site's pages of papers show out of data: parts, published numbers, deviations."""

import json
from collections.abc import Callable
from functools import partial

from reference_models.registry import MODELS
from tests.readme.deviations import deviations
from tests.readme.measured import measured
from tests.readme.papers import primitives
from tests.readme.tables import code, table

PAPERS = ("hycon", "tecafn", "mcl-mcf", "mfon", "cormult")
"""The models of the pages in ``notebooks/site/papers``, by which their files are named."""


def made_of(model: str) -> str:
    """What of mmcontrast the model's own files use."""
    return ", ".join(map(code, primitives(model)))


def setting(model: str) -> str:
    """What the paper did, as far as it says."""
    found = json.loads(MODELS[model].published.read_text())["setting"]
    return "\n".join(f"* **{topic}**: {text}." for topic, text in found.items())


def published(model: str) -> str:
    """Every table of the paper that is reproduced, with the numbers that it prints."""
    shown = []
    for name, data_sets in json.loads(MODELS[model].published.read_text())["tables"].items():
        for data_set, found in data_sets.items():
            rows = [
                [row, *("" if value is None else f"{value:g}" for value in values)]
                for row, values in found["rows"].items()
            ]
            text = table([f"{name}, {data_set}", *found["columns"]], rows)
            shown.append(f"{text}\n\nNote: {found['note']}." if "note" in found else text)
    return "\n\n".join(shown)


def parts() -> dict[str, Callable[[], str]]:
    makers = {
        "made-of": made_of,
        "setting": setting,
        "published": published,
        "deviations": deviations,
        "measured": measured,
    }
    return {
        f"{what}-{model}": partial(make, model) for what, make in makers.items() for model in PAPERS
    }

"""The laws by theme; importing this package fills the catalogue, in the order of the report."""

from mmcontrast.testing.checks import (
    results,
    invariances,
    values,
    gradients,
    temperature,
    precision,
    labelled,
    triplet,
    multimodal,
    options,
    engineering,
)

__all__ = [
    "engineering",
    "gradients",
    "invariances",
    "labelled",
    "multimodal",
    "options",
    "precision",
    "results",
    "temperature",
    "triplet",
    "values",
]
